"""Artifacts: a directory of files named by a manifest, published whole or not at all, opened only by digest."""
