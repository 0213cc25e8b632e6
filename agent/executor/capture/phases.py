"""Captures one container: dump, files, seal, verify, proof, publish; each a phase that is undone if a later one fails.

The worker's end is part of it: criu ends the tree that it has dumped, and standby ends with it.
"""

from typing import Final

from agent.executor.capture.devices import (
    checkpoint_gpus,
    has_memory_outside,
    lock_gpus,
    may_be_in_weights,
    put_device_memory_back,
    refer_to_weights,
    restore_gpus,
    save_device_memory,
    unlock_gpus,
    uses_gpus,
)
from agent.executor.capture.dump import dump
from agent.executor.capture.look import ask_source, inspect_worker, needs_an_answer
from agent.executor.capture.sealing import (
    is_to_be_proved,
    prove_artifact,
    publish,
    report,
    save_files,
    seal,
    verify_sealed,
    withdraw,
)
from agent.executor.phases import Phase
from contract.api.reports import ReportPhase

CAPTURE: Final = (
    Phase(ReportPhase.INSPECT, inspect_worker),
    Phase(ReportPhase.CANARY, ask_source, is_needed=needs_an_answer),
    Phase(ReportPhase.GPU_LOCK, lock_gpus, undo=unlock_gpus, is_needed=uses_gpus),
    Phase(ReportPhase.GPU_SAVE, save_device_memory, undo=put_device_memory_back, is_needed=has_memory_outside),
    Phase(ReportPhase.GPU_CHECKPOINT, checkpoint_gpus, undo=restore_gpus, is_needed=uses_gpus),
    Phase(ReportPhase.DUMP, dump),
    Phase(ReportPhase.FILES, save_files),
    Phase(ReportPhase.WEIGHTS, refer_to_weights, is_needed=may_be_in_weights),
    Phase(ReportPhase.SEAL, seal),
    Phase(ReportPhase.VERIFY, verify_sealed),
    Phase(ReportPhase.PROOF, prove_artifact, is_needed=is_to_be_proved),
    Phase(ReportPhase.PUBLISH, publish, undo=withdraw),
    Phase(ReportPhase.VERDICT, report),
)
"""From a claimed container to a proved artifact. The staging directory ends with the context, whatever happens."""
