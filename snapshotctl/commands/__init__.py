"""The commands: their arguments and options; what they do is loaded when they run."""
