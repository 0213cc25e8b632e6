"""Threads of other processes, halted by ptrace(2): held, looked at, and had to make calls."""
