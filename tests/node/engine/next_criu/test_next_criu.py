"""The core of the engine's tests with the next criu: what it does otherwise shows before the images have it."""

from tests.node.engine.memory.test_page_server import TestCapturedAgain, TestCopied
from tests.node.engine.state.test_given_files import pytestmark, test_they_are_the_same_in_another_container
from tests.node.engine.state.test_system_v import test_a_worker_has_its_objects_in_another_pod
from tests.node.engine.test_capture_restore import TestCaptureFails, TestRefused, TestRestored
from tests.node.engine.test_running_captures import (
    test_a_restored_worker_is_captured_in_turn,
    test_the_worker_goes_on_and_another_is_restored_from_it,
)

__all__ = [
    "TestCaptureFails",
    "TestCapturedAgain",
    "TestCopied",
    "TestRefused",
    "TestRestored",
    "pytestmark",
    "test_a_restored_worker_is_captured_in_turn",
    "test_a_worker_has_its_objects_in_another_pod",
    "test_the_worker_goes_on_and_another_is_restored_from_it",
    "test_they_are_the_same_in_another_container",
]


def test_it_is_another_one(node):
    """Without this a suite that comes to have the images' criu would have it tried twice, and nothing would say so."""
    assert [4, 3] <= [int(number) for number in node.environment.criu.version().split(".")]
