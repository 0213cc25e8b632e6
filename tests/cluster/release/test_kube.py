"""The kube room against a real API server."""

import asyncio
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from cluster.api import ControlPlane
from kube import client as client_module
from kube.api import PatchKind
from kube.client import connect
from kube.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConfigError,
    ConflictError,
    GoneError,
    InvalidError,
    NotFoundError,
    ServerUnavailableError,
    UnauthorizedError,
)
from kube.informer import Informer, synced
from kube.lease import Election
from kube.recorder import Recorder
from kube.resources import CONFIG_MAPS, EVENTS, JOBS, LEASES, NAMESPACES
from tests.support.gate import gate_to

LABEL = {"made-by": "test-kube"}


@pytest.fixture
async def namespace(kube):
    name = f"kube-{uuid4().hex[:8]}"
    await kube.create(NAMESPACES, {"metadata": {"name": name}})
    return name


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": dict(LABEL)}, "data": data}


async def until(condition, what, seconds=20.0):
    """Wait for the moment when *condition* holds; the loop turns between looks."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is another process's doing
            await asyncio.sleep(0.01)
    assert condition(), what


@asynccontextmanager
async def running(*coroutines):
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_an_object_is_made_read_changed_and_deleted(kube, namespace):
    made = await kube.create(CONFIG_MAPS, config_map("a", x="1"), namespace)
    merged = await kube.patch(CONFIG_MAPS, "a", {"data": {"y": "2"}}, namespace)
    operations = [{"op": "replace", "path": "/data/x", "value": "3"}]
    patched = await kube.patch(CONFIG_MAPS, "a", operations, namespace, kind=PatchKind.JSON)
    strategic = await kube.patch(CONFIG_MAPS, "a", {"data": {"z": "4"}}, namespace, kind=PatchKind.STRATEGIC)
    found = await kube.get(CONFIG_MAPS, "a", namespace)
    await kube.delete(CONFIG_MAPS, "a", namespace, uid=made["metadata"]["uid"])

    assert {"x": "1", "y": "2"} == merged["data"]
    assert "3" == patched["data"]["x"]
    assert {"x": "3", "y": "2", "z": "4"} == strategic["data"] == found["data"]
    with pytest.raises(NotFoundError):
        await kube.get(CONFIG_MAPS, "a", namespace)


async def test_applying_fields_of_another_manager_conflicts_unless_forced(kube, namespace):
    async def apply(manager, value, *, force=False):
        body = config_map("a", x=value)
        return await kube.patch(
            CONFIG_MAPS, "a", body, namespace, kind=PatchKind.APPLY, field_manager=manager, force=force
        )

    await apply("one", "1")
    with pytest.raises(ConflictError, match="one"):
        await apply("two", "2")

    assert "2" == (await apply("two", "2", force=True))["data"]["x"]


async def test_unknown_fields_survive_a_round_trip(kube, namespace):
    """The reason for raw dicts: typed models lose what they do not know."""
    body = config_map("a")
    body["metadata"]["annotations"] = {"future": "field"}
    body["immutable"] = False
    await kube.create(CONFIG_MAPS, body, namespace)

    found = await kube.get(CONFIG_MAPS, "a", namespace)
    assert (False, "field") == (found["immutable"], found["metadata"]["annotations"]["future"])


async def test_a_patch_with_an_old_version_conflicts(kube, namespace):
    made = await kube.create(CONFIG_MAPS, config_map("a"), namespace)
    await kube.patch(CONFIG_MAPS, "a", {"data": {"x": "1"}}, namespace)
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"x": "2"}}

    with pytest.raises(ConflictError):
        await kube.patch(CONFIG_MAPS, "a", stale, namespace)
    with pytest.raises(ConflictError):
        await kube.delete(CONFIG_MAPS, "a", namespace, uid="another")
    with pytest.raises(ConflictError):
        await kube.delete(CONFIG_MAPS, "a", namespace, resource_version=made["metadata"]["resourceVersion"])


async def test_a_dry_run_checks_and_stores_nothing(kube, namespace):
    await kube.create(CONFIG_MAPS, config_map("a"), namespace, dry_run=True)

    assert () == (await kube.list(CONFIG_MAPS, namespace, labels="made-by")).items


async def test_refusals_have_their_own_errors(kube, namespace):
    await kube.create(CONFIG_MAPS, config_map("a"), namespace)
    with pytest.raises(AlreadyExistsError):
        await kube.create(CONFIG_MAPS, config_map("a"), namespace)
    with pytest.raises(InvalidError, match=r"metadata\.name"):
        await kube.create(CONFIG_MAPS, config_map("A_B"), namespace)
    with pytest.raises(BadRequestError):
        await kube.create(CONFIG_MAPS, {"metadata": "text"}, namespace)
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": {"restartPolicy": "Always"}}}}
    with pytest.raises(InvalidError, match=r"spec\.template\.spec\.containers: Required value"):
        await kube.create(JOBS, job, namespace, dry_run=True)


async def test_a_list_comes_in_pages_with_kinds_filled_in(kube, namespace, monkeypatch):
    monkeypatch.setattr(client_module, "PAGE", 7)
    names = [f"c{number:02}" for number in range(20)]
    for name in names:
        await kube.create(CONFIG_MAPS, config_map(name), namespace)
    listing = await kube.list(CONFIG_MAPS, namespace, labels="made-by=test-kube")

    assert names == [item["metadata"]["name"] for item in listing.items]
    assert {("v1", "ConfigMap")} == {(item["apiVersion"], item["kind"]) for item in listing.items}
    one = await kube.list(CONFIG_MAPS, namespace, fields="metadata.name=c07")
    assert ["c07"] == [item["metadata"]["name"] for item in one.items]


async def test_a_watch_tells_and_ends_in_order(kube, namespace, monkeypatch):
    monkeypatch.setattr(client_module, "WATCH_SECONDS", 1)
    version = (await kube.list(CONFIG_MAPS, namespace, labels="made-by")).resource_version
    await kube.create(CONFIG_MAPS, config_map("a"), namespace)
    await kube.delete(CONFIG_MAPS, "a", namespace)

    stream = kube.watch(CONFIG_MAPS, namespace, resource_version=version, labels="made-by")
    assert ["ADDED", "DELETED"] == [event.type async for event in stream if event.type != "BOOKMARK"]


async def test_a_version_too_old_to_watch_from_is_gone(monkeypatch):
    """The server forgets history: here within seconds, and without a cache that would remember it."""
    monkeypatch.setattr(client_module, "WATCH_SECONDS", 1)
    with ControlPlane.start(apiserver_flags=["--etcd-compaction-interval=1s", "--watch-cache=false"]) as plane:
        async with await connect(str(plane.kubeconfig)) as kube:
            with pytest.raises(GoneError):
                await _watch_until_refused(kube, "1")
            copy = Informer(kube, CONFIG_MAPS, "default")
            async with running(copy.run()):
                await synced(copy)
                copy._version = "1"
                await kube.create(CONFIG_MAPS, config_map("a"), "default")
                await until(lambda: copy.store.get("default", "a"), "listed anew")


async def _watch_until_refused(kube, version):
    async with asyncio.timeout(60):
        while True:
            await kube.create(CONFIG_MAPS, {"metadata": {"generateName": "history-"}}, "default")
            async for _ in kube.watch(CONFIG_MAPS, "default", resource_version=version):
                pass


async def test_a_copy_follows_hundreds_of_changes(kube, namespace):
    copy = Informer(kube, CONFIG_MAPS, namespace, labels="made-by")
    async with running(copy.run()):
        await synced(copy)
        await asyncio.gather(*(kube.create(CONFIG_MAPS, config_map(f"c{n}"), namespace) for n in range(100)))
        await asyncio.gather(*(kube.patch(CONFIG_MAPS, f"c{n}", {"data": {"n": "1"}}, namespace) for n in range(100)))
        await asyncio.gather(*(kube.delete(CONFIG_MAPS, f"c{n}", namespace) for n in range(0, 100, 2)))
        await until(lambda: 50 == len(copy.store) and all("data" in item for item in copy.store), "the copy is right")

    listing = await kube.list(CONFIG_MAPS, namespace, labels="made-by")
    known = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in copy.store}
    assert {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in listing.items} == known


async def test_a_copy_survives_a_server_that_goes_away(control_plane, kube, namespace, tmp_path):
    async with gate_to(control_plane, tmp_path) as (gate, kubeconfig), await connect(kubeconfig) as through:
        copy = Informer(through, CONFIG_MAPS, namespace, labels="made-by")
        async with running(copy.run()):
            await synced(copy)
            await kube.create(CONFIG_MAPS, config_map("before"), namespace)
            await until(lambda: 1 == len(copy.store), "the first object")
            await gate.close()
            await kube.delete(CONFIG_MAPS, "before", namespace)
            await kube.create(CONFIG_MAPS, config_map("meanwhile"), namespace)
            with pytest.raises(ServerUnavailableError):
                await through.get(CONFIG_MAPS, "before", namespace)
            await gate.open()
            await until(lambda: copy.store.get(namespace, "meanwhile"), "what was made while it was away")

        assert copy.store.get(namespace, "before") is None


async def test_leadership_is_handed_over_within_three_seconds(kube, namespace):
    loop, led = asyncio.get_running_loop(), {}

    async def lead(name):
        led[name] = loop.time()
        await asyncio.Event().wait()

    def candidate(name):
        return Election(kube, namespace, "lease", name).run(lambda: lead(name))

    async with running(candidate("one")) as (one,):
        await until(lambda: "one" in led, "the first leads")
        async with running(candidate("two")):
            one.cancel()
            await asyncio.wait([one])
            stopped = loop.time()
            await until(lambda: "two" in led, "the second leads")
            lease = await kube.get(LEASES, "lease", namespace)

    assert led["two"] - stopped <= 3
    assert ("two", 1) == (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"])
    assert "" == (await kube.get(LEASES, "lease", namespace))["spec"].get("holderIdentity", "")


async def test_events_are_shown_and_counted(kube, namespace):
    about = await kube.create(CONFIG_MAPS, config_map("a"), namespace)
    recorder = Recorder(kube, "tester", "tester-0")
    async with running(recorder.run()):
        for _ in range(3):
            recorder.record(about, "Warning", "Stuck", "cannot go on")
        await recorder.flush()

    (event,) = (await kube.list(EVENTS, namespace, fields="involvedObject.name=a")).items
    assert ("Warning", "Stuck", "cannot go on", 3) == tuple(
        event[field] for field in ("type", "reason", "message", "count")
    )


async def test_wrong_credentials_are_unauthorized(control_plane, tmp_path):
    text = control_plane.kubeconfig.read_text().replace(control_plane.token, "wrong")
    (tmp_path / "config").write_text(text)
    async with await connect(str(tmp_path / "config")) as kube:
        with pytest.raises(UnauthorizedError):
            await kube.list(NAMESPACES)


async def test_renewed_credentials_are_read_again(control_plane, tmp_path):
    """A kubeconfig whose token was replaced goes on working without a restart."""
    path, text = tmp_path / "config", control_plane.kubeconfig.read_text()
    path.write_text(text.replace(control_plane.token, "expired"))
    async with await connect(str(path)) as kube:
        path.write_text(text)

        assert (await kube.list(NAMESPACES)).items


async def test_a_missing_kubeconfig_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        await connect(str(tmp_path / "nowhere"))


async def test_an_unknown_context_is_named(control_plane):
    with pytest.raises(ConfigError, match="no-such-context"):
        await connect(str(control_plane.kubeconfig), "no-such-context")
