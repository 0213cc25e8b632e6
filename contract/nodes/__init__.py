"""What nodes are: their hardware and versions, the GPUs that pods ask for, and where an artifact may be restored."""
