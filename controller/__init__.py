"""The controller process: one leader runs four controllers.

``checkpoints`` turns a DynamoCheckpoint into its capture Job and status, ``workloads`` serves pods that opted in,
``graphs`` serves DynamoGraphDeployments, ``retention`` removes what is no longer needed. All share ``runtime``.
Each looks, plans by a pure function, acts, and writes the status once, so a crash at any point is healed by the next
pass.
"""
