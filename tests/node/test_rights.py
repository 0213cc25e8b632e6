"""Least rights: what the audit log of a whole story saw each service account do, compared with what it may do."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import api
from cluster.builder.cache import Cache
from contract.api import keys
from demo import story
from demo.install import CHART, RELEASE, Helm, complaints, image_settings
from demo.kubectl import CommandError, Kubectl, wait_for
from demo.platform import Platform, equip
from tests.support.fixtures import node
from tests.support.rights import Log, Right, granted, read_log, unused

Json = dict[str, Any]

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMESPACE = "snapshot-rights"
SETTINGS = {"graphDeployments.enabled": "true", "retention.automaticPerWorkload": "1"}
"""Values under which the release does all that it can."""
LATE = "example.com/late"
QUEUED_SECONDS = 62.0
"""The controller gives a minute in the scheduler's queue back to a capture, and nothing less."""
UNSEEN = {
    # Asked by an admission plugin (OwnerReferencesPermissionEnforcement) of who makes an object with such an owner.
    ("snapshot-controller", "dynamocheckpoints.nvidia.com/finalizers", "update"),
    ("snapshot-controller", "dynamographdeployments.nvidia.com/finalizers", "update"),
    # Asked of a server-side apply that makes its object; the log calls it a patch.
    ("snapshot-controller", "deployments.apps", "create"),
    # After a lost race for a name that holds the graph's uid.
    ("snapshot-controller", "dynamocheckpoints.nvidia.com", "get"),
}
"""Rights whose use no request shows; the cluster tests take them away one by one and see what fails."""


@pytest.fixture(scope="module")
def audited(with_images: Cache) -> Iterator[Platform]:
    """A cluster of this module's own, whose API server writes down every request."""
    cluster = api.up(f"rights-{os.getpid()}", options=api.Options(audit=True), progress=api.for_terminal())
    try:
        yield equip(cluster, with_images, api.for_terminal())
    finally:
        cluster.down()


@dataclass
class Release:
    """The chart in one namespace, and what its accounts did there."""

    platform: Platform
    namespace: str
    settings: dict[str, str]
    denied: list[str] = field(default_factory=list)

    @property
    def helm(self) -> Helm:
        return Helm(self.platform.helm, self.platform.kubeconfig, self.namespace)

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.platform.kubectl, self.platform.kubeconfig, self.namespace)

    def install(self) -> None:
        try:
            self.helm.install(self.settings)
        except CommandError as error:
            pytest.fail(f"{error}\n{complaints(self.kubectl)}")
        story.await_webhook(self.kubectl)

    def uninstall(self) -> None:
        """Whoever is still at work when its rights are taken away is refused: that is no fault."""
        self.denied = self.log().denied
        self.helm.uninstall()

    def log(self) -> Log:
        assert self.platform.embedded is not None
        with self.platform.embedded.logs("audit").open(encoding="utf-8") as lines:
            return read_log(lines, self.namespace)

    def unused(self) -> list[Right]:
        """What its accounts may do, hooks too, and did not."""
        flags = [flag for key, value in self.settings.items() for flag in ("--set", f"{key}={value}")]
        text = self.helm("template", RELEASE, str(CHART), *flags)
        rights = granted(found for found in yaml.safe_load_all(text) if found)
        return sorted(
            right for right in unused(rights, self.log()) if (right.account, right.resource, right.verb) not in UNSEEN
        )


@pytest.fixture(scope="module")
def releases(audited: Platform) -> tuple[Release, Release]:
    """Two releases from install to uninstall, with all that they do in between, the rare things forced."""
    images = image_settings(audited.image_tag, audited.image_prefix) | node.PATIENT
    whole = Release(audited, NAMESPACE, images | SETTINGS)
    claims = Release(audited, f"{NAMESPACE}-claims", images | {"storage.accessMode": "podMount"})
    whole.install()
    tell(whole.kubectl, lambda: captures_into_a_claim(claims))
    for release in (whole, claims):
        release.uninstall()
    return whole, claims


