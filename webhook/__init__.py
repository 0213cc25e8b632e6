"""Mutating admission: which new pods are restored from a checkpoint, and how they are rewritten."""
