"""The agent's Kubernetes half: which pods of this node to capture or restore, and what to report about them."""
