"""A restore that is cut in two: what comes before a worker is parked, and what when it is woken."""

from agent.executor.parked.park import park_phases
from agent.executor.parked.wake import wake_phases
from agent.executor.restore.devices import restore_gpus
from agent.executor.restore.phases import RESTORE
from agent.executor.restore.verdict import ask_canary, hand_over
from agent.executor.restore.verification import await_memory
from contract.api.reports import ReportPhase


def names(phases) -> list[str]:
    return [phase.name.value for phase in phases]


def test_no_device_is_touched_and_nothing_runs_before_it_is_parked():
    expected = ["open", "verify", "inspect", "files", "ipc", "enter", "look", "pages", "verified", "park"]

    assert expected == names(park_phases(RESTORE))


def test_no_worker_runs_before_all_of_its_memory_is_verified():
    expected = [restore_gpus, await_memory, ask_canary, hand_over]

    assert expected == [phase.run for phase in RESTORE[-4:]]


def test_a_wake_copies_nothing_again():
    expected = ["wake", "open", "verify", "inspect", "gpu-prefetch", "look", "gpu-restore", "canary", "verdict"]

    assert expected == names(wake_phases(RESTORE))


def test_a_wake_that_fails_undoes_the_whole_restore():
    undone: list[str] = []
    restore = [_noting(phase, undone) for phase in RESTORE]
    wake = next(phase for phase in wake_phases(restore) if phase.name == ReportPhase.WAKE)

    assert wake.undo(None)
    assert names(reversed(RESTORE)) == undone


def _noting(phase, undone):
    def undo(_: object) -> bool:
        undone.append(phase.name.value)
        return True

    return type(phase)(phase.name, phase.run, undo, phase.is_needed)
