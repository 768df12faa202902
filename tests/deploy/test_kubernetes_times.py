"""Probes, drains, rollouts and scaling: the manifests' times agree with those of Envoy and of the processes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from inference.process.worker import HEALTH_NAMES, SERVICE
from inference.settings import Settings as InferenceSettings
from web.settings import Settings as WebSettings

from tests.deploy.manifests import ROOT, TIERS, Manifests, clusters, envoy_config, seconds

# How long a name may be remembered on the way from the cluster's DNS to Envoy: CoreDNS' default, and a node's cache.
DNS_TTL_SECONDS = 30
# Until the Service and whoever stands before it send no new connection to a pod that is to go; an estimate.
ENDPOINT_SECONDS = 10
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@pytest.fixture(scope="module")
def envoy() -> dict[str, Any]:
    return dict(envoy_config()["static_resources"])


def stat_prefixes(envoy: dict[str, Any]) -> set[str]:
    """Give the names under which Envoy counts what is under way at its listeners."""
    managers = [found["filter_chains"][0]["filters"][0]["typed_config"] for found in envoy["listeners"]]
    return {manager["stat_prefix"] for manager in managers}


def routes(envoy: dict[str, Any], listener: str) -> list[dict[str, Any]]:
    (found,) = (found for found in envoy["listeners"] if found["name"] == listener)
    (host,) = found["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    return list(host["routes"])


def after_sleep(manifests: Manifests, tier: str) -> float:
    """Give what a tier's pod has left of its grace period when preStop has ended."""
    spec = manifests.pod(tier)["spec"]
    return float(spec["terminationGracePeriodSeconds"] - prestop_seconds(manifests, tier))


def prestop_seconds(manifests: Manifests, tier: str) -> int:
    """Give how long a pod that is to go is left as it is, at least."""
    hook = manifests.container(tier)["lifecycle"]["preStop"]
    return int(hook["exec"]["command"][1] if tier == "envoy" else hook["sleep"]["seconds"])


def test_probes_ask_for_what_is_answered(overlay: Manifests, envoy: dict[str, Any]) -> None:
    """On ports and paths that there are, and by names that the workers' health service knows."""
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
    assert by_path[ready]["route"]["cluster"] == "admin"  # which says no when it drains
    assert "direct_response" in by_path[live]  # which does not


def test_nobody_is_killed_who_is_only_busy_or_slow_to_start(overlay: Manifests) -> None:
    """The supervisor's own patience ends first: with a worker that does not start, and with one that hangs."""
    settings = InferenceSettings()

    def patience(tier: str, probe: str) -> float:
        found = overlay.container(tier)[probe]
        assert found["timeoutSeconds"] <= found["periodSeconds"] + 1
        return float(found["periodSeconds"] * found["failureThreshold"])

    assert patience("inference", "startupProbe") > settings.start_seconds
    assert patience("inference", "livenessProbe") > settings.hang_seconds
    for tier in TIERS:
        assert patience(tier, "livenessProbe") > 3 * patience(tier, "readinessProbe")  # traffic leaves long before


def test_a_pod_that_is_to_go_serves_until_its_successor_is_known(overlay: Manifests, envoy: dict[str, Any]) -> None:
    """The name's time in caches, Envoy's next look at it, and the health checks until a verdict is reached."""
    for tier, cluster in clusters(envoy).items():
        (check,) = cluster["health_checks"]
        verdict = (seconds(check["interval"]) + seconds(check["timeout"])) * check["unhealthy_threshold"]
        look = seconds(cluster["cluster_type"]["typed_config"]["dns_refresh_rate"])
        assert prestop_seconds(overlay, tier) >= DNS_TTL_SECONDS + look + verdict


def test_the_grace_period_holds_the_drain_and_the_longest_request(overlay: Manifests, envoy: dict[str, Any]) -> None:
    """After preStop; each process gives up by itself before Kubernetes kills it."""
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
    """And a node's maintenance takes one pod of a tier at a time, also a broken one."""
    for tier in TIERS:
        strategy = overlay.one("Deployment", tier)["spec"]["strategy"]
        assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        budget = overlay.one("PodDisruptionBudget", tier)["spec"]
        assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
        spreads = overlay.pod(tier)["spec"]["topologySpreadConstraints"]
        assert [found["topologyKey"] for found in spreads] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_scaling_neither_flaps_nor_drops(base: Manifests) -> None:
    """Down slower than up, and no second pod goes before the first has drained; and one pod may always be lost."""
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
