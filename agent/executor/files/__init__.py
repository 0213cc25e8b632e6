"""Files of a worker: saved at a capture, put back at a restore, and taken back if that fails."""