def tell(kubectl: Kubectl, meanwhile: Callable[[], None]) -> None:
    """The whole story; *meanwhile* is done while it waits."""
    begun = time.monotonic()
    waits_for_a_node(kubectl)
    may_have_no_pod(kubectl)
    claims_devices(kubectl)
    captured_and_restored(kubectl)
    automatic(kubectl)
    graph(kubectl)
    loses_its_job(kubectl)
    is_refused_twice(kubectl)
    superseded(kubectl)
    loses_a_service_twice(kubectl)
    meanwhile()
    the_node_comes(kubectl, begun)
    kubectl("delete", "dynamographdeployment", "graph", "--timeout=60s")


def captures_into_a_claim(release: Release) -> None:
    """podMount: the controller makes the claim."""
    release.install()
    node.create(release.kubectl, node.checkpoint("claimed"))
    assert "Ready" == node.phase(release.kubectl, "claimed", "Ready", "Failed")["status"]["phase"]


def waits_for_a_node(kubectl: Kubectl) -> None:
    """A capture that no node is free for, and a pod that is held for it."""
    late = node.checkpoint("late")
    late["spec"]["job"]["podTemplateSpec"]["spec"]["nodeSelector"] = {LATE: "yes"}
    node.create(kubectl, late)
    notes = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
    node.create(kubectl, node.pod("held", "late", annotations=notes))


def may_have_no_pod(kubectl: Kubectl) -> None:
    """A capture whose Job can make no pod: the reason stands in its Events. A pod waits for it until we are gone."""
    ghost = node.checkpoint("ghost")
    ghost["spec"]["job"]["podTemplateSpec"]["spec"]["serviceAccountName"] = "ghost"
    node.create(kubectl, ghost)
    notes = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
    node.create(kubectl, node.pod("held-to-the-end", "ghost", annotations=notes))


def claims_devices(kubectl: Kubectl) -> None:
    """A capture whose container claims devices by a template that is not there."""
    body = node.checkpoint("devices", resources={"claims": [{"name": "gpus"}]})
    claims = [{"name": "gpus", "resourceClaimTemplateName": "none-of-that-name"}]
    body["spec"]["job"]["podTemplateSpec"]["spec"]["resourceClaims"] = claims
    node.create(kubectl, body)
    wait_for(
        lambda: "ClaimTemplateMissing" in json.dumps(kubectl.get("dynamocheckpoint", "devices")) or None,
        "the reason",
        60,
    )


def captured_and_restored(kubectl: Kubectl) -> None:
    """And looked at, which the agent reports without the pod's status."""
    node.create(kubectl, node.checkpoint("kept"))
    assert "Ready" == node.phase(kubectl, "kept", "Ready", "Failed")["status"]["phase"]
    node.create(kubectl, node.pod("restored", "kept", readinessProbe=node.probe()))
    node.await_answer(kubectl, "restored")
    kubectl("annotate", "pod", "restored", f"{keys.ANN_PREFLIGHT}=main")
    node.reported(kubectl, "restored", keys.ANN_PREFLIGHT_REPORT)


