"""Restores an artifact into one locked container, phase by phase; what a failed restore did is undone in reverse.

The container is then as its image says, or the failure says that it is not: standby starts the worker cold, or has
kubelet restart the container.
"""

from typing import Final

from agent.executor.ipc.restore import has_objects, make_objects, remove_objects
from agent.executor.phases import Phase
from agent.executor.restore.devices import (
    end_prefetch,
    free_gpus,
    has_device_state,
    is_read_ahead,
    restore_gpus,
    start_prefetch,
)
from agent.executor.restore.files import put_files_back, take_files_back
from agent.executor.restore.inspection import inspect_container, open_artifact
from agent.executor.restore.tree import await_pages, complete_tree, end_tree, is_filled_by_us, run_criu
from agent.executor.restore.verdict import ask_canary, forget_canary, hand_over, has_canary
from agent.executor.restore.verification import await_memory, verify_artifact
from contract.api.reports import ReportPhase

RESTORE: Final = (
    Phase(ReportPhase.OPEN, open_artifact),
    Phase(ReportPhase.VERIFY, verify_artifact),
    Phase(ReportPhase.INSPECT, inspect_container),
    Phase(ReportPhase.GPU_PREFETCH, start_prefetch, undo=end_prefetch, is_needed=is_read_ahead),
    Phase(ReportPhase.FILES, put_files_back, undo=take_files_back),
    Phase(ReportPhase.IPC, make_objects, undo=remove_objects, is_needed=has_objects),
    Phase(ReportPhase.ENTER, run_criu, undo=end_tree),
    Phase(ReportPhase.LOOK, complete_tree),
    Phase(ReportPhase.PAGES, await_pages, is_needed=is_filled_by_us),
    Phase(ReportPhase.GPU_RESTORE, restore_gpus, undo=free_gpus, is_needed=has_device_state),
    Phase(ReportPhase.VERIFIED, await_memory),
    Phase(ReportPhase.CANARY, ask_canary, undo=forget_canary, is_needed=has_canary),
    Phase(ReportPhase.VERDICT, hand_over),
)
"""From a waiting container to a restored one. The verdict is the last step: nothing can fail after it."""
