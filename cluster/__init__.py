"""A real Kubernetes on one machine, for the demo and the tests.

Everything is built from package registries and kept in a cache.
A node lives in namespaces of its own: nothing of the host is changed, and ending a node's first process ends all of it.
"""
