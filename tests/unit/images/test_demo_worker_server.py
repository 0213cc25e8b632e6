"""The demo worker's HTTP face: not ready before its library is, the same answer every time, errors that help."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest


class Library:
    """An index of two texts, with vectors that show their input."""

    def __len__(self) -> int:
        return 2

    def embed(self, text: str) -> list[float]:
        return [float(len(text))]

    def search(self, query: str, k: int) -> list[dict[str, str | float]]:
        return [{"text": query, "score": 1.0}] * min(k, 2)

    def sha256(self) -> str:
        return "ab"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend("examples")
    from worker.server import Server  # noqa: PLC0415 - only on the path from here on

    with Server(0) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def ask(server: Any, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body), {"Connection": "close", **headers})
        with connection.getresponse() as response:
            return response.status, json.load(response)


@pytest.mark.parametrize(
    ("method", "path"), [pytest.param("GET", "/healthz", id="get"), pytest.param("POST", "/embed", id="post")]
)
def test_not_ready_before_it_has_its_library(server: Any, method: str, path: str) -> None:
    assert (503, {"error": "loading"}) == ask(server, method, path)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        pytest.param("GET", "/healthz", None, {"status": "ready"}, id="healthz"),
        pytest.param("POST", "/embed", {"text": "four"}, {"vector": [4.0]}, id="embed"),
        pytest.param(
            "POST", "/search", {"query": "q", "k": 1}, {"results": [{"text": "q", "score": 1.0}]}, id="search"
        ),
    ],
)
def test_answers(server: Any, method: str, path: str, body: object, expected: object) -> None:
    server.ready(Library())

    assert (200, expected) == ask(server, method, path, body)


def test_info_tells_who_answers(server: Any) -> None:
    server.ready(Library())

    first, second = ask(server, "GET", "/info")[1], ask(server, "GET", "/info")[1]

    assert server.token == first["token"] == second["token"]
    assert (2, "ab") == (first["index_size"], first["index_sha256"])


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        pytest.param("/embed", {}, "KeyError: 'text'", id="field-missing"),
        pytest.param("/embed", [], "TypeError", id="no-object"),
        pytest.param("/search", {"query": "q", "k": "many"}, "ValueError", id="k-no-number"),
        pytest.param("/other", {}, "POST /embed or /search", id="unknown-path"),
        pytest.param("/embed", None, "must be JSON", id="no-body"),
    ],
)
def test_bad_requests_say_what_is_wrong(server: Any, path: str, body: object, words: str) -> None:
    server.ready(Library())

    status, answer = ask(server, "POST", path, body)

    assert 400 == status
    assert words in answer["error"]


def test_a_body_too_large_is_refused_before_it_is_read(server: Any) -> None:
    server.ready(Library())

    status, answer = ask(server, "POST", "/embed", **{"Content-Length": "70000"})

    assert 400 == status
    assert "1 to 65536 bytes" in answer["error"]


def test_unknown_pages_name_the_known_ones(server: Any) -> None:
    server.ready(Library())

    assert (404, {"error": "GET /healthz or /info, POST /embed or /search"}) == ask(server, "GET", "/")
