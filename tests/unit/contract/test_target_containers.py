"""Which containers of a pod are restored when it names none, in order; and a hint that can be copied."""

import pytest

from contract.api import keys
from contract.api.checkpoint import TargetError, other_container, parse_targets, target_containers


def pod(*names, gpus=(), **annotations):
    limits = {name: {"limits": {"nvidia.com/gpu": "1"}} for name in gpus}
    containers = [{"name": name, "resources": limits.get(name, {})} for name in names]
    return {"metadata": {"annotations": annotations}, "spec": {"containers": containers}}


MARK = keys.ANN_DEFAULT_CONTAINER


@pytest.mark.parametrize(
    ("expected", "of"),
    [
        pytest.param(("b", "a"), pod("a", "b", "main", **{keys.ANN_TARGET_CONTAINERS: "b,a"}), id="named"),
        pytest.param(
            ("b", "a"), pod("a", "b", **{keys.ANN_TARGET_CONTAINERS: "main=b, main = a"}), id="what-they-continue"
        ),
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


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        pytest.param((("", "a"), ("", "b")), "a, b", id="names"),
        pytest.param((("main", "engine-0"), ("main", "engine-1")), "main=engine-0,main=engine-1", id="one-into-two"),
        pytest.param((("", "a"), ("main", "b")), "a,main=b", id="both"),
    ],
)
def test_what_is_continued_where(expected, text):
    assert expected == parse_targets(text)


@pytest.mark.parametrize("text", ["", "a,", "=a", "main=", "main=a,,main=b", " = "])
def test_what_is_no_list_of_targets(text):
    with pytest.raises(TargetError, match="or of CAPTURED=NAME"):
        parse_targets(text)


@pytest.mark.parametrize(
    ("expected", "captured", "target"),
    [
        pytest.param(True, "", "main", id="not-said"),
        pytest.param(True, "main", "", id="the-usual-one"),
        pytest.param(True, "engine", "engine", id="the-captured-one"),
        pytest.param(False, "main", "engine", id="another"),
    ],
)
def test_only_what_was_captured_is_continued(expected, captured, target):
    job = {"targetContainerName": target} if target else {}
    words = other_container(captured, {"metadata": {"name": "qwen"}, "spec": {"job": job}})

    assert expected == (words is None)
    assert "DynamoCheckpoint qwen is of container 'engine'" in (
        words or "DynamoCheckpoint qwen is of container 'engine'"
    )
