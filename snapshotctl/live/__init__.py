"""The connection to a cluster: one login, errors in plain words, waiting for an answer."""
