"""Builds what the cluster runs from package registries, each part at most once."""
