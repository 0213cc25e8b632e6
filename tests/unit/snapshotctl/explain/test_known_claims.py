"""What the command line knows of volume claims: of a cluster, where it may look, or of a file."""

import asyncio
import json

import pytest
import yaml
from click.testing import CliRunner

from contract.api.volume_claims import ClaimState
from contract.config.values import load_values
from kube.errors import ForbiddenError, NotFoundError, ServerUnavailableError
from snapshotctl.__main__ import main
from snapshotctl.explain.explainer import Explainer, about_manifests
from snapshotctl.explain.release import Release
from snapshotctl.explain.volume_claims import KnownClaims
from tests.support.builders.objects import opted_in, ready, review

POD_MOUNT = "storage: {accessMode: podMount, pvc: {name: models}}"
FORBIDDEN = ForbiddenError(403, "Forbidden", "cannot get resource persistentvolumeclaims")
MISSING = NotFoundError(404, "NotFound", "models")


def claim(name="models", namespace="ns", phase="Bound"):
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "status": {"phase": phase}}


class Cluster:
    """Has one Ready checkpoint, and answers so about its claim."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    async def get(self, resource, name, namespace=None):  # noqa: ARG002 - a fake takes what the seam gives
        self.asked.append((resource.plural, name))
        await asyncio.sleep(0)
        if resource.plural == "dynamocheckpoints":
            return ready()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def answers(cluster, count=1):
    async def ask():
        oracle = Explainer(cluster, Release(load_values(POD_MOUNT)))
        return await about_manifests(oracle, [opted_in() for _ in range(count)], None, "ns")

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("code", "answer", "noted"),
    [
        pytest.param("restore-shaped", claim(), False, id="there"),
        pytest.param("volume-claim-unavailable", MISSING, False, id="missing"),
        pytest.param("volume-claim-unavailable", claim(phase="Lost"), False, id="lost"),
        pytest.param("restore-shaped", FORBIDDEN, True, id="forbidden"),
    ],
)
def test_a_cluster_is_asked(code, answer, noted):
    (found,) = answers(Cluster(answer))
    assert code == found.code
    assert noted == any("PersistentVolumeClaim ns/models may not be read" in note for note in found.notes)


def test_that_it_gives_no_answer_is_not_taken_for_one():
    with pytest.raises(ServerUnavailableError):
        answers(Cluster(ServerUnavailableError("down")))


def test_many_ask_and_the_cluster_is_asked_once():
    cluster = Cluster(MISSING)
    found = answers(cluster, count=15)
    assert {"volume-claim-unavailable"} == {each.code for each in found}
    assert 1 == cluster.asked.count(("persistentvolumeclaims", "models"))


def test_nothing_is_known_before_somebody_looked():
    assert ClaimState.UNKNOWN == KnownClaims(None, "models").of("ns")


FILES = [
    pytest.param("restore-shaped", [ready()], True, id="no-claim-in-the-file"),
    pytest.param("restore-shaped", [ready(), claim()], False, id="there"),
    pytest.param("volume-claim-unavailable", [ready(), claim("another")], False, id="of-another-name"),
    pytest.param("volume-claim-unavailable", [ready(), claim(namespace="else")], False, id="of-another-namespace"),
]


@pytest.fixture
def files(tmp_path):
    def write(**contents):
        paths = {name: tmp_path / f"{name}.yaml" for name in contents}
        for name, path in paths.items():
            path.write_text(contents[name])
        return [part for name, path in paths.items() for part in (f"--{name}", str(path))]

    return write


@pytest.mark.parametrize(("code", "objects", "noted"), FILES)
def test_why_goes_by_the_claims_of_the_file(files, code, objects, noted):
    options = files(objects=yaml.safe_dump_all(objects), values=POD_MOUNT, filename=json.dumps(opted_in()))
    result = CliRunner().invoke(main, ["why", *options, "-o", "json", "-n", "ns"])
    (found,) = json.loads(result.stdout)["answers"]
    assert code == found["code"]
    assert noted == any("the file holds no PersistentVolumeClaim" in note for note in found["notes"])


@pytest.mark.parametrize(("code", "objects", "noted"), FILES)
def test_admit_goes_by_the_claims_of_the_file(files, code, objects, noted):
    options = files(objects=yaml.safe_dump_all(objects), values=POD_MOUNT)
    result = CliRunner().invoke(main, ["admit", *options], input=json.dumps(review(opted_in())))
    assert code == json.loads(result.stdout)["response"]["auditAnnotations"]["admission"]
