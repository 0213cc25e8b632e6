"""Which containers of a pod are restored when it names none, in order; and a hint that can be copied."""

import pytest

from contract.api import keys
from contract.api.checkpoint import TargetError, target_containers


def pod(*names, gpus=(), **annotations):
    limits = {name: {"limits": {"nvidia.com/gpu": "1"}} for name in gpus}
    containers = [{"name": name, "resources": limits.get(name, {})} for name in names]
    return {"metadata": {"annotations": annotations}, "spec": {"containers": containers}}


MARK = keys.ANN_DEFAULT_CONTAINER


@pytest.mark.parametrize(
    ("expected", "of"),
    [
        pytest.param(("b", "a"), pod("a", "b", "main", **{keys.ANN_TARGET_CONTAINERS: "b,a"}), id="named"),
        pytest.param(("main",), pod("a", "main", gpus=["a"], **{MARK: "a"}), id="main-before-marks"),
        pytest.param(("a",), pod("a"), id="only-one"),
        pytest.param(("b",), pod("a", "b", gpus=["a"], **{MARK: "b"}), id="default-container-before-gpu"),
        pytest.param(("b",), pod("a", "b", gpus=["b"]), id="only-gpu"),
        pytest.param(("b",), pod("a", "b", gpus=["b"], **{MARK: "gone"}), id="mark-of-none"),
    ],
)
def test_target(expected, of):
    assert expected == target_containers(of)


@pytest.mark.parametrize(
    ("value", "of"),
    [
        pytest.param("a", pod("a", "b"), id="no-sign"),
        pytest.param("b", pod("a", "b", "c", gpus=["b", "c"]), id="several-gpus"),
    ],
)
def test_the_hint_can_be_copied(value, of):
    with pytest.raises(TargetError, match=f"{keys.ANN_TARGET_CONTAINERS}={value} "):
        target_containers(of)
