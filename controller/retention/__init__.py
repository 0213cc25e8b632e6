"""Which artifacts and checkpoints may be removed, and their removal."""
