"""Sockets, addresses and routes of a network namespace, by the kernel's own interfaces."""
