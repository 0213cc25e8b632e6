"""A worker whose memory is filled while it runs already, on a real kubelet."""

from contract.api import keys
from contract.api.reports import MemoryRestore, read_report
from demo.kubectl import Kubectl, wait_for
from linux.proc import PROC
from tests.node.test_fallbacks import RESTORED
from tests.support.fixtures import node

NAME = "large"
LARGE = {"env": [{"name": "BLOCK_MIB", "value": "256"}]}


def page_servers() -> list[str]:
    names = (path.read_text().strip() for path in PROC.glob("[0-9]*/comm") if path.exists())
    return [name for name in names if name == "page-server"]


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
    node.described(installed, "pod", pods[0], MemoryRestore.WHILE_RUNNING.words)
    wait_for(lambda: not page_servers() or None, "the end of the page servers", node.READY_SECONDS)
    node.remove(installed, *(f"pod/{name}" for name in pods), f"dynamocheckpoint/{NAME}")
