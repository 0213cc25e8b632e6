"""The agent's other half: captures and restores one container. Knows containers, and no Kubernetes API.

``api`` is the only module that the Kubernetes half imports.
"""
