"""A worker whose memory is filled while it runs already, on a real kubelet."""

from contract.api import keys
from contract.api.reports import MemoryRestore, ReportPhase, Step, read_report, with_fill
from demo.kubectl import Kubectl, wait_for
from linux.proc import PROC
from tests.node.test_fallbacks import RESTORED
from tests.support.fixtures import node

NAME = "large"
LARGE = {"env": [{"name": "BLOCK_MIB", "value": "256"}]}


def page_servers() -> list[str]:
    names = (path.read_text().strip() for path in PROC.glob("[0-9]*/comm") if path.exists())
    return [name for name in names if name == "page-server"]


def filled_beside(kubectl: Kubectl, pod: str) -> dict[ReportPhase, Step] | None:
    """Return the steps of a restore by name, once its fill is among them."""
    notes = kubectl.get("pod", pod)["metadata"]["annotations"]
    report = read_report(notes[keys.ANN_RESTORE_REPORT])
    steps = with_fill(report, notes.get(keys.ANN_RESTORE_FILL, "")).steps if report else ()
    found = {step.phase: step for step in steps}
    return found if ReportPhase.FILL in found else None


def test_its_memory_is_filled_while_it_runs(installed: Kubectl):
    node.create(installed, node.checkpoint(NAME, **LARGE))
    node.phase(installed, NAME, "Ready", "Failed")
    pods = [f"{NAME}-{number}" for number in range(3)]
    for name in pods:
        node.create(installed, node.pod(name, NAME, **LARGE))
    answers = [node.await_answer(installed, name) for name in pods]
    reports = [
        read_report(node.reported(installed, name)["metadata"]["annotations"][keys.ANN_RESTORE_REPORT]) for name in pods
    ]
    assert [MemoryRestore.WHILE_RUNNING] * 3 == [report and report.memory for report in reports]
    assert (1, {256 << 20}) == (len({each["token"] for each in answers}), {each["size"] for each in answers})
    assert node.first_line(installed, pods[0]).startswith(RESTORED)
    node.described(installed, "pod", pods[0], "filled while it runs")
    wait_for(lambda: not page_servers() or None, "the end of the page servers", node.READY_SECONDS)
    steps = wait_for(lambda: filled_beside(installed, pods[0]), "the fill on the time line", node.READY_SECONDS)
    assert steps[ReportPhase.CRIU].start < steps[ReportPhase.FILL].start < steps[ReportPhase.VERDICT].start
    node.remove(installed, *(f"pod/{name}" for name in pods), f"dynamocheckpoint/{NAME}")
