"""The blocks of the chart's values; ``contract.config.values`` puts them together."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from contract.api import keys
from contract.api.states import AccessMode
from contract.config import patterns
from contract.config.quantities import quantity_bytes
from contract.nodes.compatibility import BYPASSABLE, bypass_of
from contract.version import VERSION

UNSET_REGISTRY: Final = "registry.invalid"
"""Host of the default image names. A name below .invalid never resolves (RFC 6761), so a stranger cannot publish an
image under a name that a privileged pod would pull by default."""

BypassId = Annotated[
    str,
    AfterValidator(lambda word: bypass_of(word).value),
    WithJsonSchema({"type": "string", "enum": [reason.value for reason in BYPASSABLE]}),
]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=patterns.NAME)]
Quantity = Annotated[str, Field(pattern=patterns.BYTES)]
AbsolutePath = Annotated[str, Field(pattern=patterns.ABSOLUTE_PATH)]
Duration = Annotated[str, Field(pattern=patterns.DURATION, min_length=2)]
Amount = Annotated[
    str,
    Field(pattern=patterns.AMOUNT),
    BeforeValidator(lambda found: str(found) if type(found) in (int, float) else found),
    WithJsonSchema({"type": ["string", "number"], "pattern": patterns.AMOUNT}),
]
"""As the API server takes it for a container: one that it refuses would stop an installation half-way."""
Repository = Annotated[str, Field(pattern=patterns.REPOSITORY)]
"""Of images, without scheme and tag."""
ImageText = Annotated[str, Field(pattern=patterns.IMAGE_OR_NONE)]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]
NodeAffinityMode = Literal["Required", "Preferred", "None"]
VolumeAccess = Literal["ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]
LogLevel = Literal["debug", "info", "warning", "error"]
Object = dict[str, Any]
Texts = dict[str, str]


class Section(BaseModel):
    """A block of values: exact types, no unknown keys, never changed after loading."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
    )


class Resources(Section):
    """What a container asks for, and may take."""

    requests: dict[str, Amount] = {}
    limits: dict[str, Amount] = {}


class Image(Section):
    """A container image."""

    repository: Repository = Field(min_length=1)
    tag: ImageText = Field(default="", description="Empty: the chart's appVersion.")
    pull_policy: PullPolicy = "IfNotPresent"

    @property
    def reference(self) -> str:
        """``repository:tag``, with the tag of this release if none is set."""
        return f"{self.repository}:{self.tag or VERSION}"


class AgentImage(Image):
    """The agent's image."""

    repository: Repository = Field(default=f"{UNSET_REGISTRY}/dynamo-snapshot/agent", min_length=1)


class ControlPlaneImage(Image):
    """The image of webhook and controller."""

    repository: Repository = Field(default=f"{UNSET_REGISTRY}/dynamo-snapshot/control-plane", min_length=1)


class PullSecret(Section):
    """A Secret of the release's namespace that pulls images."""

    name: Name


def _named(secret: object) -> object:
    return {"name": secret} if isinstance(secret, str) else secret


GlobalPullSecret = Annotated[
    PullSecret,
    BeforeValidator(_named),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "minLength": 1}}},
            ]
        }
    ),
]
"""Umbrella charts write names or ``{name: ...}``."""


class Global(Section):
    """What an umbrella chart says to all of its charts; other keys are theirs."""

    model_config = ConfigDict(extra="allow")

    image_registry: Repository = Field(
        default="", description="Registry of every image of this chart, in place of the host in its name."
    )
    image_pull_secrets: list[GlobalPullSecret] = Field(
        default=[], description="Secrets for every image of this chart, besides its own imagePullSecrets."
    )


class Runtime(Section):
    """The container runtime of the nodes."""

    type: Literal["containerd", "crio"] = "containerd"
    socket_path: str = Field(
        default="",
        pattern=patterns.PATH_OR_NONE,
        description="Accepted for older values files and not used: the agent talks to no runtime socket.",
    )


class OpenShift(Section):
    """OpenShift's security context constraints for the agent."""

    enabled: bool = False


ClaimName = Annotated[str, Field(max_length=253, pattern=patterns.NAME_OR_NONE)]


class Claim(Section):
    """The PersistentVolumeClaim that holds the artifacts."""

    create: bool = Field(
        default=True, description="Made by the chart (agentMount) or by the controller in each namespace (podMount)."
    )
    name: ClaimName = Field(default="", description="Empty: snapshot-pvc; chrek-pvc in a release called chrek.")
    size: Quantity = "1Ti"
    storage_class: str = Field(default="", description="Empty: the cluster's default class.")
    access_mode: VolumeAccess = "ReadWriteMany"
    base_path: AbsolutePath = keys.DEFAULT_BASE_PATH
    keep: bool = Field(default=True, description="Kept when the release is uninstalled: artifacts outlive it.")

    @property
    def claim_name(self) -> str:
        """What the claim is called; what processes of a release read always has a name."""
        return self.name or "snapshot-pvc"


