"""A capture pod is no replica: what only a serving pod has, needs or claims is not its."""

import copy

from contract.api import keys
from tests.support.builders.capture_jobs import PROBE, named, pod_of, shape, target_of
from tests.support.builders.objects import ID, checkpoint, container, template


def test_containers_beside_the_target_end_with_it():
    side = container("side", startupProbe=PROBE, livenessProbe=PROBE, readinessProbe=PROBE)
    spec = pod_of(shape(checkpoint(pod_template=template(container(), side, initContainers=[container("init")]))))
    first, second = spec["initContainers"]
    assert ("init", None) == (first["name"], first.get("restartPolicy"))
    assert ("side", "Always", PROBE) == (second["name"], second["restartPolicy"], second["readinessProbe"])
    assert not {"startupProbe", "livenessProbe"} & second.keys()
    assert side["command"] == second["command"]


def test_native_sidecars_stay_as_they_are_and_injected_ones_go():
    sidecar = container("logs", restartPolicy="Always", startupProbe=PROBE)
    inits = [container("istio-proxy", restartPolicy="Always"), sidecar, container("fetch"), container("linkerd-init")]
    spec = pod_of(shape(checkpoint(pod_template=template(container("proxy"), container(), initContainers=inits))))
    assert ["logs", "fetch", "proxy"] == [each["name"] for each in spec["initContainers"]]
    assert sidecar == spec["initContainers"][0]


def test_what_a_shaped_pod_carries_is_not_taken_along():
    """Templates of automatic checkpoints may come from pods, which were held, stamped or debugged."""
    notes = {keys.ANN_TEMPLATE_HASH: "0" * 32, keys.ANN_GATE: "wait-timeout", keys.ANN_ADMISSION: "held"}
    env = [{"name": name, "value": "x"} for name in (keys.ENV_CHECKPOINT_PATH, keys.ENV_CHECKPOINT_HASH, "MINE")]
    pod = template(container(env=env), metadata={"annotations": notes}, ephemeralContainers=[container("debug")])
    job = shape(checkpoint(pod_template=pod))
    assert not notes.keys() & job["spec"]["template"]["metadata"]["annotations"].keys()
    assert "ephemeralContainers" not in pod_of(job)
    names = [entry["name"] for entry in target_of(job)["env"]]
    assert ["MINE", keys.ENV_CONTROL_DIR, keys.ENV_CHECKPOINT_SIGNAL_FILE] == names


def test_nothing_routes_to_counts_or_favours_a_capture_pod():
    metadata = {
        "name": "web-0",
        "labels": {"app": "web", "pod-template-hash": "1", "job-name": "x", keys.LABEL_RESTORE: "enabled"},
        "annotations": {"mine": "1", keys.ANN_CHECKPOINT_NAME: "q", keys.ANN_RESTORE_STATUS_PREFIX + "main": "failed"},
    }
    proxies = [container("istio-proxy")]
    job = shape(
        checkpoint(
            pod_template=template(
                container(),
                *proxies,
                metadata=metadata,
                nodeName="n1",
                priority=1,
                priorityClassName="high",
                preemptionPolicy="PreemptLowerPriority",
                schedulingGates=[{"name": "g"}],
                readinessGates=[{"conditionType": "theirs"}],
                initContainers=[container("istio-init")],
            )
        )
    )
    meta, spec = job["spec"]["template"]["metadata"], pod_of(job)
    assert {"labels", "annotations"} == meta.keys()
    assert {
        "sidecar.istio.io/inject": "false",
        keys.LABEL_IS_SOURCE: "true",
        keys.LABEL_CHECKPOINT_ID: ID,
    } == meta["labels"]
    assert "1" == meta["annotations"]["mine"]
    assert "disabled" == meta["annotations"]["linkerd.io/inject"]
    assert not {keys.ANN_CHECKPOINT_NAME, keys.ANN_RESTORE_STATUS_PREFIX + "main"} & meta["annotations"].keys()
    gone = {"nodeName", "priority", "priorityClassName", "preemptionPolicy", "schedulingGates", "initContainers"}
    assert not gone & spec.keys()
    assert [{"conditionType": "theirs"}, {"conditionType": keys.READINESS_GATE_SOURCE}] == spec["readinessGates"]


def test_only_labels_that_the_installation_names_are_kept():
    labels = {"app": "web", "egress": "hub", "pod-template-hash": "1", keys.LABEL_RESTORE: "auto"}
    obj = checkpoint(pod_template=template(metadata={"labels": labels}))
    keep = f"capture: {{keepLabels: [egress, absent, pod-template-hash, {keys.LABEL_RESTORE}]}}"
    found = shape(obj, keep)["spec"]["template"]["metadata"]["labels"]
    ours = {"sidecar.istio.io/inject": "false", keys.LABEL_IS_SOURCE: "true", keys.LABEL_CHECKPOINT_ID: ID}
    assert {"egress": "hub"} | ours == found


