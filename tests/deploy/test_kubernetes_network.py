"""The NetworkPolicies as a graph: they allow the connections of the design and no others."""

import json
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from inference.settings import MAX_WORKERS
from inference.settings import Settings as InferenceSettings

from tests.deploy.manifests import NAME, TIERS, Manifests, envoy_config, selects

FIRST_WORKER = InferenceSettings().worker_port
WORKER_PORTS = range(FIRST_WORKER, FIRST_WORKER + MAX_WORKERS + 1)
ADMIN_PORT = envoy_config()["admin"]["address"]["socket_address"]["port_value"]
SOLVER = "acme.cert-manager.io/http01-solver"


@dataclass(frozen=True)
class Pod:
    """A caller or a callee; outside the cluster there are no labels."""

    name: str
    namespace: str
    labels: dict[str, str] = field(default_factory=dict, hash=False)


OUTSIDE = Pod("outside", "")
INGRESS_CONTROLLER = Pod("ingress-controller", "ingress", {NAME: "traefik"})
PROMETHEUS = Pod("prometheus", "monitoring", {NAME: "prometheus"})
GRAFANA = Pod("grafana", "monitoring", {NAME: "grafana"})
SHAM = Pod("prometheus-elsewhere", "other", {NAME: "prometheus"})
DNS = Pod("dns", "kube-system", {"k8s-app": "kube-dns"})
SYSTEM = Pod("metrics-server", "kube-system", {"k8s-app": "metrics-server"})
COLLECTOR = Pod("collector", "monitoring", {NAME: "opentelemetry-collector"})
STRANGER = Pod("stranger", "facet")
OTHERS = (OUTSIDE, INGRESS_CONTROLLER, PROMETHEUS, GRAFANA, SHAM, DNS, SYSTEM, COLLECTOR, STRANGER)


def everybody(manifests: Manifests) -> list[Pod]:
    return [*(Pod(tier, "facet", manifests.pod(tier)["metadata"]["labels"]) for tier in TIERS), *OTHERS]


def is_peer(peer: dict[str, Any], pod: Pod) -> bool:
    """Say whether a peer of a rule matches a pod; all of its selectors must."""
    assert peer, "an empty peer is a mistake"
    assert set(peer) <= {"namespaceSelector", "podSelector"}, peer
    if "namespaceSelector" in peer:
        if not pod.namespace or not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": pod.namespace}):
            return False
    elif pod.namespace != "facet":
        return False
    return selects(peer.get("podSelector", {}), pod.labels)


def opens(rule: dict[str, Any], direction: str, pod: Pod, protocol: str, port: int) -> bool:
    """Say whether a rule allows a pod and a port; without peers it allows all pods, without ports all ports."""
    peers, ports = rule.get(direction, []), rule.get("ports", [])
    return (not peers or any(is_peer(peer, pod) for peer in peers)) and (
        not ports
        or any(
            found["protocol"] == protocol and found["port"] <= port <= found.get("endPort", found["port"])
            for found in ports
        )
    )


def side(policies: list[dict[str, Any]], way: str, pod: Pod, other: Pod, protocol: str, port: int) -> bool:
    """Say whether the policies of a pod allow connections from (Ingress) or to (Egress) another."""
    if pod.namespace != "facet":
        return True
    mine = [
        found["spec"]
        for found in policies
        if selects(found["spec"]["podSelector"], pod.labels) and way in found["spec"]["policyTypes"]
    ]
    rules = [rule for spec in mine for rule in spec.get(way.lower(), [])]
    direction = "from" if way == "Ingress" else "to"
    return not mine or any(opens(rule, direction, other, protocol, port) for rule in rules)