class ObjectStore(Section):
    """A store that this version does not serve yet: only the empty address is accepted."""

    uri: Literal[""] = ""


class StorageValues(Section):
    """Where artifacts are stored and who mounts the volume; serves the control plane and the agent alike."""

    type: Literal["pvc"] = "pvc"
    access_mode: AccessMode = Field(default=AccessMode.AGENT_MOUNT, strict=False)
    pvc: Claim = Claim()
    s3: ObjectStore = ObjectStore()
    oci: ObjectStore = ObjectStore()


class InitContainer(Section):
    """The agent's init container; its image is the agent's own if none is set."""

    image: ImageText = ""
    image_pull_policy: PullPolicy = "IfNotPresent"


class DaemonSet(Section):
    """The agent on every node."""

    image: AgentImage = AgentImage()
    image_pull_secrets: list[PullSecret] = []
    snapshot_log_level: LogLevel = "info"
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "128Mi"})
    node_selector: Texts = {}
    tolerations: list[Object] = [{"operator": "Exists"}]
    pod_labels: Texts = {}
    pod_annotations: Texts = {}
    affinity: Object = {}
    init_container: InitContainer = InitContainer()

    @property
    def page_cache(self) -> int | None:
        """Bytes of artifacts that a node keeps in page cache, which counts for its agent; None: as many as it has."""
        limit = self.resources.limits.get("memory")
        return quantity_bytes(limit) if limit is not None else None


class ControlPlane(Section):
    """Webhook and controller."""

    image: ControlPlaneImage = ControlPlaneImage()
    image_pull_secrets: list[PullSecret] = []
    replicas: int = Field(default=2, ge=1, le=100, description="Webhook replicas.")
    controller_replicas: int = Field(default=1, ge=1, le=10, description="All but the leader stand by.")
    log_level: LogLevel = "info"
    resources: Resources = Resources(requests={"cpu": "50m", "memory": "96Mi"}, limits={"memory": "512Mi"})
    node_selector: Texts = {}
    tolerations: list[Object] = []
    affinity: Object = {}
    pod_labels: Texts = {}
    pod_annotations: Texts = {}
    priority_class_name: str = ""


class SeccompDeploy(Section):
    """Whether the agent writes the seccomp profile to its node."""

    deploy: bool = True


class ServiceAccount(Section):
    """The agent's service account."""

    create: bool = True
    name: str = ""
    annotations: Texts = {}


class Rbac(Section):
    """Rights, and how far the release reaches."""

    create: bool = True
    aggregate_roles: Literal["Auto", "Always", "Never"] = Field(
        default="Auto",
        description="Adds our kinds to the ClusterRoles view, edit and admin. Auto: if namespaceRestricted is false.",
    )
    namespace_restricted: bool = Field(
        default=True, description="Webhook, controller and agent serve the release's namespace only."
    )


class Overlay(Section):
    """What of the root file system is not captured: path prefixes or globs."""

    exclusions: list[str] = ["/proc", "/sys", "/dev", "*/.cache/huggingface", "*/__pycache__", "*.pyc"]


class RestoreConfig(Section):
    """Bounds of a restore."""

    ns_restore_path: str = Field(default="", description="Accepted for older values files; the agent brings its own.")
    restore_timeout_seconds: int = Field(default=7200, ge=1)
    verify: Literal["Once", "Always"] = Field(
        default="Once", description="Read a file of an artifact once on a node and again when it changed, or each time."
    )
    allow_unconfined: bool = Field(
        default=False,
        description="Capture and restore workers whose confinement by SELinux or AppArmor cannot be kept, without it.",
    )
    bypass: list[BypassId] = Field(
        default=[], description="Checks that restores need not pass, on every node: docs/compatibility.md lists them."
    )
    attempts: int = Field(
        default=1,
        ge=1,
        le=keys.MAX_ATTEMPTS,
        description=f"Before the cold start; annotation {keys.ANN_ATTEMPTS} of a pod goes before.",
    )


class Criu(Section):
    """Options of CRIU, by their own names; those that the agent decides itself are accepted and not read."""

    binary_path: AbsolutePath = "/opt/criu/bin/criu"
    lib_dir: str = ""
    work_dir: AbsolutePath = "/var/criu-work"
    ghost_limit: int = Field(default=536870912, ge=0, description="Bytes.")
    log_level: int = Field(default=4, ge=0, le=4)
    leave_running: bool = False
    shell_job: bool = False
    file_locks: bool = True
    orphan_pts_master: bool = True
    ext_unix_sk: bool = True
    link_remap: bool = True
    ext_masters: bool = True
    rst_sibling: bool = False
    evasive_devices: bool = True
    force_irmap: bool = True
    allow_uprobes: bool = True
    skip_in_flight: bool = True
    tcp_close: bool = False
    tcp_established: bool = True
    mntns_compat_mode: bool = False
    auto_dedup: bool = False
    lazy_pages: bool = Field(
        default=True, description="Fill a restored worker's memory while it runs already, instead of copying it first."
    )
    manage_cgroups_mode: Literal["", "ignore", "cpuset", "soft", "full", "strict"] = "ignore"
    image_io_mode: Literal["", "direct", "buffered", "writeback"] = ""


