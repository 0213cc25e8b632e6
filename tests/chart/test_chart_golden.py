"""What the rendered objects promise, whatever else changes in them."""

import json

import pytest

from certs.reconcile import WEBHOOK_ENTRY, Targets
from contract.api import keys
from webhook.server import CLOSE_SECONDS, DRAIN_SECONDS

CLUSTER_WIDE = ("--set", "rbac.namespaceRestricted=false")
KINDS_OF_THE_CLUSTER = {
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingWebhookConfiguration",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
TARGETS = Targets(namespace="ns", fullname="snapshot")


@pytest.fixture(scope="module")
def objects(helm):
    return helm.render()


@pytest.fixture
def entry(objects, pick):
    (found,) = pick(objects, "MutatingWebhookConfiguration")["webhooks"]
    return found


def container(workload):
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return found


def environment(workload):
    return {entry["name"]: entry.get("value") for entry in container(workload)["env"]}


def rules(objects, kind, name):
    (found,) = [o["rules"] for o in objects if (kind, name) == (o["kind"], o["metadata"]["name"])]
    return {(group, resource): rule for rule in found for group in rule["apiGroups"] for resource in rule["resources"]}


def test_the_webhook_entry_writes_out_every_field_but_the_bundle(entry):
    """A field that the server defaults would show as drift; a bundle that Helm owns would fight the controller."""
    assert {
        "admissionReviewVersions",
        "clientConfig",
        "failurePolicy",
        "matchConditions",
        "matchPolicy",
        "name",
        "namespaceSelector",
        "objectSelector",
        "reinvocationPolicy",
        "rules",
        "sideEffects",
        "timeoutSeconds",
    } == set(entry)
    assert {"service"} == set(entry["clientConfig"])
    assert {
        "name": "snapshot-webhook",
        "namespace": "ns",
        "path": "/mutate-core-v1-pod-checkpoint-restore",
        "port": 443,
    } == entry["clientConfig"]["service"]
    assert ("Ignore", 2, "IfNeeded", "None", "Equivalent") == (
        entry["failurePolicy"],
        entry["timeoutSeconds"],
        entry["reinvocationPolicy"],
        entry["sideEffects"],
        entry["matchPolicy"],
    )


def test_chart_and_certificates_agree_on_names(objects, entry, pick):
    pick(objects, "MutatingWebhookConfiguration", TARGETS.configuration)
    pick(objects, "Secret", TARGETS.serving_secret)
    pick(objects, "Secret", TARGETS.authority_secret)
    service = entry["clientConfig"]["service"]

    assert WEBHOOK_ENTRY == entry["name"]
    assert f"{service['name']}.{service['namespace']}.svc" == TARGETS.dns_names[0]


def test_secrets_have_no_data_that_helm_would_own(objects):
    secrets = [found for found in objects if found["kind"] == "Secret"]

    assert 2 == len(secrets)
    assert all({"apiVersion", "kind", "metadata", "type"} == set(secret) for secret in secrets)
    assert {"Opaque"} == {secret["type"] for secret in secrets}


def test_only_the_serving_secret_is_mounted(objects):
    mounted = [
        volume["secret"]["secretName"]
        for found in objects
        if "template" in found.get("spec", {})
        for volume in found["spec"]["template"]["spec"].get("volumes", ())
        if "secret" in volume
    ]

    assert [TARGETS.serving_secret] == mounted


def test_the_match_conditions_name_the_contracts_words(entry):
    (condition,) = entry["matchConditions"]

    assert keys.LABEL_RESTORE in condition["expression"]
    assert keys.ANN_RESTORE_CANDIDATE in condition["expression"]
    assert f"['{keys.RESTORE_BY_NAME}', '{keys.RESTORE_AUTO}']" in condition["expression"]
    assert keys.LABEL_TRIGGER in condition["expression"]


@pytest.mark.parametrize(
    ("expected", "flags"),
    [
        pytest.param({"matchLabels": {"kubernetes.io/metadata.name": "ns"}}, (), id="own-namespace"),
        pytest.param(
            {
                "matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "a", "b"]},
                    {"key": "nvidia.com/snapshot-restore", "operator": "NotIn", "values": ["disabled"]},
                ]
            },
            (*CLUSTER_WIDE, "--set", "webhook.excludedNamespaces={a,b}"),
            id="all-but-the-excluded",
        ),
        pytest.param(
            {"matchLabels": {"team": "x"}},
            (*CLUSTER_WIDE, "--set", "webhook.namespaceSelector.matchLabels.team=x"),
            id="the-users-own",
        ),
    ],
)
def test_which_namespaces_webhook_and_policy_see(helm, pick, expected, flags):
    objects = helm.render(*flags)
    (entry,) = pick(objects, "MutatingWebhookConfiguration")["webhooks"]
    policy = pick(objects, "MutatingAdmissionPolicy")

    assert expected == entry["namespaceSelector"]
    assert expected == policy["spec"]["matchConstraints"]["namespaceSelector"]


