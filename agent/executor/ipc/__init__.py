"""System V objects of a worker: noted by a capture, and made again by a restore."""
