"""The blocks of values that those who run an installation turn: what is kept, watched, let through and refused."""

from typing import Literal

from pydantic import Field

from contract.config.sections import Duration, Object, Quantity, Section, Texts


class Retention(Section):
    """How many checkpoints are kept, and how long; ``spec.retention`` of a checkpoint goes before."""

    keep_versions: int = Field(default=2, ge=1, description="Versions of one checkpoint.")
    automatic_per_workload: int = Field(default=2, ge=1, description="Automatic checkpoints of one workload.")
    ttl_after_last_use: Duration | Literal[""] = Field(default="", description="Automatic checkpoints; empty: never.")
    namespace_quota: Quantity | Literal[""] = Field(
        default="", description="Bytes of all artifacts of a namespace; the longest unused automatic ones go first."
    )
    dry_run: bool = Field(default=False, description="Say in Events what would go, remove nothing.")


class Automatic(Section):
    """Checkpoints that the controller makes for workloads labelled auto, and for graph deployments."""

    inject: bool = Field(
        default=True,
        description="Brings the tools into workloads labelled auto, but for images in placeholder.images. "
        "false: these follow placeholder.mode too.",
    )
    hash_annotations: list[str] = Field(default=[], description="Further template annotations whose change counts.")
    attempts: int = Field(default=3, ge=1, le=10, description="Captures before a checkpoint is Failed.")
    backoff: list[Duration] = Field(default=["1m", "10m"], min_length=1, description="Pauses between attempts.")
    unwanted_grace: Duration = Field(
        default="5m",
        description="A capture that found no node is ended when its workload has not existed, and no pod has named it, "
        "for this long.",
    )


class FailingRestores(Section):
    """When new pods are no longer restored from a checkpoint whose restores fail one like the other."""

    in_a_row: int = Field(
        default=3, ge=0, le=100, description="Restores that fail for one reason, none succeeding; 0: any number may."
    )
    pause: Duration = Field(default="1h", description="Then restores are tried again; a new capture ends it at once.")


class Monitor(Section):
    """An object of the Prometheus operator."""

    enabled: bool = False
    labels: Texts = Field(default={})
    interval: Duration = "30s"


class Labelled(Section):
    """An object that is found by its labels."""

    enabled: bool = False
    labels: Texts = Field(default={})


class Rule(Labelled):
    """Alerts of the Prometheus operator."""

    runbook_base: str = Field(default="", description="Goes before docs/alerts.md#... in each alert's runbook_url.")


class Monitoring(Section):
    """What Prometheus and Grafana read."""

    service_monitor: Monitor = Monitor()
    prometheus_rule: Rule = Rule()
    dashboard: Labelled = Labelled(labels={"grafana_dashboard": "1"})


class NetworkPolicy(Section):
    """Who may reach webhook and controller, and whom they may reach."""

    enabled: bool = False
    api_server_ports: list[int] = Field(default=[443, 6443], description="Egress of all our pods, besides DNS.")
    metrics_from: list[Object] = Field(default=[], description="Peers that may read metrics; empty: everyone.")


class Switch(Section):
    """Something that can be on or off."""

    enabled: bool = False


class Policy(Section):
    """Admission policies of the API server that the chart brings."""

    restore_verb: Switch = Switch()
    require: Switch = Field(
        default=Switch(enabled=True), description="Refuses pods with snapshot-policy Require that are not shaped."
    )
    agent: Switch = Field(
        default=Switch(enabled=True), description="Holds each agent to its own node's pods and to final reports."
    )
    unreachable_mark: Switch = Field(
        default=Switch(enabled=True),
        description="Marks opted-in pods that the webhook did not see; not rendered without MutatingAdmissionPolicy.",
    )
