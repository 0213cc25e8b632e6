"""Whether the agent's account may still do what its work needs: said once, in the log and on the agent's own pod.

Without rights the agent goes on as if nothing were to be done: a watch stays open, and then no pod is seen. Kubernetes
says no word of it, and the pod stays Ready.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Literal, NoReturn

from contract.api.rights import AGENT, ROLES, Right, in_words, is_allowed
from kube.api import KubeClient, Object
from kube.errors import KubeError
from kube.recorder import Recorder
from kube.resources import PODS, SELF_SUBJECT_ACCESS_REVIEWS

CHECK_SECONDS: Final = 300.0
"""Each look is a question for each right: with a thousand nodes fifty in a second, which the server answers itself."""
logger = logging.getLogger(__name__)


class Rights:
    """Asks the API server about the agent's own account.

    Args:
        kube: the API server.
        recorder: for Events on the agent's own pod.
        own_pod: its namespace and name.
        namespace: whose pods the agent serves; None: of all namespaces.
    """

    def __init__(self, kube: KubeClient, recorder: Recorder, own_pod: tuple[str, str], namespace: str | None) -> None:
        self._kube = kube
        self._recorder = recorder
        self._own_pod = own_pod
        self._namespace = namespace
        self._missing: tuple[Right, ...] = ()

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(CHECK_SECONDS)

    async def look(self) -> None:
        """Look once, and say what has changed."""
        try:
            missing = [right for right in AGENT if not await self._has(right)]
        except KubeError as error:  # nothing is known
            logger.debug("rights were not looked at: %s", error)
            return
        if (found := tuple(missing)) != self._missing:
            self._missing = found
            await self._say(found)

    async def _has(self, right: Right) -> bool:
        body: Object = {
            "apiVersion": SELF_SUBJECT_ACCESS_REVIEWS.api_version,
            "kind": SELF_SUBJECT_ACCESS_REVIEWS.kind,
            "spec": {"resourceAttributes": right.attributes(self._namespace)},
        }
        return is_allowed(await self._kube.create(SELF_SUBJECT_ACCESS_REVIEWS, body))

    async def _say(self, missing: Sequence[Right]) -> None:
        if missing:
            words = f"the agent's service account lacks rights that its work needs: {in_words(missing)}; {ROLES}"
            logger.error(words)
            await self._record("Warning", "RightsMissing", words)
        else:
            words = "the agent's service account has all its rights again"
            logger.info(words)
            await self._record("Normal", "RightsComplete", words)

    async def _record(self, kind: Literal["Normal", "Warning"], reason: str, words: str) -> None:
        namespace, name = self._own_pod
        try:
            own: Object = await self._kube.get(PODS, name, namespace)
        except KubeError as error:
            logger.debug("no Event about rights: %s", error)
            return
        self._recorder.record(own, kind, reason, words)
