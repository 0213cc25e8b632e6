"""R6, at a tenth of the stated size: what our operations say is what the API server makes of them.

Each random pod is created twice, as a dry run: as it is, so that the API server asks the webhook and applies its
patch; and patched here, by the same decision and another implementation of JSON patch, past the webhook.  The first is
decided about with the API server's defaults filled in, the second without.
"""

import asyncio
import json
from collections import Counter
from random import Random
from uuid import uuid4

import aiohttp
import jsonpatch
import pytest

from contract.api import keys
from contract.config.values import load_values
from kube.login import login
from tests.cluster.admission.test_admission import make_namespace, registered, started
from tests.support.builders.objects import ID, IMAGE, checkpoint, opted_in, request
from tests.support.builders.pods import random_pod
from webhook.decide import decide

PODS = 1000
AT_ONCE = 8
DIRECT = "direct"
VALUES = """
storage: {accessMode: podMount}
startupPolicy: WaitForCheckpoint
placeholder: {mode: inject, inject: {pullSecrets: [{name: tools}]}}
"""
PAST_THE_WEBHOOK = {
    "name": "asked-as-anyone-else",
    "expression": f"!has(request.options.fieldManager) || request.options.fieldManager != '{DIRECT}'",
}
STATUS = {
    "phase": "Ready",
    "checkpointID": ID,
    "jobName": f"checkpoint-job-{ID}-1",
    "image": {"reference": IMAGE, "entrypoint": ["/entry"], "cmd": ["serve"]},
}


@pytest.fixture(scope="module")
def api(control_plane, tmp_path_factory):
    namespace = f"truth-{uuid4().hex[:8]}"
    make_namespace(control_plane, namespace)
    with (
        started(control_plane, namespace, tmp_path_factory.mktemp("webhook"), VALUES) as webhook,
        registered(control_plane, namespace, webhook, PAST_THE_WEBHOOK) as found,
    ):
        yield found


def stored(api):
    """A checkpoint that the random pods name, as the webhook sees it."""
    obj = checkpoint("qwen")
    obj["metadata"] = {"name": "qwen"}
    api.create(obj)
    api.set_status("qwen", STATUS)
    api.admitted(opted_in(), "restore-shaped")
    return json.loads(api.run("get", "dckpt", "qwen", "-o", "json").stdout)


def comparable(pod):
    """Without what the API server makes up for each pod."""
    made_up = ("name", "uid", "creationTimestamp", "managedFields")
    metadata = {key: value for key, value in pod["metadata"].items() if key not in made_up}
    # Of the pod as the webhook was shown it, which has the API server's defaults by then.
    notes = {key: value for key, value in metadata["annotations"].items() if key != keys.ANN_REPLACED}
    return metadata | {"annotations": notes}, pod["spec"]


class Pods:
    """Dry runs of pods."""

    def __init__(self, session, namespace):
        self._session, self._path = session, f"/api/v1/namespaces/{namespace}/pods"

    async def create(self, pod, **options):
        async with self._session.post(self._path, json=pod, params={"dryRun": "All", **options}) as answer:
            result = await answer.json()
        assert 201 == answer.status, result["message"]
        return result


async def compare(pods, seeds, namespace, lookup, values, found):
    for seed in seeds:
        pod = random_pod(Random(seed))
        pod["metadata"]["namespace"] = namespace
        decision = decide(request(pod, namespace=namespace), lookup, values)
        told = await pods.create(pod)
        patched = jsonpatch.JsonPatch(list(decision.operations)).apply(pod)
        assert comparable(await pods.create(patched, fieldManager=DIRECT)) == comparable(told), seed
        found[decision.code] += 1


def test_the_api_server_makes_of_our_operations_what_they_say(control_plane, api):
    source = stored(api)
    values = load_values(VALUES)
    found = Counter()

    async def everything():
        access = await login(str(control_plane.kubeconfig))
        connector = aiohttp.TCPConnector(ssl=access.ssl_context())
        headers = await access.headers()
        async with aiohttp.ClientSession(access.server, connector=connector, headers=headers) as session:
            pods, seeds = Pods(session, api.namespace), iter(range(PODS))
            lookup = {"qwen": source}.get
            await asyncio.gather(
                *(
                    compare(pods, seeds, api.namespace, lambda _, name: lookup(name), values, found)
                    for _ in range(AT_ONCE)
                )
            )

    asyncio.run(everything())
    assert PODS == sum(found.values())
    assert {"restore-shaped", "held", "no-ready-signal", "pod-unsupported", "checkpoint-requested"} <= found.keys()
