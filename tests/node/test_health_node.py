"""What doctor says of a release that works, and of one whose webhook is scaled away."""

import json
from typing import Any

from demo.kubectl import Kubectl, wait_for
from tests.support.fixtures import node


def test_a_release_that_works_is_well(installed: Kubectl, run: Any):
    def well() -> Any:  # the agent of a release that was just installed may still be starting
        result = run("doctor", "-o", "json")
        return result if result.exit_code == 0 else None

    told = json.loads(wait_for(well, "the release to be well", node.READY_SECONDS).stdout)
    names = [each["name"] for each in told["checks"]]
    assert ["definition", "controller", "webhook", "admission", "agents", "rights", "storage", "checkpoints"] == names
    assert {"ok", "warning"} >= {each["state"] for each in told["checks"]}
    assert "1 of 1 ready" in next(each["found"] for each in told["checks"] if each["name"] == "agents")


def test_what_is_down_is_named_with_what_to_do(installed: Kubectl, run: Any):
    (name,) = [
        each["metadata"]["name"] for each in installed.items("deployments", "-l", "app.kubernetes.io/component=webhook")
    ]
    replicas = installed.get("deployment", name)["spec"]["replicas"]
    installed("scale", "deployment", name, "--replicas=0")
    try:
        result = run("doctor")
        assert 1 == result.exit_code
        assert f"webhook: kubectl describe deployment {name} -n {installed.namespace}" in result.stdout
    finally:
        installed("scale", "deployment", name, f"--replicas={replicas}")
        installed("rollout", "status", f"deployment/{name}", "--timeout=120s")
