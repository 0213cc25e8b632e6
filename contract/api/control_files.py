"""Files of the control directory: how worker, snapshot-standby and agent talk inside one container.

Each target container has its own directory (an emptyDir mounted with ``subPath`` = container name).
``docs/standby-protocol.md`` describes the whole protocol in order; standby implements it in C and the SDK in Python,
and tests pin all three to the words here.
"""

from typing import Final

# Upstream files: content ``done`` and a newline, written to a hidden temporary name and renamed.
READY_FOR_SNAPSHOT: Final = "ready-for-snapshot"
SNAPSHOT_COMPLETE: Final = "snapshot-complete"
RESTORE_COMPLETE: Final = "restore-complete"
RESTORE_CONTEXT: Final = "restore-context.json"
DONE: Final = "done\n"
COLD_START: Final = "cold-start\n"
"""Content of ``restore-complete`` if the container started cold: the startup gate opens all the same."""

# Files of ours.
IMAGE_ENTRYPOINT: Final = "image-entrypoint"
IMAGE_CMD: Final = "image-cmd"
"""What the image would run, each argument ended by a NUL: written by the agent for a capture in a stock image."""
CLAIM: Final = "standby-claim"
"""Made by standby at its start with its nonce as content; the holder of flock(LOCK_EX) on it owns the container."""
VERDICT: Final = "standby-verdict"
"""The agent's word on a restore or a capture, renamed into place; one line, fields separated by a space."""
DIRTY: Final = "standby-dirty"
"""Present while the root file system differs from the image's because of a restore in progress."""
PAGES: Final = "standby-pages"
"""Standby's socket for a page server: it holds what the server holds until all of the worker's memory is restored."""
PAGES_LOST: Final = "standby-pages-lost"
"""Left by a standby whose page server ended too early, for the restores that follow in its pod: they copy first."""
FROZEN: Final = "standby-frozen"
"""Present while an agent has stopped the worker that it captures and that goes on; names those stopped before."""
DEVICES: Final = "standby-devices"
"""Present from before an agent takes the devices of a worker that goes on until it has given them back."""
DEVICES_LOST: Final = "lost\n"
"""Its content if no other agent could give them back: only a fresh start of the container helps."""
PARKED: Final = "standby-parked"
"""Present while a restored worker is stopped until it is woken: standby's nonce, the worker's pid, and the digest
of the manifest that it was restored from."""
COMMANDS: Final = "standby-commands"
"""Standby's socket at which the agent has a command run in the container, with the container's own rights."""
STARTED: Final = "standby-started"
"""Made by standby at its start, and never written again: what the container's root file system had changed by then is
the runtime's doing and its hooks', which do the same in each container."""
MOUNTS: Final = "standby-mounts"
"""Made by standby at its start: number and device of each mount, ``23:0:45``, one a line."""
GAVE_UP: Final = "standby-gave-up"
"""Made by a standby that has waited long enough; it takes it away if it finds a verdict afterwards, and obeys that."""
STALE_AT_START: Final = (
    READY_FOR_SNAPSHOT,
    SNAPSHOT_COMPLETE,
    RESTORE_COMPLETE,
    RESTORE_CONTEXT,
    VERDICT,
    CLAIM,
    DIRTY,
    IMAGE_ENTRYPOINT,
    IMAGE_CMD,
    PAGES,
    FROZEN,
    DEVICES,
    PARKED,
    COMMANDS,
    STARTED,
    MOUNTS,
    GAVE_UP,
)
"""What standby removes before anything else: a restarted container still sees the emptyDir of its predecessor."""

VERDICT_RESTORED: Final = "restored"
VERDICT_FAILED: Final = "failed"
VERDICT_CAPTURED: Final = "captured"
MAX_STOPPED: Final = 400
"""Processes that a verdict can name as stopped: standby reads 4096 bytes, and the kernel's pids have seven digits."""

# Times, seconds.
CLAIM_WINDOW: Final = 5.0
"""How long standby waits for an agent to claim the container."""
IMAGE_WINDOW: Final = 60.0
"""How long standby waits for an agent to write what a stock image runs."""
LOST_CLAIM_WINDOW: Final = 10.0
"""How long standby waits for another claim after the claiming agent died without a verdict."""
DEVICES_WINDOW: Final = 30.0
"""How long standby waits for another agent to give a worker its devices back: kubelet starts one within seconds."""

# Exit codes of standby itself.
EXIT_RESTART_ME: Final = 75
"""The container cannot start cold in place (foreign process or changed files): kubelet must restart it."""
EXIT_REQUIRED: Final = 78
"""Policy Require and no restore, or nothing that could be started: refuses."""

LOG_WAITING: Final = "SNAPSHOT_WAITING: this container waits for `snapshotctl restore --pod`"
"""First line of a placeholder's container; one of the next two follows in time."""
LOG_PARKED: Final = "SNAPSHOT_PARKED: checkpoint {id} is restored and stopped; it waits for `snapshotctl wake`"
"""First line of a parked worker's container; one of the next two follows once it is woken."""
LOG_RESTORED: Final = "SNAPSHOT_RESTORED: container restored from checkpoint {id}"
LOG_COLD_START: Final = "SNAPSHOT_COLD_START: Falling back to cold start: {reason}"

FIRST_WORKER_PID: Final = 1000
"""Standby raises the pid counter to this before it starts a worker that will be captured: pids below are left to
exec probes, so they are free when the worker is restored."""