class AgentConfig(Section):
    """How the agent captures and restores."""

    overlay: Overlay = Overlay()
    restore: RestoreConfig = RestoreConfig()
    criu: Criu = Criu()


class SeccompProfile(Section):
    """The seccomp profile of captured and restored pods."""

    disabled: bool = False
    profile: str = Field(default=keys.SECCOMP_PROFILE, min_length=1, pattern=patterns.PATH_WITHIN)


class CheckpointValues(Section):
    """The main switch and what capture needs."""

    enabled: bool = True
    seccomp: SeccompProfile = SeccompProfile()
    cleanup_image: ImageText = Field(
        default="", description="Image that removes artifacts. Empty: the control plane's."
    )


class CertManager(Section):
    """Certificates by cert-manager in place of our own authority."""

    enabled: bool = False
    issuer_ref: Texts = Field(default={}, description="Empty: a self-signed issuer made by the chart.")


class WebhookValues(Section):
    """Admission of pods."""

    failure_policy: Literal["Ignore", "Fail"] = "Ignore"
    timeout_seconds: int = Field(default=2, ge=1, le=30)
    excluded_namespaces: list[Name] = []
    namespace_selector: Object = Field(
        default={}, description="Empty: the release's namespace where rbac.namespaceRestricted, else all."
    )
    object_selector: Object = Field(default={}, description="Narrows opt-in further; empty: every pod that opts in.")
    cert_manager: CertManager = CertManager()


class ToolsImage(Image):
    """An image with the tool folder."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"properties": {"tag": {"const": ""}}}, {"properties": {"repository": {"minLength": 1}}}]
        }
    )

    repository: Repository = Field(
        default="", description="Empty: the agent's image, which is on every node that is ready."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.tag and not self.repository:
            raise ValueError(
                "a tag alone names no image; set repository too, or leave both empty for the agent's image"
            )
        return self


class Inject(Section):
    """How tools are brought into stock images (automatic.inject, placeholder.mode)."""

    via: Literal["init", "imageVolume"] = Field(
        default="init",
        description="imageVolume needs Kubernetes 1.35 (or its gate ImageVolume) and containerd 2.1 or CRI-O 1.33.",
    )
    image: ToolsImage = ToolsImage()
    pull_secrets: list[PullSecret] = Field(default=[], description="Names of Secrets in the workers' namespaces.")
    resources: Resources = Resources(requests={"cpu": "10m", "memory": "16Mi"}, limits={"cpu": "1", "memory": "64Mi"})


class Placeholder(Section):
    """How standby comes into the worker's image."""

    mode: Literal["image", "inject"] = Field(
        default="image",
        description="By name and for graphs. inject: stock images work, except where placeholder.images maps them.",
    )
    images: Texts = Field(default={}, description="Runtime image: its placeholder image.")
    inject: Inject = Inject()


class AdmissionValues(Section):
    """What shaped pods demand of their node."""

    node_affinity: NodeAffinityMode = "Required"


class GraphDeployments(Section):
    """The reconciler of DynamoGraphDeployments."""

    enabled: bool = False


class OperatorClaim(Section):
    """The platform chart's words for the volume."""

    pvc_name: Name | None = None
    base_path: AbsolutePath | None = None
    create: bool | None = None
    size: Quantity | None = None
    storage_class_name: str | None = None
    access_mode: VolumeAccess | None = None

    def over(self, claim: Claim) -> Claim:
        """Return ``claim`` with what is said here instead."""
        said = {
            "name": self.pvc_name,
            "base_path": self.base_path,
            "create": self.create,
            "size": self.size,
            "storage_class": self.storage_class_name,
            "access_mode": self.access_mode,
        }
        return claim.model_copy(update={key: value for key, value in said.items() if value is not None})


class OperatorStorage(Section):
    """The platform chart's storage block."""

    type: Literal["", "pvc"] = "pvc"
    pvc: OperatorClaim = OperatorClaim()
    signal_host_path: str = Field(default="", description="Accepted and not used: signals are files in the pod.")


class OperatorCheckpoint(Section):
    """The platform chart's checkpoint block."""

    enabled: bool | None = None
    storage: OperatorStorage = OperatorStorage()


class DynamoOperator(Section):
    """Values files of the platform chart work here: their checkpoint block goes before ours, field by field."""

    checkpoint: OperatorCheckpoint = OperatorCheckpoint()