def arrows(
    policies: list[dict[str, Any]], pods: list[Pod], ports: Iterable[tuple[str, int]]
) -> set[tuple[str, str, str, int]]:
    """Return who may call whom, if at least one of them is in the namespace."""
    return {
        (caller.name, called.name, protocol, port)
        for caller in pods
        for called in pods
        for protocol, port in ports
        if caller != called
        and "facet" in (caller.namespace, called.namespace)
        and side(policies, "Egress", caller, called, protocol, port)
        and side(policies, "Ingress", called, caller, protocol, port)
    }


def interesting_ports(manifests: Manifests) -> list[tuple[str, int]]:
    """Return the ports of all containers, those next to the workers', and some that must stay closed."""
    ours = {port for tier in TIERS for port in manifests.ports(tier).values()}
    numbers = ours | {*WORKER_PORTS, FIRST_WORKER - 1, WORKER_PORTS[-1] + 1, ADMIN_PORT, 53, 80, 443, 4317, 8089}
    return [(protocol, port) for port in sorted(numbers) for protocol in ("TCP", "UDP")]


def design(manifests: Manifests) -> set[tuple[str, str, str, int]]:
    """Return the connections of the design, with DNS and Prometheus."""
    ports = {tier: manifests.ports(tier) for tier in TIERS}
    cluster = {other.name for other in OTHERS if other != STRANGER}
    return {
        *((client, "envoy", "TCP", ports["envoy"]["edge"]) for client in cluster),
        ("envoy", "web", "TCP", ports["web"]["http"]),
        ("web", "envoy", "TCP", ports["envoy"]["internal"]),
        *(("envoy", "inference", "TCP", port) for port in WORKER_PORTS),
        *((tier, "dns", protocol, 53) for tier in ("envoy", "web") for protocol in ("TCP", "UDP")),
        *(("prometheus", tier, "TCP", ports[tier]["metrics"]) for tier in TIERS),
    }


def test_the_policies_allow_the_connections_of_the_design_and_no_others(overlay: Manifests) -> None:
    """From the namespace, from the cluster and from outside."""
    found = arrows(overlay.of("NetworkPolicy"), everybody(overlay), interesting_ports(overlay))
    assert found == design(overlay)


def test_components_allow_only_their_own_connections(combined: dict[Any, Manifests]) -> None:
    """To the pod of cert-manager, which calls nobody, and to the collector of traces, which workers look up too."""
    known: dict[str, set[tuple[str, str, str, int]]] = {}
    for (_, components), manifests in combined.items():
        solver = Pod("solver", "facet", {SOLVER: "true"})
        pods, ports = [*everybody(manifests), solver], interesting_ports(manifests)
        policies = manifests.of("NetworkPolicy")
        same = json.dumps([policies, [pod.labels for pod in pods], ports])  # as in another combination
        found = known[same] = known.get(same) or arrows(policies, pods, ports)
        challenge = {(other.name, "solver", "TCP", 8089) for other in OTHERS if other != STRANGER}
        traces = {(tier, "collector", "TCP", 4317) for tier in TIERS}
        traces |= {("inference", "dns", protocol, 53) for protocol in ("TCP", "UDP")}
        added = (challenge if "tls" in components else set()) | (traces if "traces" in components else set())
        assert found == design(manifests) | added


def test_a_missing_or_an_additional_connection_is_noticed(base: Manifests) -> None:
    """By the evaluation of policies that the other tests use."""
    policies = base.of("NetworkPolicy")
    ports, pods = interesting_ports(base), everybody(base)
    for name in ("envoy", "web", "inference", "default-deny"):
        fewer = [found for found in policies if found["metadata"]["name"] != name]
        assert arrows(fewer, pods, ports) != design(base), name
    for tier in TIERS:
        wider = deepcopy(policies)
        (policy,) = (found for found in wider if found["metadata"]["name"] == tier)
        policy["spec"]["ingress"][-1]["from"][0].pop("namespaceSelector")
        assert arrows(wider, pods, ports) != design(base), tier
    nobody = [found for found in policies if found["metadata"]["name"] == "default-deny"]
    assert arrows(nobody, pods, ports) == set()
