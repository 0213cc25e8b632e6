"""An agent whose account lost rights: it says so itself, and doctor does, on an API server that judges by the roles."""

import json
from uuid import uuid4

import pytest

from agent.pods.rights import Rights
from kube.client import connect
from snapshotctl.explain.health import Verdict, checks, observe
from snapshotctl.explain.release import find_release
from tests.support.builders.agent import Said
from tests.support.fixtures.installed import RELEASE, Installed, new_namespace
from tests.support.waiting import eventually


@pytest.fixture
def release(control_plane, tmp_path):
    found = Installed(
        control_plane, new_namespace(control_plane, f"rights-{uuid4().hex[:6]}"), tmp_path, webhook_here=False
    )
    yield found
    found.end()
    found.uninstall()


async def doctors_word(kube, namespace):
    found = checks(await observe(kube, await find_release(kube, namespace), namespace))
    (check,) = [each for each in found if each.name == "rights"]
    return check


async def agents_word(rights, said, reason):
    """Look until the agent has said *reason*: the authorizer follows the roles a moment later."""

    async def said_it():
        await rights.look()
        return [each for each in said.events if each[2] == reason]

    return (await eventually(said_it, reason))[0][3]


async def test_what_is_missing_is_named_and_its_return_is_seen(release, kube, tmp_path):
    where = ("-n", release.namespace)
    token = release.kubectl("create", "token", f"{RELEASE}-agent", *where).strip()
    own = tmp_path / "agent"
    own.write_text(release.plane.kubeconfig.read_text().replace(release.plane.token, token))
    pod = {"metadata": {"name": "agent-0"}, "spec": {"containers": [{"name": "agent", "image": "none"}]}}
    release.kubectl("create", *where, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Pod"} | pod))
    role = release.kubectl.json("get", "role", f"{RELEASE}-agent", *where)
    cut = role["rules"][1:]  # the first is that of pods, and without get there is no Event
    said = Said()
    async with await connect(str(own)) as agents_kube:
        rights = Rights(agents_kube, said, (release.namespace, "agent-0"), release.namespace)
        await rights.look()
        assert (Verdict.OK, []) == ((await doctors_word(kube, release.namespace)).verdict, said.events)

        change = [{"op": "replace", "path": "/rules", "value": [role["rules"][0] | {"verbs": ["get", "watch"]}, *cut]}]
        release.kubectl("patch", "role", f"{RELEASE}-agent", *where, "--type=json", "-p", json.dumps(change))
        words = await agents_word(rights, said, "RightsMissing")
        check = await doctors_word(kube, release.namespace)
        assert "lacks rights that its work needs: list, patch pods; helm upgrade" in words
        assert (Verdict.FAILING, True) == (check.verdict, "may not: list, patch pods;" in check.words)

        change = [{"op": "replace", "path": "/rules", "value": role["rules"]}]
        release.kubectl("patch", "role", f"{RELEASE}-agent", *where, "--type=json", "-p", json.dumps(change))
        await agents_word(rights, said, "RightsComplete")
        assert Verdict.OK == (await doctors_word(kube, release.namespace)).verdict


async def test_an_account_that_may_not_ask_is_answered_so(release, tmp_path):
    where = ("-n", release.namespace)
    release.kubectl("create", "serviceaccount", "reader", *where)
    view = ("--clusterrole=view", f"--serviceaccount={release.namespace}:reader")
    release.kubectl("create", "rolebinding", "reader", *view, *where)
    token = release.kubectl("create", "token", "reader", *where).strip()
    own = tmp_path / "reader"
    own.write_text(release.plane.kubeconfig.read_text().replace(release.plane.token, token))
    async with await connect(str(own)) as kube:
        check = await doctors_word(kube, release.namespace)
    assert (Verdict.UNKNOWN, "you may not ask") == (check.verdict, check.words[:15])
