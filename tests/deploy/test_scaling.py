"""docs/scaling.md is calculated from the numbers in the manifests."""

import pytest
from whole_path.scaling import CHECKS_OF_A_POD, PODS, Pods

from tests.deploy.manifests import ROOT, TIERS, Manifests, envoy_config, quantity, render


@pytest.fixture(scope="module")
def production() -> Manifests:
    """The overlay that the page describes."""
    return render(ROOT / "deploy/k8s/overlays/production")


@pytest.mark.parametrize("tier", TIERS)
def test_pods_are_those_of_the_production_overlay(production: Manifests, tier: str) -> None:
    """Their requests and the limits of the autoscaler."""
    cpu = production.container(tier)["resources"]
    requested = float(quantity(cpu["requests"]["cpu"]))
    if tier == "envoy":
        count = production.one("Deployment", tier)["spec"]["replicas"]
        assert PODS[tier] == Pods(requested, 1.0, count, count)
        assert float(quantity(cpu["limits"]["cpu"])) == 2 * requested
    else:
        scaler = production.one("HorizontalPodAutoscaler", tier)["spec"]
        (metric,) = scaler["metrics"]
        busy = metric["resource"]["target"]["averageUtilization"] / 100
        assert PODS[tier] == Pods(requested, busy, scaler["minReplicas"], scaler["maxReplicas"])


def test_each_envoy_checks_every_port_of_a_pod_each_second() -> None:
    """There are as many checks as endpoints of inference in envoy.yaml."""
    clusters = {cluster["name"]: cluster for cluster in envoy_config()["static_resources"]["clusters"]}
    (endpoints,) = clusters["inference"]["load_assignment"]["endpoints"]
    assert len(endpoints["lb_endpoints"]) == CHECKS_OF_A_POD
    assert [check["interval"] for check in clusters["inference"]["health_checks"]] == ["1s"]
