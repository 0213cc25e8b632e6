"""Kubernetes as this project needs it: six calls over plain dicts, and what is built on them.

The official client's models drop fields that they do not know, its asyncio leader election is unusable and it has no
asyncio informer, so this room takes from it only how to reach and log in to a cluster. Everything above the six
calls (informer, queue, lease, events) uses the ``KubeClient`` protocol, never HTTP.
"""
