"""CUDA processes: found, locked, checkpointed and restored from outside, by the driver's own API.

``helper`` is a process that holds the driver open; ``cuda`` is what the executor sees of it. On a node without a driver
no helper is started twice and nothing fails: there are no CUDA processes then.
"""
