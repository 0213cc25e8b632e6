"""How many GPUs a container asks for."""

import pytest

from contract.api.gpus import claim_templates, gpu_count, total_gpus
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
    ],
)
def test_by_resource_name(expected, resources):
    assert expected == gpu_count(container(resources=resources))


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
