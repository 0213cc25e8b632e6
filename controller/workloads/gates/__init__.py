"""Held pods: which of them are let go, when and why."""
