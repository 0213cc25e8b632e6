"""The node agent: captures ready workers with CRIU and restores them in other containers, on its own node only.

Decisions are pure (``plan_capture``, ``plan_restore``); everything outside is behind a narrow seam: ``Criu``, ``Kube``.
Nothing of the agent enters a container's mount namespace but criu, and that only once it is loaded.
"""
