"""Where agents run, and how a runtime brings them the driver."""

import pytest

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
