"""The node agent: captures ready workers with CRIU and restores them in other containers, on its own node only.

Decisions are pure (``plan_capture``, ``plan_restore``); everything outside is behind a narrow seam: ``Criu``, ``Kube``.
What enters a container (``enter``, ``graft``) imports the standard library alone and is loaded before it enters.
"""
