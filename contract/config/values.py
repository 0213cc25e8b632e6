"""The chart's values as one strict model: all settings of an installation, with every default.

The model is the truth; ``charts/snapshot/values.yaml`` and its JSON schema follow it.
All processes read the same shape from one file, so a value means the same to chart, webhook, controller and agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from contract.api.states import StartupPolicy
from contract.config import gpus, operations
from contract.config import sections as block
from contract.config.errors import describe
from contract.config.images import in_registry
from contract.config.yaml import load_yaml

_SECONDS: Final = {"h": 3600, "m": 60, "s": 1}


class ValuesError(ValueError):
    """The values cannot be used; ``problems`` holds one line each: ``path: what is wrong and what to do``."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("values are not usable:\n" + "\n".join(f"  {line}" for line in self.problems))


class Values(block.Section):
    """All values of ``charts/snapshot``."""

    name_override: str = ""
    fullname_override: str = ""
    global_: block.Global = Field(default=block.Global(), alias="global")
    runtime: block.Runtime = block.Runtime()
    openshift: block.OpenShift = block.OpenShift()
    gpu: gpus.Gpu = gpus.Gpu()
    capture: gpus.Capture = gpus.Capture()
    storage: block.StorageValues = block.StorageValues()
    daemonset: block.DaemonSet = block.DaemonSet()
    control_plane: block.ControlPlane = block.ControlPlane()
    seccomp: block.SeccompDeploy = block.SeccompDeploy()
    service_account: block.ServiceAccount = block.ServiceAccount()
    rbac: block.Rbac = block.Rbac()
    config: block.AgentConfig = block.AgentConfig()
    checkpoint: block.CheckpointValues = block.CheckpointValues()
    webhook: block.WebhookValues = block.WebhookValues()
    startup_policy: StartupPolicy = Field(default=StartupPolicy.IMMEDIATE, strict=False)
    wait_timeout: block.Duration = "30m"
    placeholder: block.Placeholder = block.Placeholder()
    admission: block.AdmissionValues = block.AdmissionValues()
    graph_deployments: block.GraphDeployments = block.GraphDeployments()
    retention: operations.Retention = operations.Retention()
    automatic: operations.Automatic = operations.Automatic()
    failing_restores: operations.FailingRestores = operations.FailingRestores()
    policy: operations.Policy = operations.Policy()
    monitoring: operations.Monitoring = operations.Monitoring()
    network_policy: operations.NetworkPolicy = operations.NetworkPolicy()
    coexist: Literal["", "agentOnly"] = Field(
        default="", description="agentOnly: only the agent, beside another controller of DynamoCheckpoints."
    )
    dynamo_operator: block.DynamoOperator = Field(default=block.DynamoOperator(), alias="dynamo-operator")

    @model_validator(mode="after")
    def _map_operator_block(self) -> Self:
        said = self.dynamo_operator.checkpoint
        pvc = said.storage.pvc.over(self.storage.pvc)
        enabled = self.checkpoint.enabled if said.enabled is None else said.enabled
        # A frozen model may still settle its own fields before anyone sees it.
        self.__dict__["storage"] = self.storage.model_copy(update={"pvc": pvc})
        self.__dict__["checkpoint"] = self.checkpoint.model_copy(update={"enabled": enabled})
        return self

    @property
    def wait_timeout_seconds(self) -> int:
        """``waitTimeout`` in seconds."""
        return duration_seconds(self.wait_timeout)

    @property
    def cleanup_image(self) -> str:
        """The image that removes artifacts."""
        return self._served(self.checkpoint.cleanup_image or self.control_plane.image.reference)

    @property
    def agent_image(self) -> str:
        """The image of the agent, and of the Job that verifies an artifact."""
        return self._served(self.daemonset.image.reference)

    @property
    def tools_image(self) -> str:
        """The image that tools are brought from."""
        image = self.placeholder.inject.image
        return self._served(image.reference) if image.repository else self.agent_image

    @property
    def tools_pull_secrets(self) -> list[block.PullSecret]:
        """Secrets of the workers' namespaces that pull it; the release's own are there if it serves no other."""
        inject = self.placeholder.inject
        local = self.rbac.namespace_restricted
        own = self.daemonset.image_pull_secrets if local and not inject.image.repository else []
        return _each_once([*(self.global_.image_pull_secrets if local else []), *(inject.pull_secrets or own)])

    @property
    def agent_pull_secrets(self) -> list[block.PullSecret]:
        """Secrets of the release's namespace that pull the agent's image."""
        return _each_once([*self.global_.image_pull_secrets, *self.daemonset.image_pull_secrets])

    @property
    def control_plane_pull_secrets(self) -> list[block.PullSecret]:
        """Secrets of the release's namespace that pull the image of webhook and controller."""
        return _each_once([*self.global_.image_pull_secrets, *self.control_plane.image_pull_secrets])

    def _served(self, image: str) -> str:
        return in_registry(image, self.global_.image_registry)


def _each_once(secrets: list[block.PullSecret]) -> list[block.PullSecret]:
    return list({secret.name: secret for secret in secrets}.values())


def duration_seconds(text: str) -> int:
    """Return a duration of the values (``1h30m``) in seconds."""
    return sum(int(n) * _SECONDS[unit] for n, unit in re.findall(r"([0-9]+)([hms])", text))


def load_values(text: str) -> Values:
    """Read values from YAML (or JSON); what is missing has the chart's default.

    Raises:
        ValuesError: with every problem at once, each with the path of its field and what to do.
    """
    try:
        raw = load_yaml(text)
    except yaml.YAMLError as error:
        raise ValuesError([f"(document): not YAML: {' '.join(str(error).split())}"]) from error
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        raise ValuesError([f"(document): must be a mapping of values, found {type(raw).__name__}"])
    return values_from(raw)


def values_from(raw: Mapping[str, Any]) -> Values:
    """Read the same from parsed values; null means the default, as it does for Helm.

    Raises:
        ValuesError: as ``load_values``.
    """
    try:
        return Values.model_validate(_without_nulls(raw))
    except ValidationError as error:
        raise ValuesError(describe(error, Values)) from error


def values_schema() -> dict[str, Any]:
    """JSON schema of the values, for Helm: unknown keys are refused, everything has a default."""
    schema = Values.model_json_schema(by_alias=True)
    return {"$schema": "http://json-schema.org/draft-07/schema#", **_helm_ready(schema)}


def _helm_ready(node: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """Without titles and repeated defaults, with draft 7's word for definitions, which every Helm release reads."""
    if isinstance(node, list):
        return [_helm_ready(item) for item in node]
    if not isinstance(node, dict):
        return node.replace("#/$defs/", "#/definitions/") if isinstance(node, str) else node
    renamed = {"definitions" if key == "$defs" else key: value for key, value in node.items()}
    return {
        key: _helm_ready(value) for key, value in renamed.items() if not (key == "title" and isinstance(value, str))
    }


def _without_nulls(raw: Any) -> Any:  # noqa: ANN401 - any YAML value
    if isinstance(raw, Mapping):
        return {key: _without_nulls(value) for key, value in raw.items() if value is not None}
    return [_without_nulls(item) for item in raw] if isinstance(raw, list) else raw
