"""The context over real TLS handshakes, in memory: no socket, no sleep."""

import logging
import os
import ssl
from datetime import UTC, datetime, timedelta

import pytest

from certs.mint import issue_leaf, mint_authority
from certs.serve import ServingContext

NOW = datetime.now(tz=UTC)
DAY = timedelta(days=1)
NAME = "snap-webhook.ns.svc"
CA = mint_authority("snap", NOW, 10 * DAY)


def a_leaf():
    return issue_leaf(CA, (NAME,), NOW, DAY)


def put(directory, leaf, *, version="1"):
    """As kubelet does: a new folder, and a link swapped in one rename."""
    folder = directory / f"..{version}"
    folder.mkdir()
    (folder / "tls.crt").write_text(leaf.certificate)
    (folder / "tls.key").write_text(leaf.key)
    (directory / "..tmp").symlink_to(folder.name)
    (directory / "..tmp").rename(directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


def handshake(serving, server_name=NAME, alpn=("h2", "http/1.1"), version=None):
    """Do a client's handshake; return the server's certificate (DER) and the chosen protocol."""
    trusting = ssl.create_default_context(cadata=CA.certificate)
    trusting.set_alpn_protocols(list(alpn))
    if server_name is None:
        trusting.check_hostname = False
    if version:
        trusting.maximum_version = version
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=server_name)
    server = serving.context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert waiting == []
    return ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True)), client.selected_alpn_protocol()


@pytest.mark.parametrize(
    "version",
    [pytest.param(None, id="tls-1.3"), pytest.param(ssl.TLSVersion.TLSv1_2, id="tls-1.2")],
)
@pytest.mark.parametrize("server_name", [pytest.param(NAME, id="sni"), pytest.param(None, id="no-sni")])
def test_serves_the_mounted_certificate_over_http_1(tmp_path, version, server_name):
    leaf = a_leaf()
    put(tmp_path, leaf)
    serving = ServingContext(tmp_path)

    assert not serving.loaded
    assert serving.refresh()
    assert serving.loaded
    assert (leaf.certificate.strip(), "http/1.1") == (
        (answer := handshake(serving, server_name, version=version))[0].strip(),
        answer[1],
    )


def test_swaps_without_a_restart(tmp_path):
    serving = ServingContext(tmp_path)
    put(tmp_path, a_leaf())
    serving.refresh()
    before = serving.context
    newer = a_leaf()
    put(tmp_path, newer, version="2")

    assert serving.refresh()
    assert not serving.refresh()
    assert before is serving.context
    assert newer.certificate.strip() == handshake(serving)[0].strip()


def test_without_a_certificate_it_is_not_ready_and_refuses(tmp_path):
    serving = ServingContext(tmp_path)

    assert not serving.refresh()
    assert not serving.loaded
    with pytest.raises(ssl.SSLError):
        handshake(serving)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda d: (d / "tls.key").write_text(a_leaf().key), id="new-key-old-certificate"),
        pytest.param(lambda d: (d / "tls.crt").write_text(a_leaf().certificate[:200]), id="half-a-certificate"),
        pytest.param(lambda d: (d / "tls.crt").write_text(""), id="emptied"),
        pytest.param(lambda d: (d / "tls.key").unlink(), id="removed"),
    ],
)
def test_a_half_written_pair_is_ignored(tmp_path, spoil, caplog):
    leaf = a_leaf()
    (tmp_path / "tls.crt").write_text(leaf.certificate)
    (tmp_path / "tls.key").write_text(leaf.key)
    serving = ServingContext(tmp_path)
    serving.refresh()
    spoil(tmp_path)

    with caplog.at_level(logging.WARNING):
        assert not serving.refresh()
        assert not serving.refresh()
    assert 1 == len(caplog.records)
    assert "serving with the last good one" in caplog.text
    assert leaf.certificate.strip() == handshake(serving)[0].strip()


def test_a_pair_that_changes_while_it_is_read_waits_for_the_next_look(tmp_path, monkeypatch):
    put(tmp_path, a_leaf())
    serving = ServingContext(tmp_path)
    load = serving._load

    def load_slowly():
        context = load()
        os.utime(tmp_path / "tls.key", (1, 1))
        return context

    monkeypatch.setattr(serving, "_load", load_slowly)
    assert not serving.refresh()
    monkeypatch.undo()
    assert serving.refresh()
