"""What the agents' reports say about a checkpoint: whether it is worth restoring."""
