"""How many GPUs a container asks for."""

from pathlib import Path

import pytest

from contract.config.gpus import Gpu
from contract.nodes.accelerators import UNSUPPORTED, refused_resource
from contract.nodes.gpus import claim_templates, gpu_count, refused_claim, total_gpus
from tests.support.builders.devices import claim_template, claiming, exactly
from tests.support.builders.objects import container


@pytest.mark.parametrize(
    ("expected", "resources"),
    [
        pytest.param(0, {}, id="none"),
        pytest.param(2, {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "1"}}, id="limits-first"),
        pytest.param(3, {"requests": {"nvidia.com/gpu": 3}}, id="requests"),
        pytest.param(2, {"limits": {"nvidia.com/mig-1g.10gb": 1, "example.com/gpu": 1}}, id="other-names"),
        pytest.param(0, {"limits": {"cpu": "2", "nvidia.com/gpu": "-1"}}, id="no-number"),
        pytest.param(1, {"limits": {"nvidia.com/gpu.shared": "1"}}, id="time-slice"),
        pytest.param(2, {"limits": {"deviceclass.resource.kubernetes.io/gpu.nvidia.com": 2}}, id="by-class"),
        pytest.param(1, {"limits": {"nvidia.com/mig-3g.40gb": "1"}}, id="mig"),
        pytest.param(1, {"limits": {"nvidia.com/mig-1g.10gb.shared": "1"}}, id="shared-mig"),
        pytest.param(1, {"limits": {"amd.com/gpu": "1"}}, id="amd"),
        pytest.param(8, {"limits": {"aws.amazon.com/neuroncore": "8"}}, id="neuron"),
        pytest.param(0, {"limits": {"rdma/hca": "1", "nvidia.com/gds": "1"}}, id="other-devices"),
    ],
)
def test_by_resource_name(expected, resources):
    assert expected == gpu_count(container(resources=resources))


@pytest.mark.parametrize(
    ("device", "name"),
    [
        pytest.param("MIG devices", "nvidia.com/mig-1g.10gb", id="mig"),
        pytest.param("MIG devices", "nvidia.com/mig-1g.5gb.me", id="mig-with-media"),
        pytest.param("MIG devices", "nvidia.com/mig-1g.10gb.shared", id="shared-mig"),
        pytest.param("MIG devices", "deviceclass.resource.kubernetes.io/mig.nvidia.com", id="mig-by-class"),
        pytest.param("AMD GPUs", "deviceclass.resource.kubernetes.io/gpu.amd.com", id="amd-by-class"),
        pytest.param("AMD GPUs", "amd.com/gpu", id="amd"),
        pytest.param("AMD GPUs", "amd.com/cpx_nps4", id="amd-partition"),
        pytest.param("Intel GPUs", "gpu.intel.com/i915", id="i915"),
        pytest.param("Intel GPUs", "gpu.intel.com/xe", id="xe"),
        pytest.param("Intel Gaudi", "habana.ai/gaudi", id="gaudi"),
        pytest.param("AWS Neuron devices", "aws.amazon.com/neuron", id="neuron"),
        pytest.param("AWS Neuron devices", "aws.amazon.com/neuroncore", id="neuroncore"),
        pytest.param("Google TPUs", "google.com/tpu", id="tpu"),
        pytest.param("Google TPUs", "cloud-tpus.google.com/preemptible-v3", id="cloud-tpu"),
        pytest.param("Huawei Ascend", "huawei.com/Ascend910", id="ascend"),
    ],
)
@pytest.mark.parametrize("half", ["limits", "requests"])
def test_devices_that_are_refused_by_name_are_counted_too(device, name, half):
    asks = container(resources={half: {"cpu": "1", name: 2}})
    field, words = refused_resource(asks)
    assert f"resources.{half}[{name}]" == field
    assert words.startswith(device)
    assert "take the opt-in off" in words
    assert 2 == gpu_count(asks)


@pytest.mark.parametrize(
    "resources",
    [
        pytest.param({}, id="none"),
        pytest.param({"limits": {"nvidia.com/gpu": 8}}, id="nvidia"),
        pytest.param({"limits": {"nvidia.com/gpu.shared": 1}}, id="time-slice"),
        pytest.param({"limits": {"deviceclass.resource.kubernetes.io/gpu.nvidia.com": 1}}, id="nvidia-by-class"),
        pytest.param({"limits": {"amd.com/gpu": "0"}}, id="none-of-it"),
        pytest.param({"limits": {"amd.com/gpu-nic": 1, "example.com/gpu": 1}}, id="not-in-the-table"),
        pytest.param({"limits": {"memory": "1Gi", "rdma/hca": 1}}, id="no-accelerator"),
    ],
)
def test_what_is_not_refused(resources):
    assert refused_resource(container(resources=resources)) is None


