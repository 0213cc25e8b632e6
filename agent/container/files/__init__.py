"""The files of a container: what its image and its volumes hold, what was changed, and which are a model's."""
