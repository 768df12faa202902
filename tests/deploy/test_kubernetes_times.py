"""Probes, drains, rollouts and scaling: the manifests' times agree with those of Envoy and of the processes."""

import re
from typing import Any

import pytest
from inference.process.worker import HEALTH_NAMES, SERVICE
from inference.settings import Settings as InferenceSettings
from web.settings import Settings as WebSettings

from tests.deploy.manifests import ROOT, TIERS, Manifests, clusters, envoy_config, seconds

# How long the cluster's DNS and the caches of the nodes may keep a name: the default of CoreDNS.
DNS_TTL_SECONDS = 30
# Until the Service and the proxy in front send no new connection to a terminating pod; an estimate.
ENDPOINT_SECONDS = 10
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@pytest.fixture(scope="module")
def envoy() -> dict[str, Any]:
    return dict(envoy_config()["static_resources"])


def stat_prefixes(envoy: dict[str, Any]) -> set[str]:
    """Return the names by which Envoy counts the requests in progress at its listeners."""
    managers = [found["filter_chains"][0]["filters"][0]["typed_config"] for found in envoy["listeners"]]
    return {manager["stat_prefix"] for manager in managers}


def routes(envoy: dict[str, Any], listener: str) -> list[dict[str, Any]]:
    (found,) = (found for found in envoy["listeners"] if found["name"] == listener)
    (host,) = found["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    return list(host["routes"])


def after_sleep(manifests: Manifests, tier: str) -> float:
    """Return what is left of a pod's grace period after preStop."""
    spec = manifests.pod(tier)["spec"]
    return float(spec["terminationGracePeriodSeconds"] - prestop_seconds(manifests, tier))


def prestop_seconds(manifests: Manifests, tier: str) -> int:
    """Return how long a terminating pod keeps serving, at least."""
    hook = manifests.container(tier)["lifecycle"]["preStop"]
    return int(hook["exec"]["command"][1] if tier == "envoy" else hook["sleep"]["seconds"])


def test_probes_use_existing_endpoints(overlay: Manifests, envoy: dict[str, Any]) -> None:
    """Ports, paths and names of the health service exist."""
    for probe in PROBES:
        asked = overlay.container("inference")[probe]["grpc"]
        assert asked["port"] == overlay.ports("inference")["grpc"]
        assert asked.get("service", "") == ("" if probe == "livenessProbe" else SERVICE)
        assert asked.get("service", "") in HEALTH_NAMES
        assert overlay.container("web")[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
        asked = overlay.container("envoy")[probe]["httpGet"]
        assert asked["port"] == "metrics"
        assert asked["path"] in {route["match"].get("path") for route in routes(envoy, "metrics")}
    ready, live = (overlay.container("envoy")[probe]["httpGet"]["path"] for probe in PROBES[1:])
    by_path = {route["match"].get("path"): route for route in routes(envoy, "metrics")}
    assert by_path[ready]["route"]["cluster"] == "admin"  # not ready while it drains
    assert "direct_response" in by_path[live]  # alive while it drains


def test_a_busy_or_slowly_starting_pod_is_not_killed(overlay: Manifests) -> None:
    """The supervisor gives up first on a worker that does not start or hangs."""
    settings = InferenceSettings()

    def patience(tier: str, probe: str) -> float:
        found = overlay.container(tier)[probe]
        assert found["timeoutSeconds"] <= found["periodSeconds"] + 1
        return float(found["periodSeconds"] * found["failureThreshold"])

    assert patience("inference", "startupProbe") > settings.start_seconds
    assert patience("inference", "livenessProbe") > settings.hang_seconds
    for tier in TIERS:
        assert patience(tier, "livenessProbe") > 3 * patience(tier, "readinessProbe")  # traffic leaves long before


def test_a_terminating_pod_serves_until_its_successor_is_known(overlay: Manifests, envoy: dict[str, Any]) -> None:
    """For the time that the name is cached, until Envoy's next lookup, and for its health checks."""
    for tier, cluster in clusters(envoy).items():
        (check,) = cluster["health_checks"]
        verdict = (seconds(check["interval"]) + seconds(check["timeout"])) * check["unhealthy_threshold"]
        look = seconds(cluster["cluster_type"]["typed_config"]["dns_refresh_rate"])
        assert prestop_seconds(overlay, tier) >= DNS_TTL_SECONDS + look + verdict


def test_the_grace_period_holds_the_drain_and_the_longest_request(overlay: Manifests, envoy: dict[str, Any]) -> None:
    """After preStop, each process stops by itself before Kubernetes kills it."""
    inference, web = InferenceSettings(), WebSettings()
    assert inference.grace_seconds >= inference.drain_seconds + inference.deadline_seconds
    assert after_sleep(overlay, "inference") > inference.grace_seconds
    assert after_sleep(overlay, "web") > web.grace_seconds >= web.deadline_seconds
    readiness = overlay.container("envoy")["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert prestop_seconds(overlay, "envoy") >= noticed + ENDPOINT_SECONDS
    longest = max(seconds(route["route"]["timeout"]) for route in routes(envoy, "edge") if "route" in route)
    assert after_sleep(overlay, "envoy") > longest
    script = (ROOT / "envoy/drain.sh").read_text()
    (named,) = re.findall(r"\^http\\\.\((\S+)\)\\\.downstream_rq_active", script)
    assert set(named.split("|")) == stat_prefixes(envoy) - {"metrics"}  # those on which requests are under way


def test_a_rollout_starts_the_new_pod_first(overlay: Manifests) -> None:
    """And a node's maintenance evicts one pod of a tier at a time, broken ones included."""
    for tier in TIERS:
        strategy = overlay.one("Deployment", tier)["spec"]["strategy"]
        assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        budget = overlay.one("PodDisruptionBudget", tier)["spec"]
        assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
        spreads = overlay.pod(tier)["spec"]["topologySpreadConstraints"]
        assert [found["topologyKey"] for found in spreads] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_scaling_neither_flaps_nor_drops(base: Manifests) -> None:
    """It scales down more slowly than up, one drained pod at a time, and keeps at least two pods."""
    assert base.names("HorizontalPodAutoscaler") == {"inference", "web"}
    for scaler in base.of("HorizontalPodAutoscaler"):
        spec, name = scaler["spec"], scaler["metadata"]["name"]
        assert 2 <= spec["minReplicas"] < spec["maxReplicas"]
        (metric,) = spec["metrics"]
        assert metric["resource"]["name"] == "cpu"
        up, down = spec["behavior"]["scaleUp"], spec["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] > up["stabilizationWindowSeconds"]
        (policy,) = down["policies"]
        assert (policy["type"], policy["value"]) == ("Pods", 1)
        assert policy["periodSeconds"] >= base.pod(name)["spec"]["terminationGracePeriodSeconds"]
