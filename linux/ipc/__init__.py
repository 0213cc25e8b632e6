"""Inter-process communication that belongs to no process but to an IPC namespace."""
