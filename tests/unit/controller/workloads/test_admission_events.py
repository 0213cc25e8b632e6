"""Each admission code has its Event."""

import re

import pytest

from contract.api.states import Admission
from controller.workloads.admission_events import QUIET, admission_event
from kube.recorder import MAX_MESSAGE
from tests.support.builders.opted_in import NAME, pod


@pytest.mark.parametrize("code", list(Admission))
def test_every_code_is_told(code):
    said = admission_event(pod(code.value))

    assert re.fullmatch("([A-Z][a-z]*)+", said.reason)
    assert code.value == re.sub("(?<!^)([A-Z])", r"-\1", said.reason).lower()
    assert NAME in said.message
    assert len(said.message) <= MAX_MESSAGE
    assert ("Normal" if code in QUIET else "Warning") == said.type


@pytest.mark.parametrize("code", [pytest.param("", id="none"), pytest.param("made-up", id="of nobody's list")])
def test_other_words_are_not_repeated(code):
    assert admission_event(pod(code)) is None
