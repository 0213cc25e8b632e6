"""A machine that has the programs and no compiler."""

import platform

import pytest

from cluster.builder import build, cache, go, toolchain
from cluster.builder.cache import Cache
from cluster.progress import Silent

VERSION = "go1.26.6"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(go, "installed", lambda *_: None)
    return Cache(tmp_path)


def publish(home, component, version=VERSION):
    target = build._targets(home, [component], version)[component]
    return cache.publish(target, lambda folder: (folder / component.name).write_text("program"))


def test_a_whole_cache_needs_no_compiler(home):
    folder = publish(home, toolchain.ETCD)
    home.note_compiler(VERSION)
    assert VERSION == home.compiler()
    assert {"etcd": folder} == build.build(home, [toolchain.ETCD], Silent()).folders


@pytest.mark.parametrize(
    "noted", [pytest.param("", id="none-noted"), pytest.param("go1.26.7", id="built-by-another-compiler")]
)
def test_what_is_missing_needs_one(home, monkeypatch, noted):
    publish(home, toolchain.ETCD)
    home.note_compiler(noted)
    monkeypatch.setattr(go, "private", lambda *_: pytest.fail("asked for"))
    with pytest.raises(pytest.fail.Exception, match="asked for"):
        build.build(home, [toolchain.ETCD], Silent())


def test_the_key_is_that_of_the_machine(home):
    folder = build._targets(home, [toolchain.PAUSE], VERSION)[toolchain.PAUSE]
    files = build._sources(toolchain.PAUSE)
    assert folder.name.endswith(toolchain.key(toolchain.PAUSE, files, VERSION, platform.machine()))