@pytest.mark.parametrize(
    ("expected", "flags"),
    [
        pytest.param({}, (), id="every-pod-that-opts-in"),
        pytest.param(
            {"matchLabels": {"team": "x"}}, ("--set", "webhook.objectSelector.matchLabels.team=x"), id="some-of-them"
        ),
    ],
)
def test_which_pods_webhook_and_mark_see(helm, pick, expected, flags):
    """A pod that the webhook is not to see must not say that it was not reached."""
    objects = helm.render(*flags)
    (entry,) = pick(objects, "MutatingWebhookConfiguration")["webhooks"]
    mark = pick(objects, "MutatingAdmissionPolicy")

    assert (expected, expected) == (entry["objectSelector"], mark["spec"]["matchConstraints"]["objectSelector"])


@pytest.mark.parametrize(
    ("expected", "flags"),
    [
        pytest.param({"matchLabels": {"kubernetes.io/metadata.name": "ns"}}, (), id="own-namespace"),
        pytest.param({}, CLUSTER_WIDE, id="everywhere"),
    ],
)
def test_what_guards_restores_reaches_as_far_as_the_agent(helm, pick, expected, flags):
    """A pod shaped by hand is restored too, in namespaces and with labels that the webhook leaves out."""
    narrow = ("--set", "webhook.namespaceSelector.matchLabels.a=b,webhook.objectSelector.matchLabels.a=b")
    objects = helm.render(*flags, *narrow, "--set", "policy.restoreVerb.enabled=true")
    names = ("require", "restore-verb")
    found = [pick(objects, "ValidatingAdmissionPolicy", f"snapshot-ns-{name}")["spec"] for name in names]

    assert [expected] * 2 == [policy["matchConstraints"]["namespaceSelector"] for policy in found]
    assert [{}] * 2 == [policy["matchConstraints"]["objectSelector"] for policy in found]


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        pytest.param({"agent-node", "agent-pods", "agent-jobs", "agent-leases", "require"}, "", id="by-default"),
        pytest.param({"agent-node", "require"}, "policy.agent.enabled=false", id="agent-trusted"),
        pytest.param(
            {"agent-node", "agent-pods", "agent-jobs", "agent-leases"}, "policy.require.enabled=false", id="no-require"
        ),
        pytest.param({"agent-node", "agent-pods", "agent-jobs", "agent-leases"}, "coexist=agentOnly", id="agent-only"),
        pytest.param({"require"}, "rbac.create=false", id="foreign-rights"),
    ],
)
def test_each_policy_can_be_had_or_not(helm, expected, value):
    objects = helm.render(*(("--set", value) if value else ()))
    for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
        names = {o["metadata"]["name"].removeprefix("snapshot-ns-") for o in objects if o["kind"] == kind}
        assert expected == names


def test_cluster_scoped_names_carry_release_and_namespace(helm):
    for flags in ((), CLUSTER_WIDE):
        objects = helm.render(*flags, "--set", "policy.restoreVerb.enabled=true", release="r", namespace="ns-a")
        names = [o["metadata"]["name"] for o in objects if o["kind"] in KINDS_OF_THE_CLUSTER]

        assert all(name.startswith("r-snapshot-ns-a") for name in names), names
        assert all("ns-a" == o["metadata"]["namespace"] for o in objects if o["kind"] not in KINDS_OF_THE_CLUSTER)


