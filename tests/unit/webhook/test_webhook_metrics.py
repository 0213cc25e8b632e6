"""Connections and requests under way are counted when asked; nothing remains of them in the end."""

import asyncio
from http import HTTPStatus

import pytest
from prometheus_client import CollectorRegistry

from contract.api.states import Admission
from webhook.http_fast_path import DateHeader, FastPath, HeaderCache, Reply
from webhook.metrics import REFUSALS, Metrics

PATH = "/mutate"
POST = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


class Desk:
    path, body_limit, takes_plain = PATH, 100, True

    def reply(self, body):
        return Reply(HTTPStatus.OK, "application/json", body)


class Written:
    """A transport that remembers what was written."""

    def __init__(self):
        self.bytes = b""

    def write(self, data):
        self.bytes += data


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    return Metrics(registry)


def connected(metrics):
    lane = FastPath(Desk(), HeaderCache(PATH), asyncio.Protocol(), DateHeader(lambda: 0.0))
    metrics.lanes.add(lane)
    lane.connection_made(Written())
    return lane


def figures(registry):
    return tuple(registry.get_sample_value(f"snapshot_admission_{name}") for name in ("connections", "in_flight"))


def test_a_request_is_in_flight_from_its_first_byte_to_its_answer(registry, metrics):
    idle, busy = connected(metrics), connected(metrics)
    seen = [figures(registry)]
    busy.data_received(POST)
    seen.append(figures(registry))
    busy.data_received(b"body")
    seen.append(figures(registry))
    busy.connection_lost(None)
    seen.append(figures(registry))
    idle.connection_lost(None)

    assert [(2, 0), (2, 1), (2, 0), (1, 0), (0, 0)] == [*seen, figures(registry)]


def test_a_broken_off_request_is_not_in_flight_any_more(registry, metrics):
    lane = connected(metrics)
    lane.data_received(POST)
    lane.connection_lost(ConnectionResetError())

    assert (0, 0) == figures(registry)


def test_the_general_servers_requests_count_too(registry, metrics):
    metrics.general += 1

    assert (0, 1) == figures(registry)


@pytest.mark.usefixtures("metrics")
def test_every_code_and_every_refusal_is_a_series_from_the_start(registry):
    codes = {
        code: registry.get_sample_value("snapshot_admission_decisions_total", {"code": code}) for code in Admission
    }
    refusals = {
        why: registry.get_sample_value("snapshot_admission_refusals_total", {"reason": why}) for why in REFUSALS
    }

    assert ({0}, {0}) == (set(codes.values()), set(refusals.values()))
