"""The only room that talks to the Kubernetes API server: raw dicts in, raw dicts out."""
