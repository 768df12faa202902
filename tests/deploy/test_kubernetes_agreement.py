"""The manifests agree with each other, with envoy.yaml, the settings and compose, which no schema can check."""

import re
from typing import Any

import pytest
import yaml
from inference.settings import MAX_WORKERS, WORKER_BYTES
from inference.settings import Settings as InferenceSettings
from web.settings import Settings as WebSettings

from tests.deploy.manifests import NAME, ROOT, TIERS, Manifests, clusters, envoy_config, flatten, quantity, selects


@pytest.fixture(scope="module")
def envoy() -> dict[str, Any]:
    return dict(envoy_config()["static_resources"])


def listeners(envoy: dict[str, Any]) -> dict[str, int]:
    return {found["name"]: found["address"]["socket_address"]["port_value"] for found in envoy["listeners"]}


def addresses(cluster: dict[str, Any]) -> list[tuple[str, int]]:
    (group,) = cluster["load_assignment"]["endpoints"]
    sockets = [entry["endpoint"]["address"]["socket_address"] for entry in group["lb_endpoints"]]
    return [(socket["address"], socket["port_value"]) for socket in sockets]


def workers(manifests: Manifests) -> int:
    """Return the number of workers in a pod: FACET_WORKERS, as Kubernetes computes it."""
    container = manifests.container("inference")
    (variable,) = (found for found in container["env"] if found["name"] == "FACET_WORKERS")
    source = variable["valueFrom"]["resourceFieldRef"]
    assert source["resource"] == "limits.cpu"
    assert source.get("divisor", "0") in ("0", "1")
    count = quantity(container["resources"]["limits"]["cpu"])
    assert count == int(count), "a part of a CPU would be a worker that is always held up"
    return int(count)


def test_every_selector_matches_the_tier_of_its_name(overlay: Manifests) -> None:
    """For Deployment, Service, PodDisruptionBudget, topology spread, autoscaler and ServiceAccount."""
    labels = {tier: overlay.pod(tier)["metadata"]["labels"] for tier in TIERS}
    assert overlay.names("Deployment") == overlay.names("Service") == overlay.names("PodDisruptionBudget") == set(TIERS)
    for tier in TIERS:
        deployment = overlay.one("Deployment", tier)["spec"]
        selectors = [
            deployment["selector"],
            {"matchLabels": overlay.one("Service", tier)["spec"]["selector"]},
            overlay.one("PodDisruptionBudget", tier)["spec"]["selector"],
        ]
        for selector in selectors:
            assert {name for name in TIERS if selects(selector, labels[name])} == {tier}
        for spread in overlay.pod(tier)["spec"]["topologySpreadConstraints"]:
            assert selects(spread["labelSelector"], labels[tier])
            assert NAME in spread["matchLabelKeys"]  # only pods of the same tier count
        assert overlay.pod(tier)["spec"]["serviceAccountName"] == tier
        assert tier in overlay.names("ServiceAccount")
    for scaler in overlay.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert overlay.one(target["kind"], target["name"])["apiVersion"] == target["apiVersion"]
        assert target["name"] == scaler["metadata"]["name"]
        assert "replicas" not in overlay.one("Deployment", target["name"])["spec"]  # two masters of one number


def test_ports_are_the_same_in_pod_service_envoy_settings_and_compose(
    overlay: Manifests, envoy: dict[str, Any]
) -> None:
    """By name and number; Envoy's ports have the names of its listeners."""
    inference, web = InferenceSettings(), WebSettings()
    assert overlay.ports("envoy") == listeners(envoy)
    assert overlay.ports("web") == {"http": web.web_port, "metrics": web.web_metrics_port}
    assert overlay.ports("inference") == {
        "grpc": inference.port,
        "metrics": inference.metrics_port,
        "worker": inference.worker_port,
    }
    for tier in TIERS:
        for port in overlay.one("Service", tier)["spec"]["ports"]:
            assert port["name"] == port["targetPort"]
            assert port["port"] == overlay.ports(tier)[port["targetPort"]]
    compose = yaml.safe_load((ROOT / "deploy/docker-compose.yml").read_text())["services"]
    said = {name: value for tier in ("web", "inference") for name, value in compose[tier]["environment"].items()}
    for tier, variables in {
        "web": {"http": "FACET_WEB_PORT", "metrics": "FACET_WEB_METRICS_PORT"},
        "inference": {"grpc": "FACET_PORT", "metrics": "FACET_METRICS_PORT", "worker": "FACET_WORKER_PORT"},
    }.items():
        assert overlay.ports(tier) == {name: said[variable] for name, variable in variables.items()}
    (published,) = compose["envoy"]["ports"]
    assert published.endswith(f":{overlay.ports('envoy')['edge']}")


def test_names_resolve_to_pods_or_to_the_service_as_each_client_needs(
    overlay: Manifests, envoy: dict[str, Any]
) -> None:
    """Envoy balances and needs the address of every pod; the gateway uses one address for all Envoys."""
    for name, cluster in clusters(envoy).items():
        service = overlay.one("Service", name)["spec"]
        assert service["clusterIP"] == "None"
        assert {host for host, _ in addresses(cluster)} == {name}
        assert addresses(cluster)[0][1] in {port["port"] for port in service["ports"]}
    assert "clusterIP" not in overlay.one("Service", "envoy")["spec"]
    assert WebSettings().inference_target == f"envoy:{overlay.ports('envoy')['internal']}"
    for tier in TIERS:  # settings that others depend on stay at their defaults
        names = {found["name"] for found in overlay.container(tier).get("env", [])}
        assert names == ({"FACET_WORKERS"} if tier == "inference" else set())


