"""Where agents run, and how a runtime brings them the driver."""

import json

import pytest

from contract.config.gpus import Gpu
from contract.config.values import load_values

ON = ("--set", "gpu.enabled=true")


@pytest.mark.parametrize(
    ("flags", "runtime_class"),
    [
        pytest.param((), None, id="off"),
        pytest.param(ON, "nvidia", id="runtime-class"),
        pytest.param((*ON, "--set", "gpu.runtimeClassName=nvidia-cdi"), "nvidia-cdi", id="another-class"),
        pytest.param((*ON, "--set", "gpu.runtimeClassName="), None, id="default-runtime"),
    ],
)
def test_the_driver_of_the_agent(helm, pick, flags, runtime_class):
    spec = pick(helm.render(*flags), "DaemonSet")["spec"]["template"]["spec"]
    assert runtime_class == spec.get("runtimeClassName")
    environment = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
    assert ("compute,utility" if flags else None) == environment.get("NVIDIA_DRIVER_CAPABILITIES")
    assert ("nvidia.com/gpu.present" in spec["nodeSelector"]) == bool(flags)


ENTRY = {"versions": "570.*", "reason": "it hangs", "report": "NVIDIA/open-gpu-kernel-modules#1234"}


def denied(helm, pick, *flags):
    """What the agent reads of the list."""
    text = pick(helm.render(*flags), "ConfigMap", "snapshot-config")["data"]["config.yaml"]
    return load_values(text).gpu.denied_drivers


def test_the_agent_gets_the_drivers_that_are_denied(helm, pick):
    assert Gpu().denied_drivers == denied(helm, pick)
    assert [] == denied(helm, pick, "--set-json", "gpu.deniedDrivers=[]")
    (found,) = denied(helm, pick, "--set-json", f"gpu.deniedDrivers={json.dumps([ENTRY])}")
    assert ENTRY == found.model_dump()


OTHER = (*ON, "--set", "gpu.otherNodes=true")
WITHOUT_GPUS = {"key": "nvidia.com/gpu.present", "operator": "NotIn", "values": ["true"]}
PAUSED = [
    {
        "key": f"nvidia.com/gpu.deploy.{part}",
        "operator": "NotIn",
        "values": ["paused-for-driver-upgrade", "paused-for-mig-change"],
    }
    for part in ("client", "device-plugin")
]
APART = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}


def daemon_sets(objects):
    return {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "DaemonSet"}


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        pytest.param((), ["snapshot-agent"], id="everywhere"),
        pytest.param(("--set", "gpu.otherNodes=true"), ["snapshot-agent"], id="everywhere-anyway"),
        pytest.param(ON, ["snapshot-agent"], id="gpu-nodes-alone"),
        pytest.param(OTHER, ["snapshot-agent", "snapshot-agent-cpu"], id="both"),
    ],
)
def test_on_which_nodes_agents_run(helm, flags, names):
    assert names == list(daemon_sets(helm.render(*flags)))


def nodes_of(spec):
    """Take which nodes a pod needs out of its affinity."""
    (term,) = spec["affinity"].pop("nodeAffinity")["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    return term["matchExpressions"]


@pytest.mark.parametrize(
    "flags",
    [pytest.param((), id="agents-everywhere"), pytest.param(ON, id="runtime-class"), pytest.param(OTHER, id="both")],
)
def test_agents_leave_a_node_whose_driver_is_about_to_be_unloaded(helm, flags):
    """They have it open, so the GPU Operator could not unload it."""
    spec = daemon_sets(helm.render(*flags))["snapshot-agent"]["template"]["spec"]
    assert PAUSED == nodes_of(spec)


@pytest.mark.parametrize("own", [pytest.param({}, id="plain"), pytest.param(APART, id="beside-the-owners-own")])
def test_agents_of_other_nodes(helm, own):
    found = daemon_sets(helm.render(*OTHER, "--set-json", f"daemonset.affinity={json.dumps(own)}"))
    gpu, other = (found[name]["template"]["spec"] for name in ("snapshot-agent", "snapshot-agent-cpu"))
    assert (PAUSED, own) == (nodes_of(gpu), gpu["affinity"])
    assert ([WITHOUT_GPUS], own) == (nodes_of(other), other["affinity"])
    assert "runtimeClassName" not in other
    assert "nvidia.com/gpu.present" not in other["nodeSelector"]
    assert gpu["serviceAccountName"] == other["serviceAccountName"]


def test_each_kind_of_agent_is_its_own_daemon_sets(helm):
    """No pod of the second is one that the first made; both are agents to all that looks for agents."""
    found = daemon_sets(helm.render(*OTHER))
    mine = [found[name]["selector"]["matchLabels"] for name in found]
    assert {"nvidia.com/snapshot-nodes": "cpu"}.items() == mine[1].items() - mine[0].items()
    for name, labels in zip(found, mine, strict=True):
        assert labels.items() <= found[name]["template"]["metadata"]["labels"].items()