def template(app: str, **annotations: str) -> Json:
    """A pod template of the small worker that asks for an automatic checkpoint."""
    labels = {"app": app, keys.LABEL_RESTORE: keys.RESTORE_AUTO}
    env = [{"name": "APP", "value": app}]
    spec = {
        "containers": [node.container(readinessProbe=node.probe(), env=env)],
        "terminationGracePeriodSeconds": 1,
    }
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def automatic(kubectl: Kubectl) -> None:
    """Workloads of both kinds whose template a checkpoint is made of."""
    for kind, more in (("Deployment", {}), ("StatefulSet", {"serviceName": "none"})):
        app = kind.lower()
        body = template(app, **{keys.ANN_IDENTITY: keys.IDENTITY_REFRESHED})
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": app}}, "template": body, **more}
        kubectl.apply({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": app}, "spec": spec})


def of_workload(kubectl: Kubectl, workload: str) -> list[Json]:
    found = kubectl.items("dynamocheckpoints")
    return [each for each in found if workload == each["metadata"].get("annotations", {}).get(keys.ANN_WORKLOAD)]


def all_ready(kubectl: Kubectl, workload: str, count: int) -> None:
    def look() -> bool | None:
        phases = [each.get("status", {}).get("phase") for each in of_workload(kubectl, workload)]
        return phases == ["Ready"] * count or None

    wait_for(look, f"{count} Ready checkpoints of {workload}", node.CAPTURE_SECONDS)


def graph(kubectl: Kubectl) -> None:
    body: Json = yaml.safe_load((EXAMPLES / "graphs" / "my-llm.yaml").read_text())
    body["metadata"]["name"] = "graph"
    (service,) = body["spec"]["services"].values()
    service["extraPodSpec"]["mainContainer"] = node.container()
    kubectl.apply(body)


def loses_its_job(kubectl: Kubectl) -> None:
    """The controller asks the API server itself before it believes that."""
    node.create(kubectl, node.checkpoint("vanished", command=["sleep", "1000"]))
    job = node.phase(kubectl, "vanished", "Creating")["status"]["jobName"]
    kubectl("delete", "job", job)
    node.phase(kubectl, "vanished", "Failed")


def is_refused_twice(kubectl: Kubectl) -> None:
    """A container that starts again finds the same artifact missing: the Event is counted, not made anew."""
    found = node.phase(kubectl, "kept", "Ready")["status"]["checkpointID"]
    story.delete_artifact(kubectl, kubectl.namespace, found, keys.DEFAULT_BASE_PATH)
    node.create(kubectl, node.pod("cold", "kept", command=["sleep", "1"]))

    def counted() -> bool | None:
        events = kubectl.items("events", "--field-selector=reason=RestoreFailed,involvedObject.name=cold")
        return any(event.get("count", 1) > 1 for event in events) or None

    wait_for(counted, "a counted Event", 60)


def superseded(kubectl: Kubectl) -> None:
    """A new template makes a new checkpoint; the old one, which nobody uses any more, goes."""
    all_ready(kubectl, "StatefulSet/statefulset", 1)
    all_ready(kubectl, "Deployment/deployment", 1)
    (old,) = of_workload(kubectl, "Deployment/deployment")
    kubectl("rollout", "restart", "deployment/deployment")

    def replaced() -> bool | None:
        found = of_workload(kubectl, "Deployment/deployment")
        return (len(found) == 1 and found[0]["metadata"]["name"] != old["metadata"]["name"]) or None

    wait_for(replaced, "the old checkpoint goes", node.CAPTURE_SECONDS)


def loses_a_service_twice(kubectl: Kubectl) -> None:
    """Its Deployment goes, and the second time the same sentence is counted."""
    side: Json = {
        "replicas": 0,
        "componentType": "frontend",
        "extraPodSpec": {"mainContainer": node.container()},
    }
    for wish, there in ((side, 1), (None, 0), (side, 1), (None, 0)):
        change = json.dumps({"spec": {"services": {"Side": wish}}})
        kubectl("patch", "dynamographdeployment", "graph", "--type=merge", "-p", change)

        def look(count: int = there) -> bool | None:
            names = [each["metadata"]["name"] for each in kubectl.items("deployments")]
            return sum(name.endswith("-side") for name in names) == count or None

        wait_for(look, f"{there} Deployments of the service", 60)


def the_node_comes(kubectl: Kubectl, begun: float) -> None:
    """The minute that the capture waited is given back to it; then the held pod is let go."""
    wait_for(lambda: time.monotonic() > begun + QUEUED_SECONDS or None, "a minute in the queue", QUEUED_SECONDS + 5)
    kubectl("label", "node", "--all", f"{LATE}=yes")
    assert "Ready" == node.phase(kubectl, "late", "Ready", "Failed")["status"]["phase"]
    node.await_answer(kubectl, "held")


def test_nothing_was_refused(releases: tuple[Release, Release]):
    """Neither by roles nor by the policies that hold the agent: it would have failed."""
    assert [[], []] == [release.denied for release in releases]


def test_every_right_was_used(releases: tuple[Release, Release]):
    assert [] == releases[0].unused()


def test_the_rights_to_claims_were_used(releases: tuple[Release, Release]):
    """Only a release that makes claims has them."""
    assert [] == [right for right in releases[1].unused() if right.resource.startswith("persistentvolumeclaims")]