def test_every_process_learns_its_release(objects, pick):
    for kind, name in (("Deployment", "webhook"), ("Deployment", "controller"), ("DaemonSet", "agent")):
        found = environment(pick(objects, kind, f"snapshot-{name}"))

        assert {"POD_NAME", "POD_NAMESPACE", "SNAPSHOT_LOG_LEVEL"} <= set(found)
        assert ("snapshot", "snapshot", "ns") == (
            found["RELEASE_NAME"],
            found["RELEASE_FULLNAME"],
            found["RESTRICTED_NAMESPACE"],
        )


def test_a_release_for_all_namespaces_restricts_nobody(helm, pick):
    objects = helm.render(*CLUSTER_WIDE)

    assert "RESTRICTED_NAMESPACE" not in environment(pick(objects, "DaemonSet"))
    assert {"snapshot-controller-self", "snapshot-webhook-self"} == {
        o["metadata"]["name"] for o in objects if o["kind"] == "Role"
    }


def test_the_agent_is_privileged_without_network_of_the_host(objects, pick):
    agent = pick(objects, "DaemonSet", "snapshot-agent")
    pod = agent["spec"]["template"]["spec"]

    assert pod["hostPID"]
    assert "hostNetwork" not in pod
    assert "agent" == container(agent)["name"]
    assert "ports" not in container(agent)
    assert keys.LABEL_AGENT_VALUE == agent["metadata"]["labels"][keys.LABEL_AGENT]
    assert keys.LABEL_AGENT_VALUE == agent["spec"]["template"]["metadata"]["labels"][keys.LABEL_AGENT]


def test_the_agent_reaches_no_socket_of_the_container_runtime(helm, pick):
    """It finds containers in /proc and images in the runtime's store: a socket would be a right for nothing."""
    objects = helm.render("--set", "runtime.socketPath=/run/k3s/containerd/containerd.sock")
    pod = pick(objects, "DaemonSet", "snapshot-agent")["spec"]["template"]["spec"]
    folders = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}

    assert {"/var/lib/kubelet/seccomp", "/var/lib/kubelet/pods", "/sys/fs/cgroup", "/var/criu-work"} == folders


IMAGES = (
    "daemonset.image.repository=r.example/agent,controlPlane.image.repository=r.example:5000/plane,"
    "daemonset.initContainer.image=busybox:1.36,daemonset.imagePullSecrets[0].name=own"
)


@pytest.mark.parametrize(
    ("expected", "secrets", "flags"),
    [
        pytest.param(
            {"r.example/agent", "r.example:5000/plane", "busybox"}, [["own"]], ("--set", IMAGES), id="each-by-itself"
        ),
        pytest.param(
            {"mirror.example/agent", "mirror.example/plane", "mirror.example/busybox"},
            [["pull"], ["pull", "own"]],
            ("--set", f"{IMAGES},global.imageRegistry=mirror.example,global.imagePullSecrets={{pull}}"),
            id="global",
        ),
        pytest.param(
            {"r.example/agent", "r.example:5000/plane", "busybox"},
            [["own"]],
            ("--set", f"{IMAGES},global.imagePullSecrets[0].name=own"),
            id="global-secret-said-twice",
        ),
    ],
)
def test_where_every_image_comes_from(helm, expected, secrets, flags):
    """What the chart renders; what the controller adds later follows the same rule in contract.config.values."""
    pods = [o["spec"]["template"]["spec"] for o in helm.render(*flags) if "template" in o.get("spec", {})]
    images = {each["image"] for pod in pods for each in [*pod["containers"], *pod.get("initContainers", ())]}
    found = [[each["name"] for each in pod["imagePullSecrets"]] for pod in pods if "imagePullSecrets" in pod]

    assert expected == {image.rsplit(":", 1)[0] for image in images}
    assert [secret for secret in secrets if secret not in found] == []


def roles_of_users(objects):
    return {
        o["metadata"]["name"].removeprefix("snapshot-ns-"): o
        for o in objects
        if any("aggregate-to-" in key for key in o["metadata"].get("labels", {}))
    }


@pytest.mark.parametrize(
    ("expected", "settings"),
    [
        pytest.param(set(), "", id="own-namespace"),
        pytest.param({"view", "edit", "admin"}, "rbac.namespaceRestricted=false", id="everywhere"),
        pytest.param({"view", "edit", "admin"}, "rbac.aggregateRoles=Always", id="on-request"),
        pytest.param(set(), "rbac.namespaceRestricted=false,rbac.aggregateRoles=Never", id="not-wanted"),
        pytest.param(set(), "rbac.create=false,rbac.aggregateRoles=Always", id="foreign-rights"),
    ],
)
def test_who_adds_to_the_roles_of_users(helm, expected, settings):
    """Aggregation reaches the whole cluster, so a release of one namespace does it on request only."""
    assert expected == roles_of_users(helm.render("--set", settings)).keys()


