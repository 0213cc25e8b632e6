"""How the agent comes by the driver: a RuntimeClass, a folder of the node, or neither."""

import pytest

ON = ("--set", "gpu.enabled=true")
ROOT = "/home/kubernetes/bin/nvidia"


@pytest.mark.parametrize(
    ("flags", "runtime_class", "root"),
    [
        pytest.param((), None, None, id="off"),
        pytest.param(ON, "nvidia", None, id="runtime-class"),
        pytest.param((*ON, "--set", "gpu.runtimeClassName=nvidia-cdi"), "nvidia-cdi", None, id="another-class"),
        pytest.param((*ON, "--set", "gpu.runtimeClassName="), None, None, id="default-runtime"),
        pytest.param((*ON, "--set", f"gpu.driverRoot={ROOT}"), None, ROOT, id="folder"),
        pytest.param(("--set", f"gpu.driverRoot={ROOT}"), None, None, id="folder-but-off"),
    ],
)
def test_the_driver_of_the_agent(helm, pick, flags, runtime_class, root):
    spec = pick(helm.render(*flags), "DaemonSet")["spec"]["template"]["spec"]
    container = spec["containers"][0]
    volumes = {volume["name"]: volume.get("hostPath", {}).get("path") for volume in spec["volumes"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert (runtime_class, root) == (spec.get("runtimeClassName"), volumes.get("driver"))
    assert ("driver" in mounts) == bool(root)
    assert not root or (mounts["driver"]["mountPath"], mounts["driver"]["readOnly"]) == ("/run/nvidia/driver", True)
    capabilities = {each["name"]: each.get("value") for each in container["env"]}.get("NVIDIA_DRIVER_CAPABILITIES")
    assert ("compute,utility" if ON[1] in flags else None) == capabilities
    assert ("nvidia.com/gpu.present" in spec["nodeSelector"]) == (ON[1] in flags)