def test_a_pod_has_as_many_workers_as_cpus_and_envoy_an_endpoint_for_each(
    overlay: Manifests, envoy: dict[str, Any]
) -> None:
    """Another endpoint is for the successor in a rolling restart. Memory suffices for the most expensive images."""
    count = workers(overlay)
    assert 1 <= count <= MAX_WORKERS
    first = overlay.ports("inference")["worker"]
    endpoints = addresses(clusters(envoy)["inference"])
    assert {("inference", first + slot) for slot in range(count + 1)} <= set(endpoints)
    resources = overlay.container("inference")["resources"]
    assert quantity(resources["requests"]["cpu"]) == count
    assert quantity(resources["limits"]["memory"]) == count * WORKER_BYTES


def test_the_workers_share_no_resources(base: Manifests) -> None:
    """Requests equal limits, so that a full node does not slow them down."""
    resources = base.container("inference")["resources"]
    assert resources["requests"] == resources["limits"]


def test_every_container_has_requests_within_its_limits(overlay: Manifests) -> None:
    """For CPU and memory; Envoy has as many threads as CPUs."""
    for tier in TIERS:
        resources = overlay.container(tier)["resources"]
        assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}
        for name, text in resources["requests"].items():
            assert 0 < quantity(text) <= quantity(resources["limits"][name]), (tier, name)
    arguments = overlay.container("envoy")["args"]
    limit = quantity(overlay.container("envoy")["resources"]["limits"]["cpu"])
    assert int(arguments[arguments.index("--concurrency") + 1]) == limit


@pytest.mark.parametrize("text", ["2CPU", "1.5.5", "", "Gi", "-1", "1 Gi"])
def test_an_invalid_quantity_is_rejected(text: str) -> None:
    """By the parser of these tests."""
    with pytest.raises(ValueError, match=f"^{text}$"):
        quantity(text)


def test_memory_limits_are_those_of_compose(overlay: Manifests) -> None:
    """The limits in envoy.yaml are calculated from them."""
    compose = (ROOT / "deploy/docker-compose.yml").read_text()
    megabytes = int(re.findall(r"FACET_ENVOY_MEMORY:-(\d+)m", compose)[0])
    limit = quantity(overlay.container("envoy")["resources"]["limits"]["memory"])
    assert limit == megabytes * 2**20
    heaps = [
        found["max_heap_size_bytes"]
        for found in flatten(envoy_config())
        if isinstance(found, dict) and "max_heap_size_bytes" in found
    ]
    assert heaps == [limit / 2]
    gigabytes = int(re.findall(r"FACET_WEB_MEMORY:-(\d+)g", compose)[0])
    assert quantity(overlay.container("web")["resources"]["limits"]["memory"]) == gigabytes * 2**30


def test_every_referenced_object_exists(combined: dict[Any, Manifests]) -> None:
    """ConfigMaps with Envoy's configuration, volumes, and the services and ports behind Ingress and Gateway."""
    for manifests in combined.values():
        spec = manifests.pod("envoy")["spec"]
        (volume,) = spec["volumes"]
        (mount,) = manifests.container("envoy")["volumeMounts"]
        assert mount["name"] == volume["name"]
        config = manifests.one("ConfigMap", volume["configMap"]["name"])
        assert volume["configMap"]["defaultMode"] & 0o004, "Envoy's user is neither owner nor group"
        arguments = manifests.container("envoy")["args"]
        folder, _, name = arguments[arguments.index("--config-path") + 1].rpartition("/")
        assert folder == mount["mountPath"]
        assert config["data"][name] == (ROOT / "envoy/envoy.yaml").read_text()
        for tier in ("web", "inference"):
            assert "volumes" not in manifests.pod(tier)["spec"]
        for ingress in manifests.of("Ingress"):
            for rule in ingress["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    backend = path["backend"]["service"]
                    ports = manifests.one("Service", backend["name"])["spec"]["ports"]
                    assert backend["port"]["name"] in {port["name"] for port in ports}


def test_pods_run_what_the_images_run(overlay: Manifests) -> None:
    """With the commands of the images; Envoy's arguments add the number of threads."""
    for tier in TIERS:
        assert "command" not in overlay.container(tier)
        assert ("args" in overlay.container(tier)) == (tier == "envoy")
    (command,) = re.findall(r"^CMD (\[.*\])$", (ROOT / "envoy/Dockerfile").read_text(), re.MULTILINE)
    assert overlay.container("envoy")["args"][:-2] == yaml.safe_load(command)
    (hook,) = re.findall(r"^COPY .* (\S+drain)$", (ROOT / "envoy/Dockerfile").read_text(), re.MULTILINE)
    assert overlay.container("envoy")["lifecycle"]["preStop"]["exec"]["command"][0] == hook
    for tier, folder in {"envoy": "envoy", "web": "services/web", "inference": "services/inference"}.items():
        (user,) = re.findall(r"^USER (\d+:\d+)$", (ROOT / folder / "Dockerfile").read_text(), re.MULTILINE)
        context = overlay.pod(tier)["spec"]["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user


def test_labels_select_the_pods_of_a_tier(overlay: Manifests) -> None:
    """As in kubectl logs -l app.kubernetes.io/name=inference."""
    for tier in TIERS:
        assert overlay.pod(tier)["metadata"]["labels"] == {NAME: tier, "app.kubernetes.io/part-of": "facet"}