def test_what_users_may_do_with_our_kinds(helm):
    found = roles_of_users(helm.render(*CLUSTER_WIDE, "--set", "graphDeployments.enabled=true"))
    kinds = ["dynamocheckpoints", "dynamographdeployments"]
    allowed = {name: [(rule["resources"], rule["verbs"]) for rule in role["rules"]] for name, role in found.items()}

    assert {
        "view": [(kinds, ["get", "list", "watch"])],
        "edit": [(kinds, ["create", "update", "patch", "delete", "deletecollection"])],
        "admin": [(["dynamocheckpoints"], ["restore"])],
    } == allowed
    assert {"view": 3, "edit": 2, "admin": 1} == {
        name: sum("aggregate-to-" in key for key in role["metadata"]["labels"]) for name, role in found.items()
    }


def test_restores_find_storage_through_the_agent_only_in_agent_mount(helm, pick):
    for mode, expected in (("agentMount", ["snapshot-pvc"]), ("podMount", [])):
        objects = helm.render("--set", f"storage.accessMode={mode}")
        agent = pick(objects, "DaemonSet")
        volumes = agent["spec"]["template"]["spec"]["volumes"]
        claims = [o["metadata"]["name"] for o in objects if o["kind"] == "PersistentVolumeClaim"]

        assert expected == [v["persistentVolumeClaim"]["claimName"] for v in volumes if v["name"] == "checkpoints"]
        assert expected == claims
        assert len(expected) == [m["mountPath"] for m in container(agent)["volumeMounts"]].count("/checkpoints")


@pytest.mark.parametrize(
    ("kept", "flags"),
    [
        pytest.param(True, (), id="by-default"),
        pytest.param(False, ("--set", "storage.pvc.keep=false"), id="not-wanted"),
    ],
)
def test_checkpoints_outlive_the_release(helm, pick, kept, flags):
    claim = pick(helm.render(*flags), "PersistentVolumeClaim")

    assert kept == ("keep" == claim["metadata"].get("annotations", {}).get("helm.sh/resource-policy"))


def test_webhook_and_controller_meet_the_restricted_standard(objects, pick):
    for name in ("webhook", "controller"):
        deployment = pick(objects, "Deployment", f"snapshot-{name}")
        pod = deployment["spec"]["template"]["spec"]
        security = container(deployment)["securityContext"]

        assert {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}} == pod["securityContext"]
        assert (False, True, ["ALL"]) == (
            security["allowPrivilegeEscalation"],
            security["readOnlyRootFilesystem"],
            security["capabilities"]["drop"],
        )
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_the_webhook_survives_drains_and_leaves_in_order(objects, pick):
    webhook = pick(objects, "Deployment", "snapshot-webhook")
    pod = webhook["spec"]["template"]["spec"]

    assert 2 == webhook["spec"]["replicas"]
    assert 1 == pick(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert ["kubernetes.io/hostname"] == [c["topologyKey"] for c in pod["topologySpreadConstraints"]]
    assert pod["terminationGracePeriodSeconds"] > DRAIN_SECONDS + CLOSE_SECONDS + 30


def test_rights_are_no_wider_than_needed(objects):
    webhook = rules(objects, "Role", "snapshot-webhook")
    agent = rules(objects, "Role", "snapshot-agent")
    controller = rules(objects, "Role", "snapshot-controller")
    own = rules(objects, "Role", "snapshot-controller-self")

    assert {("nvidia.com", "dynamocheckpoints")} == set(webhook)
    assert ["list", "watch"] == webhook["nvidia.com", "dynamocheckpoints"]["verbs"]
    assert "secrets" not in {resource for _, resource in (*agent, *controller)}
    assert [TARGETS.serving_secret, TARGETS.authority_secret] == own["", "secrets"]["resourceNames"]
    assert ["get", "patch"] == own["", "secrets"]["verbs"]
    assert not {"create", "delete", "update"} & set(agent["", "pods"]["verbs"])
    assert "pods/exec" not in {resource for _, resource in (*agent, *controller)}


def test_cluster_wide_rights_of_a_restricted_release(objects):
    """A release that serves one namespace: its bundle, written and read, and the label of nodes."""
    found = {o["metadata"]["name"]: o["rules"] for o in objects if o["kind"] == "ClusterRole"}

    assert {"snapshot-ns-bundle", "snapshot-ns-reached", "snapshot-ns-agent-node"} == set(found)
    (reached,) = found["snapshot-ns-reached"]
    assert (["snapshot-ns"], ["get"]) == (reached["resourceNames"], reached["verbs"])
    (bundle,) = found["snapshot-ns-bundle"]
    (node,) = found["snapshot-ns-agent-node"]
    assert (["snapshot-ns"], ["get", "patch"]) == (bundle["resourceNames"], bundle["verbs"])
    assert (["nodes"], ["get", "patch"]) == (node["resources"], node["verbs"])


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        pytest.param(["python3", "-m", "agent.seccomp"], (), id="the-agents-image"),
        pytest.param(
            ["install", "-D", "-m", "0644"], ("--set", "daemonset.initContainer.image=busybox"), id="another-image"
        ),
    ],
)
def test_the_profile_lies_on_the_node_before_the_agent_starts(helm, pick, program, flags):
    pod = pick(helm.render(*flags), "DaemonSet")["spec"]["template"]["spec"]
    (init,) = pod["initContainers"]
    source, target = "/etc/snapshot-seccomp/block-iouring.json", f"/var/lib/kubelet/seccomp/{keys.SECCOMP_PROFILE}"

    assert [*program, source, target] == init["command"]
    assert (
        "initContainers"
        not in pick(helm.render("--set", "seccomp.deploy=false"), "DaemonSet")["spec"]["template"]["spec"]
    )


