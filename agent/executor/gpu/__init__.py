"""What captures and restores do with GPUs: the decision, and the phases of either."""
