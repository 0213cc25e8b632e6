"""What criu's images say of an IPC namespace."""