@pytest.mark.parametrize(
    "name", ["mig.nvidia.com", "gpu.amd.com", "gpu.intel.com", "gaudi.intel.com", "neuron.aws.com", "tpu.google.com"]
)
def test_device_classes_that_are_refused_by_name_are_counted_too(name):
    resources, spec = claiming()
    templates = {"gpus": claim_template("gpus", exactly(deviceClassName=name))}
    template, words = refused_claim(spec, container(resources=resources), templates)
    assert "gpus" == template
    assert words.startswith(f"asks for devices of class {name}: ")
    assert 1 == total_gpus(spec, container(resources=resources), templates)


def test_the_page_names_every_device_and_driver_that_is_refused():
    page = (Path(__file__).parents[3] / "docs" / "gpu.md").read_text()
    for each in UNSUPPORTED:
        assert f"| {each.device} | `" in page
        assert all(f"`{name}`" in page for name in each.classes)
    for driver in Gpu().denied_drivers:
        assert f"| {driver.versions} | " in page
        assert f"| {driver.report} |" in page


ALTERNATIVES = {
    "name": "gpu",
    "firstAvailable": [
        {"name": "whole", "deviceClassName": "gpu.nvidia.com"},
        {"name": "part", "deviceClassName": "mig.nvidia.com"},
    ],
}


@pytest.mark.parametrize(
    ("refused", "template"),
    [
        pytest.param(True, claim_template("gpus", ALTERNATIVES), id="one-alternative-is-enough"),
        pytest.param(False, claim_template(), id="whole-gpus"),
        pytest.param(False, None, id="missing"),
    ],
)
def test_claims_that_are_refused(refused, template):
    resources, spec = claiming()
    assert refused == (refused_claim(spec, container(resources=resources), {"gpus": template}) is not None)


NIC = exactly("nic", deviceClassName="nic.example.com")


@pytest.mark.parametrize(
    ("expected", "template"),
    [
        pytest.param(1, claim_template(), id="one"),
        pytest.param(4, claim_template("gpus", exactly(count=4, allocationMode="ExactCount")), id="exact-count"),
        pytest.param(2, claim_template("gpus", exactly(allocationMode="All")), id="all-may-be-more-than-one"),
        pytest.param(1, claim_template("gpus", exactly(deviceClassName="mig.nvidia.com")), id="mig"),
        pytest.param(0, claim_template("gpus", NIC), id="no-gpu"),
        pytest.param(3, claim_template("gpus", exactly("a", count=2), NIC, exactly("b")), id="several-requests"),
        pytest.param(
            8,
            claim_template(
                "gpus",
                {
                    "name": "gpu",
                    "firstAvailable": [
                        {"name": "small", "deviceClassName": "mig.nvidia.com", "count": 8},
                        {"name": "large", "deviceClassName": "gpu.nvidia.com"},
                    ],
                },
            ),
            id="the-most-of-alternatives",
        ),
        pytest.param(0, None, id="missing"),
        pytest.param(0, {}, id="empty"),
    ],
)
def test_by_claims(expected, template):
    resources, spec = claiming()
    assert expected == total_gpus(spec, container(resources=resources), {"gpus": template})


def test_a_claim_may_mean_one_of_its_requests():
    resources, spec = claiming(request="b")
    template = claim_template("gpus", exactly("a", count=4), exactly("b", count=2))
    assert 2 == total_gpus(spec, container(resources=resources), {"gpus": template})


def test_both_ways_add_up():
    resources, spec = claiming()
    both = container(resources=resources | {"limits": {"nvidia.com/gpu": "1"}})
    assert 2 == total_gpus(spec, both, {"gpus": claim_template()})


@pytest.mark.parametrize(
    ("expected", "claims", "of_pod"),
    [
        pytest.param(("t",), [{"name": "a"}], [{"name": "a", "resourceClaimTemplateName": "t"}], id="its-own"),
        pytest.param((), [], [{"name": "a", "resourceClaimTemplateName": "t"}], id="of-another-container"),
        pytest.param((), [{"name": "a"}], [{"name": "a", "resourceClaimName": "c"}], id="a-claim-that-is-there"),
        pytest.param((), [{"name": "b"}], [{"name": "a", "resourceClaimTemplateName": "t"}], id="not-in-the-pod"),
        pytest.param(
            ("t",),
            [{"name": "a", "request": "x"}, {"name": "a", "request": "y"}],
            [{"name": "a", "resourceClaimTemplateName": "t"}],
            id="named-once",
        ),
    ],
)
def test_the_templates_of_a_containers_claims(expected, claims, of_pod):
    assert expected == claim_templates({"resourceClaims": of_pod}, container(resources={"claims": claims}))