def test_monitors_do_not_find_a_capture_pod():
    notes = {"prometheus.io/scrape": "true", "ad.datadoghq.com/main.checks": "{}", "mine": "1"}
    obj = checkpoint(pod_template=template(metadata={"annotations": notes}))
    assert {"mine"} == notes.keys() & shape(obj)["spec"]["template"]["metadata"]["annotations"].keys()


def of_label(key):
    return {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{key}']"}}


def test_the_environment_has_the_labels_values_all_the_same():
    """The pod lacks the labels, so a reference to one would be empty, and that is what would be captured."""
    env = [
        {"name": "TIER", "valueFrom": of_label("tier")},
        {"name": "HASH", "valueFrom": of_label("pod-template-hash")},
    ]
    labels = {"tier": "gold", "pod-template-hash": "1"}
    beside = container("logs", env=copy.deepcopy(env))
    job = shape(checkpoint(pod_template=template(container(env=env), beside, metadata={"labels": labels})))
    for each in (target_of(job), *pod_of(job)["initContainers"]):
        assert {"name": "TIER", "value": "gold"} == named(each["env"], "TIER")
        assert of_label("pod-template-hash") == named(each["env"], "HASH")["valueFrom"]


def test_what_is_meant_for_serving_replicas_is_not_the_captures():
    """A port of the node is taken where a replica serves; and a capture need not be beside or apart from one."""
    ports = [{"containerPort": 8000, "name": "http", "hostPort": 18000, "hostIP": "127.0.0.1"}]
    terms = [{"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}]
    beside = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    gone = {"topologySpreadConstraints": [{"maxSkew": 1}], "activeDeadlineSeconds": 12}
    kept = {"nodeSelector": {"gpu": "a"}, "tolerations": [{"operator": "Exists"}], "runtimeClassName": "nvidia"}
    spec = pod_of(
        shape(
            checkpoint(
                pod_template=template(
                    container(ports=copy.deepcopy(ports)),
                    container("logs", ports=copy.deepcopy(ports)),
                    initContainers=[container("fetch", ports=copy.deepcopy(ports))],
                    affinity={"podAntiAffinity": beside, "podAffinity": beside},
                    **gone,
                    **kept,
                )
            )
        )
    )
    assert {"nodeAffinity"} == spec["affinity"].keys()
    assert not gone.keys() & spec.keys()
    assert kept.items() <= spec.items()
    found = [each["ports"] for each in (*spec["containers"], *spec["initContainers"])]
    assert [[{"containerPort": 8000, "name": "http"}]] * 3 == found


def test_a_capture_is_one_attempt_whatever_the_containers_own_rules():
    own = {"restartPolicy": "Always", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In"}}]}
    job = shape(checkpoint(pod_template=template(container(**own), container("logs", **own))))
    assert not own.keys() & target_of(job).keys()
    (sidecar,) = pod_of(job)["initContainers"]
    assert ("Always", False) == (sidecar["restartPolicy"], "restartPolicyRules" in sidecar)


def test_seccomp_keeps_the_other_fields_and_can_be_switched_off():
    obj = checkpoint(pod_template=template(securityContext={"runAsUser": 1000}))
    profile = {"type": "Localhost", "localhostProfile": "profiles/block-iouring.json"}
    assert {"runAsUser": 1000, "seccompProfile": profile} == pod_of(shape(obj))["securityContext"]
    off = shape(obj, "checkpoint: {seccomp: {disabled: true}}")
    assert {"runAsUser": 1000} == pod_of(off)["securityContext"]


READY = {"key": "nvidia.com/snapshot-node", "operator": "In", "values": ["ready"]}
ZONE = {"key": "zone", "operator": "In", "values": ["a"]}


def test_required_affinity_goes_into_every_alternative():
    terms = [{"matchExpressions": [ZONE]}, {"matchFields": [ZONE]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    spec = pod_of(shape(checkpoint(pod_template=template(affinity={"nodeAffinity": required, "podAffinity": {}}))))
    shaped = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [
        {"matchExpressions": [ZONE, READY]},
        {"matchFields": [ZONE], "matchExpressions": [READY]},
    ] == shaped
    assert {"nodeAffinity"} == spec["affinity"].keys()


def test_affinity_can_be_preferred_or_absent():
    preferred = pod_of(shape(checkpoint(), "admission: {nodeAffinity: Preferred}"))["affinity"]["nodeAffinity"]
    entry = {"weight": 100, "preference": {"matchExpressions": [READY]}}
    assert {"preferredDuringSchedulingIgnoredDuringExecution": [entry]} == preferred
    assert "affinity" not in pod_of(shape(checkpoint(), "admission: {nodeAffinity: None}"))
