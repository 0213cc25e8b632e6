"""CRIU: its command lines, the helper that starts it inside a container, and what its output means."""
