"""The command line: explain, inspect and drive checkpoints."""
