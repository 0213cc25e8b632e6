"""A capture: ``plan`` decides, ``phases`` does, in order; ``running`` has the phases of a worker that goes on."""
