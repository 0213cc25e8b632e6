"""Phases run in order; when one fails, it and those before it are undone in reverse, whatever another undo does."""

import time
from dataclasses import replace

import pytest

from agent.executor.capture.phases import CAPTURE
from agent.executor.phases import Phase, always, run_phases, undo_phases
from agent.executor.restore.phases import RESTORE
from agent.executor.timings import Timings
from contract.api.reports import ReportPhase, Step

LISTS = [pytest.param(CAPTURE, id="capture"), pytest.param(RESTORE, id="restore")]
EACH = [
    pytest.param(phases, number, id=f"{name}-{phase.name}")
    for name, phases in (("capture", CAPTURE), ("restore", RESTORE))
    for number, phase in enumerate(phases)
]


def recorded(phases, log, failing=-1, stuck=()):
    """Return the same phases with their acts replaced: each writes its name down, and one of them fails."""

    def run(number, phase):
        log.append(("run", phase.name))
        if number == failing:
            raise RuntimeError(phase.name)

    def undo(phase):
        log.append(("undo", phase.name))
        return phase.name not in stuck

    return [
        replace(phase, run=lambda _, n=n, p=phase: run(n, p), undo=lambda _, p=phase: undo(p), is_needed=always)
        for n, phase in enumerate(phases)
    ]


@pytest.mark.parametrize("phases", LISTS)
def test_all_run_in_order(phases):
    log = []
    timings = Timings()
    assert run_phases(recorded(phases, log), None, timings) is None
    assert [("run", phase.name) for phase in phases] == log
    assert [phase.name for phase in phases] == list(timings.seconds())[: len(phases)]


@pytest.mark.parametrize(("phases", "failing"), EACH)
def test_a_failure_undoes_what_was_begun(phases, failing):
    log = []
    failure = run_phases(recorded(phases, log, failing), None, Timings())
    begun = [phase.name for phase in phases[: failing + 1]]
    assert [*(("run", name) for name in begun), *(("undo", name) for name in reversed(begun))] == log
    assert (begun[-1], True, begun[-1]) == (failure.phase, failure.clean, str(failure.error))


@pytest.mark.parametrize(("phases", "stuck"), EACH)
def test_what_could_not_be_undone_is_said(phases, stuck):
    log = []
    failure = run_phases(recorded(phases, log, len(phases) - 1, {phases[stuck].name}), None, Timings())
    assert not failure.clean
    assert len(phases) == sum(what == "undo" for what, _ in log)


def test_a_phase_that_is_not_needed_is_in_no_report():
    log, timings = [], Timings()
    phases = [
        Phase(ReportPhase.GPU_LOCK, lambda _: log.append("lock"), is_needed=lambda _: False),
        Phase(ReportPhase.DUMP, lambda _: log.append("dump")),
    ]
    assert run_phases(phases, None, timings) is None
    assert ["dump"] == log
    assert ReportPhase.GPU_LOCK not in timings.seconds()


def test_an_undo_that_raises_does_not_keep_others_from_theirs(caplog):
    log = []

    def broken(_):
        raise OSError("disk")

    phases = [
        Phase(ReportPhase.FILES, lambda _: None, undo=lambda _: log.append("files") or True),
        Phase(ReportPhase.ENTER, lambda _: None, undo=broken),
    ]
    assert not undo_phases(phases, None)
    assert ["files"] == log
    assert "cannot undo phase enter" in caplog.text


@pytest.mark.parametrize("phases", LISTS)
def test_names_are_those_of_reports_and_each_is_used_once(phases):
    names = [phase.name for phase in phases]
    assert set(names) <= set(ReportPhase)
    assert len(names) == len(set(names))


def test_steps_within_a_phase_are_told_apart():
    timings = Timings()
    inner = [Step(ReportPhase.FILES, 7.0, 0.0), Step(ReportPhase.CRIU, 7.0, 0.0)]
    phase = Phase(ReportPhase.ENTER, lambda _: inner)
    run_phases([phase], None, timings)
    assert {"criu", "files", "enter", "other", "total"} == timings.seconds().keys()


def test_the_time_line_has_each_step_where_it_ran():
    timings = Timings(since=time.monotonic() - 5)
    timings.passed(ReportPhase.QUEUE)
    with timings.phase(ReportPhase.ENTER) as inner:
        inner.append(Step(ReportPhase.CRIU, time.monotonic() + 1, 2.0))
    queue, enter, criu = timings.steps()
    assert [ReportPhase.QUEUE, ReportPhase.ENTER, ReportPhase.CRIU] == [queue.phase, enter.phase, criu.phase]
    assert 0 == queue.start
    assert 5 <= queue.seconds <= enter.start
    assert criu.start >= enter.start + 1


def test_what_goes_on_beside_the_phases_is_on_the_time_line_and_in_no_sum():
    timings = Timings(since=100.0)
    timings.beside(Step(ReportPhase.FILL, 103.0, 50.0))

    assert (Step(ReportPhase.FILL, 3.0, 50.0),) == timings.steps()
    assert {"other", "total"} == timings.seconds().keys()
