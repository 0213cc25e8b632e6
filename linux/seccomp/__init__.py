"""Programs of seccomp filters, compared."""
