# ruff: noqa: ARG002 - a fake takes what the seam gives
"""Events: sent aside, counted when repeated, never in the way."""

import asyncio
import re

import pytest

from kube.errors import AlreadyExistsError, ForbiddenError, NotFoundError
from kube.recorder import MAX_MESSAGE, MAX_NAME, MAX_WAITING, SUFFIX, Recorder
from tests.support.virtual_time import run

ABOUT = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns", "uid": "u"}}


class Events:
    """Remembers created events and counts."""

    def __init__(self):
        self.created = []
        self.patched = []
        self.error = None

    async def create(self, resource, body, namespace=None, *, dry_run=False):
        if self.error:
            error, self.error = self.error, None
            raise error
        self.created.append((namespace, body))
        return body

    async def patch(self, resource, name, body, namespace=None, **_):
        if self.error:
            error, self.error = self.error, None
            raise error
        self.patched.append((name, body["count"]))
        return body


def record(*says, kube=None, about=ABOUT, before_flush=None):
    async def scenario():
        events = kube or Events()
        recorder = Recorder(events, "tester", "tester-0")
        task = asyncio.create_task(recorder.run())
        for kind, reason, message in says:
            recorder.record(about, kind, reason, message)
            await recorder.flush()
            if before_flush:
                before_flush(events)
        task.cancel()
        await asyncio.wait([task])
        return events

    return run(scenario())


def test_an_event_names_its_object_and_its_source():
    ((namespace, event),) = record(("Normal", "Ready", "it is")).created

    assert "ns" == namespace
    assert {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "ns", "uid": "u"} == event["involvedObject"]
    assert ("Normal", "Ready", "it is", 1) == tuple(event[field] for field in ("type", "reason", "message", "count"))
    assert ("tester", "tester-0") == (event["reportingComponent"], event["reportingInstance"])


def test_a_repeated_sentence_is_counted():
    events = record(*[("Warning", "Stuck", "still")] * 3, ("Warning", "Stuck", "otherwise"))

    assert 2 == len(events.created)
    assert [2, 3] == [count for _, count in events.patched]


def test_an_event_that_expired_is_made_anew():
    events = Events()

    def expire(kube):
        kube.error = NotFoundError(404, "NotFound", "expired") if len(kube.created) == 1 else None

    record(("Normal", "A", "b"), ("Normal", "A", "b"), kube=events, before_flush=expire)

    assert 2 == len(events.created)


def test_a_refused_event_is_logged_and_forgotten(caplog):
    events = Events()
    events.error = ForbiddenError(403, "Forbidden", "no events for you")
    record(("Normal", "A", "b"), ("Normal", "C", "d"), kube=events)

    assert ["C"] == [event["reason"] for _, event in events.created]
    assert "no events for you" in caplog.text


def test_long_messages_and_names_fit():
    about = {**ABOUT, "metadata": {"name": "n" * 253, "namespace": "ns"}}
    ((_, event),) = record(("Normal", "A", "x" * 5000), about=about).created

    assert MAX_MESSAGE == len(event["message"])
    assert 253 >= len(event["metadata"]["name"])


def test_more_than_may_wait_is_dropped_aloud(caplog):
    async def scenario():
        recorder = Recorder(Events(), "tester")
        for number in range(MAX_WAITING + 1):
            recorder.record(ABOUT, "Normal", "A", str(number))

    run(scenario())

    assert "event dropped" in caplog.text


def test_what_is_said_once_has_one_name_whatever_process_says_it():
    async def say(events, instance):
        await Recorder(events, "tester", instance).say_once(ABOUT, "Normal", "Held", f"said by {instance}")

    async def scenario():
        events = Events()
        await say(events, "tester-0")
        await say(events, "tester-1")
        return [event["metadata"]["name"] for _, event in events.created]

    first, second = run(scenario())
    assert first == second
    assert first.startswith("p.")


@pytest.mark.parametrize("end", ["-", ".", "-.-"])
def test_a_long_name_is_cut_to_one_that_the_server_takes(end):
    """An object's name may be cut behind a dash or a dot, and neither may stand before the dot of the suffix."""
    name = ("a" * (MAX_NAME - SUFFIX - len(end)) + end).ljust(MAX_NAME, "b")

    async def scenario():
        events = Events()
        about = ABOUT | {"metadata": ABOUT["metadata"] | {"name": name}}
        await Recorder(events, "tester").say_once(about, "Normal", "Held", "here")
        return [event["metadata"]["name"] for _, event in events.created]

    (made,) = run(scenario())
    assert re.fullmatch(r"[a-z0-9]+(\.[a-z0-9]+)*", made)
    assert len(made) <= MAX_NAME


def test_an_event_that_was_said_before_is_as_good():
    async def scenario():
        events = Events()
        events.error = AlreadyExistsError(409, "AlreadyExists", "there")
        await Recorder(events, "tester").say_once(ABOUT, "Normal", "Held", "again")
        return events

    assert [] == run(scenario()).created