def test_the_seccomp_profile_takes_io_uring_away_and_nothing_else(objects, pick):
    profile = json.loads(pick(objects, "ConfigMap", "snapshot-seccomp")["data"]["block-iouring.json"])

    assert "SCMP_ACT_ALLOW" == profile["defaultAction"]
    (rule,) = profile["syscalls"]
    assert ["io_uring_setup", "io_uring_enter", "io_uring_register"] == rule["names"]
    assert "SCMP_ACT_ERRNO" == rule["action"]
    assert keys.SECCOMP_PROFILE.endswith("/block-iouring.json")


def test_without_mutating_policies_there_is_no_mark(helm, chart):
    text = helm("template", "snapshot", str(chart), "--api-versions", "v1")

    assert "MutatingAdmissionPolicy" not in text


def test_the_last_job_comes_after_everything_is_gone_and_takes_its_rights_along(objects):
    """Before, a controller that still runs would put the finalizer back."""
    hooks = [o for o in objects if "helm.sh/hook" in o["metadata"].get("annotations", {})]
    notes = [o["metadata"]["annotations"] for o in hooks]

    assert {"ServiceAccount", "Role", "RoleBinding", "Job"} == {o["kind"] for o in hooks}
    assert {"post-delete"} == {note["helm.sh/hook"] for note in notes}
    assert all("hook-succeeded" in note["helm.sh/hook-delete-policy"] for note in notes)
    (last,) = [o for o in hooks if "Job" == o["kind"]]
    assert ["python3", "-m", "controller.uninstall"] == container(last)["command"]
    assert "0" == last["metadata"]["annotations"]["helm.sh/hook-weight"]


def test_beside_a_platform_only_the_agent_is_installed(helm):
    objects = helm.render("--set", "coexist=agentOnly")
    names = {(o["kind"], o["metadata"]["name"]) for o in objects}

    assert ("DaemonSet", "snapshot-agent") in names
    assert not {"Deployment", "MutatingWebhookConfiguration", "Secret"} & {kind for kind, _ in names}


def test_labels_of_the_user_never_break_the_selector(helm, pick):
    flags = ("--set-json", 'daemonset.podLabels={"app.kubernetes.io/component":"x","team":"y"}')
    template = pick(helm.render(*flags), "DaemonSet")["spec"]["template"]["metadata"]["labels"]

    assert ("snapshot-agent", "y") == (template["app.kubernetes.io/component"], template["team"])
