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
