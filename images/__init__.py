"""Container images built without a Docker engine."""
