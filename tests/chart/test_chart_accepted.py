"""Thirty-one ways to install, each accepted object by object by the real API server."""

import json

import pytest

SEED_PLATFORM = {"checkpoint": {"enabled": True, "storage": {"type": "pvc", "pvc": {"pvcName": "shared-pvc"}}}}
STUB_VERSION = {
    "name": "v1",
    "served": True,
    "storage": True,
    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
}

VALUE_SETS = {
    "defaults": [],
    "seed-agent-mount": ["storage.pvc.create=true"],
    "seed-existing-claim": ["storage.pvc.create=false", "storage.pvc.name=my-pvc"],
    "seed-shared-agent": ["storage.accessMode=podMount", "storage.pvc.create=false", "rbac.namespaceRestricted=false"],
    "pod-mount-with-create": ["storage.accessMode=podMount", "storage.pvc.create=true"],
    "seed-crio": ["runtime.type=crio"],
    "seed-openshift": ["runtime.type=crio", "openshift.enabled=true"],
    "seed-wait": ["startupPolicy=WaitForCheckpoint", "waitTimeout=1h30m"],
    "seed-claim-details": [
        "storage.pvc.size=100Gi",
        "storage.pvc.storageClass=fast",
        "storage.pvc.accessMode=ReadWriteOnce",
        "storage.pvc.basePath=/data/checkpoints",
    ],
    "seed-operator-block": ["json:dynamo-operator=" + json.dumps(SEED_PLATFORM)],
    "claim-not-kept": ["storage.pvc.keep=false"],
    "own-socket": ["runtime.socketPath=/run/k3s/containerd/containerd.sock"],
    "gpu-nodes": ["gpu.enabled=true", "daemonset.nodeSelector.pool=gpu"],
    "gpu-nodes-and-others": [
        "gpu.enabled=true",
        "gpu.otherNodes=true",
        'json:daemonset.affinity={"podAntiAffinity":{}}',
    ],
    "images-and-secrets": [
        "controlPlane.image.repository=registry.example.com/cp",
        "controlPlane.image.tag=v1",
        "controlPlane.image.pullPolicy=Never",
        "controlPlane.imagePullSecrets[0].name=pull",
        "daemonset.image.repository=registry.example.com/agent",
        "daemonset.image.tag=v1",
        "daemonset.imagePullSecrets[0].name=pull",
        "daemonset.initContainer.image=busybox:1.36",
    ],
    "one-webhook-three-controllers": ["controlPlane.replicas=1", "controlPlane.controllerReplicas=3"],
    "placement": [
        "controlPlane.nodeSelector.role=infra",
        "controlPlane.tolerations[0].key=infra",
        "controlPlane.tolerations[0].operator=Exists",
        "controlPlane.priorityClassName=system-cluster-critical",
        'json:controlPlane.affinity={"nodeAffinity":{}}',
        'json:daemonset.affinity={"podAntiAffinity":{}}',
        "daemonset.tolerations=null",
    ],
    "labels-and-annotations": [
        "controlPlane.podLabels.team=x",
        "controlPlane.podAnnotations.note=y",
        "daemonset.podLabels.team=x",
        "daemonset.podAnnotations.note=y",
        "serviceAccount.annotations.note=z",
    ],
    "resources": [
        'json:controlPlane.resources={"limits":{"cpu":"1","memory":"1Gi"}}',
        "json:daemonset.resources={}",
    ],
    "fail-closed": ["webhook.failurePolicy=Fail", "webhook.timeoutSeconds=10"],
    "all-namespaces-but-some": [
        "rbac.namespaceRestricted=false",
        "webhook.excludedNamespaces={monitoring,istio-system}",
    ],
    "own-namespace-selector": ["webhook.namespaceSelector.matchLabels.snapshots=yes"],
    "cert-manager": ["webhook.certManager.enabled=true"],
    "cert-manager-issuer": [
        "webhook.certManager.enabled=true",
        "webhook.certManager.issuerRef.name=corp",
        "webhook.certManager.issuerRef.kind=ClusterIssuer",
        "webhook.certManager.issuerRef.group=cert-manager.io",
    ],
    "every-policy": ["policy.restoreVerb.enabled=true", "policy.unreachableMark.enabled=true"],
    "no-policy-but-the-node's": [
        "policy.require.enabled=false",
        "policy.agent.enabled=false",
        "policy.unreachableMark.enabled=false",
    ],
    "selected-pods": ["webhook.objectSelector.matchLabels.team=x"],
    "graphs-injected": [
        "graphDeployments.enabled=true",
        "placeholder.mode=inject",
        "placeholder.inject.via=imageVolume",
    ],
    "network-policy": ["networkPolicy.enabled=true"],
    "network-policy-metrics": [
        "networkPolicy.enabled=true",
        "networkPolicy.apiServerPorts={6443}",
        'json:networkPolicy.metricsFrom=[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]',
    ],
    "agent-only-with-foreign-rights": [
        "coexist=agentOnly",
        "serviceAccount.create=false",
        "serviceAccount.name=mine",
        "rbac.create=false",
        "seccomp.deploy=false",
        "fullnameOverride=other",
    ],
}


def stub_crd(kind):
    """A foreign kind that takes anything: cert-manager's own schema is not ours to test."""
    plural = kind.lower() + "s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.cert-manager.io"},
        "spec": {
            "group": "cert-manager.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [STUB_VERSION],
        },
    }


@pytest.fixture(scope="module")
def namespace(control_plane, new_namespace):
    control_plane.kubectl.apply([stub_crd("Issuer"), stub_crd("Certificate")])
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    return new_namespace()


def flags(settings):
    for setting in settings:
        yield from ("--set-json", setting.removeprefix("json:")) if setting.startswith("json:") else ("--set", setting)


def test_there_are_thirty_one_of_them():
    assert 31 == len(VALUE_SETS)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_api_server_accepts_every_object(control_plane, helm, namespace, name):
    objects = helm.render(*flags(VALUE_SETS[name]), namespace=namespace)
    stream = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    said = control_plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=stream
    )

    assert len(objects) == len(said.splitlines()), said
