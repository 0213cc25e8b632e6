"""Pods that are parked for a checkpoint with ``spec.parked``: which of them are woken, and when."""
