"""What a worker is asked, from inside its container: its own probe, its owner's canary, a command of either."""
