"""The manifests render in every combination, and their objects are valid."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.conftest import COMPONENTS
from tests.deploy.manifests import NAME, ROOT, TIERS, Manifests, flatten, render, render_with, selects

DOCUMENT = (ROOT / "docs/kubernetes.md").read_text()
SNIPPETS = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
Combined = dict[tuple[str, tuple[str, ...]], Manifests]

VERSIONS = ("1.32", "1.37")  # the oldest and the newest that docs/kubernetes.md claims
# The fields that the kinds of the components may have here, from the references of their projects: Kubernetes has no
# schema for them. `*` is any name.
FOREIGN = {
    ("monitoring.coreos.com/v1", "PodMonitor"): """
        selector.matchLabels.* podMetricsEndpoints.port podMetricsEndpoints.interval
        podMetricsEndpoints.relabelings.sourceLabels podMetricsEndpoints.relabelings.targetLabel
        podMetricsEndpoints.relabelings.replacement""",
    ("monitoring.coreos.com/v1", "PrometheusRule"): """
        groups.name groups.rules.record groups.rules.alert groups.rules.expr groups.rules.for groups.rules.labels.*
        groups.rules.annotations.*""",
    ("gateway.networking.k8s.io/v1", "Gateway"): """
        gatewayClassName listeners.name listeners.hostname listeners.port listeners.protocol listeners.tls.mode
        listeners.tls.certificateRefs.kind listeners.tls.certificateRefs.name
        listeners.allowedRoutes.namespaces.from""",
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): """
        parentRefs.name parentRefs.sectionName rules.backendRefs.name rules.backendRefs.port rules.timeouts.request""",
    ("gateway.networking.k8s.io/v1", "GRPCRoute"): """
        parentRefs.name parentRefs.sectionName rules.backendRefs.name rules.backendRefs.port""",
    ("cert-manager.io/v1", "Certificate"): """
        secretName dnsNames issuerRef.group issuerRef.kind issuerRef.name privateKey.algorithm privateKey.size
        privateKey.rotationPolicy""",
}


def fields(value: Any, path: str = "") -> set[str]:
    """Return the path of every field in a value, without indices of lists."""
    if isinstance(value, dict):
        return {name for key, part in value.items() for name in fields(part, f"{path}.{key}")}
    if isinstance(value, list):
        return {name for part in value for name in fields(part, path)}
    return {path.removeprefix(".")}


def unknown_fields(found: dict[str, Any]) -> set[str]:
    """Return the paths of fields that the kind of a component's object does not have."""
    known = {re.escape(name).replace(r"\*", ".+") for name in FOREIGN[found["apiVersion"], found["kind"]].split()}
    assert found.keys() == {"apiVersion", "kind", "metadata", "spec"}
    return {name for name in fields(found["spec"]) if not any(re.fullmatch(pattern, name) for pattern in known)}


def identity(found: dict[str, Any]) -> tuple[str, str, str]:
    return found["apiVersion"], found["kind"], found["metadata"]["name"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(combined: Combined, version: str) -> None:
    """According to the schema of the version, which rejects misspelt fields."""
    different = {json.dumps(found) for manifests in combined.values() for found in manifests.objects}
    checked = set()
    for found in map(json.loads, different):
        if (found["apiVersion"], found["kind"]) in FOREIGN:
            assert unknown_fields(found) == set()
        else:
            assert kubernetes_validate.validate(found, version, strict=True) == version
        checked.add(found["kind"])
    assert {"Deployment", "NetworkPolicy", "HorizontalPodAutoscaler", "Ingress"} | {
        kind for _, kind in FOREIGN
    } <= checked
    misspelt = deepcopy(combined["base", ()].one("Deployment", "web"))
    misspelt["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(misspelt, version, strict=True)
    misspelt = deepcopy(combined["base", COMPONENTS].one("PodMonitor", "facet"))
    misspelt["spec"]["podMetricEndpoints"] = misspelt["spec"].pop("podMetricsEndpoints")
    assert "podMetricEndpoints.port" in unknown_fields(misspelt)


def test_the_document_claims_the_versions_that_are_checked() -> None:
    """The oldest and the newest."""
    assert "Kubernetes {} to {}".format(*VERSIONS) in DOCUMENT


def test_objects_are_unique_and_in_one_namespace(combined: Combined) -> None:
    """The namespace is one of the objects."""
    for combination, manifests in combined.items():
        identities = [identity(found) for found in manifests.objects]
        assert len(identities) == len(set(identities)), combination
        namespaces = {found["metadata"].get("namespace") for found in manifests.objects if found["kind"] != "Namespace"}
        assert namespaces == manifests.names("Namespace") == {"facet"}, combination
        assert all(found["metadata"]["labels"]["app.kubernetes.io/part-of"] == "facet" for found in manifests.objects)


def test_a_component_is_one_switch(combined: Combined) -> None:
    """It adds its objects, and the Gateway replaces the Ingress."""
    for (overlay, components), manifests in combined.items():
        kinds = {found["kind"] for found in manifests.objects}
        entry = {"Gateway", "HTTPRoute", "GRPCRoute"} if "gateway-api" in components else {"Ingress"}
        assert kinds & {"Ingress", "Gateway", "HTTPRoute", "GRPCRoute"} == entry, (overlay, components)
        assert ({"PodMonitor", "PrometheusRule"} <= kinds) == ("monitoring" in components)
        assert ("Certificate" in kinds) == ("tls" in components)


def test_tls_is_at_the_ingress_or_the_gateway(combined: Combined) -> None:
    """It uses the secret of the certificate, and the certificate is for its host names."""
    for (_, components), manifests in combined.items():
        if "gateway-api" in components:  # which has TLS without the component, too
            listeners = manifests.one("Gateway", "facet")["spec"]["listeners"]
            secure = [listener for listener in listeners if listener["protocol"] == "HTTPS"]
            assert {found["name"] for found in listeners if found not in secure} == {"challenge"}
            secrets = {ref["name"] for listener in secure for ref in listener["tls"]["certificateRefs"]}
            hosts = [listener["hostname"] for listener in secure]
        elif "tls" in components:
            ingress = manifests.one("Ingress", "facet")["spec"]
            secrets = {entry["secretName"] for entry in ingress["tls"]}
            hosts = [host for entry in ingress["tls"] for host in entry["hosts"]]
            assert [rule["host"] for rule in ingress["rules"]] == hosts
        else:
            continue
        assert secrets == {"facet-tls"}
        if "tls" in components:
            certificate = manifests.one("Certificate", "facet")["spec"]
            assert (certificate["secretName"], certificate["dnsNames"]) == ("facet-tls", hosts)


def test_the_order_of_components_does_not_matter(combined: Combined, tmp_path: Path) -> None:
    """In any order they give the same objects."""
    for overlay in ("base", "overlays/production"):
        backwards = render_with(overlay, COMPONENTS[::-1], tmp_path)
        usual = combined[overlay, COMPONENTS]
        assert sorted(backwards.objects, key=identity) == sorted(usual.objects, key=identity)


def test_a_component_does_not_change_other_objects(tmp_path: Path) -> None:
    """For example a ConfigMap of the user in another namespace."""
    render_with("overlays/local", COMPONENTS, tmp_path)
    folder = tmp_path / "deploy/k8s/overlays/local"
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": "elsewhere"}}
    (folder / "own.yaml").write_text(yaml.safe_dump(own))
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    kustomization["resources"].append("own.yaml")
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    assert render(folder).one("ConfigMap", "own") == own


def test_routes_lead_from_the_gateway_to_envoy(combined: Combined) -> None:
    """Their listeners and ports exist, and no host name has two kinds of routes."""
    for (overlay, components), manifests in combined.items():
        for kind in ("HTTPRoute", "GRPCRoute") if "gateway-api" in components else ():
            route = manifests.one(kind, "facet")["spec"]
            (parent,) = route["parentRefs"]
            listeners = {
                found["name"]: found
                for found in manifests.one(parent.get("kind", "Gateway"), parent["name"])["spec"]["listeners"]
            }
            assert parent["sectionName"] == kind.removesuffix("Route").lower(), (overlay, components)
            assert listeners["http"]["hostname"] != listeners["grpc"]["hostname"]
            (backend,) = route["rules"][0]["backendRefs"]
            service = manifests.one("Service", backend["name"])["spec"]
            assert {port["name"]: port["port"] for port in service["ports"]}["edge"] == backend["port"]


def test_host_names_are_set_in_one_place(tmp_path: Path) -> None:
    """In hosts.yaml of the overlay, for the Ingress and for the Gateway."""
    copies = [
        (tmp_path / str(number), components) for number, components in enumerate((["tls"], ["gateway-api", "tls"]))
    ]
    for copy, components in copies:
        render_with("overlays/production", components, copy)
        hosts = copy / "deploy/k8s/overlays/production/hosts.yaml"
        hosts.write_text(hosts.read_text().replace("facet.example.com", "faces.test"))
        texts = [text for text in flatten(list(render(hosts.parent).objects)) if isinstance(text, str)]
        assert {"faces.test", "grpc.faces.test"} <= set(texts)
        assert not [text for text in texts if "facet.example.com" in text]


def test_a_change_of_envoys_configuration_rolls_its_pods(tmp_path: Path, base: Manifests) -> None:
    """The name of the ConfigMap contains its hash."""
    render_with("base", [], tmp_path)
    config = tmp_path / "envoy/envoy.yaml"
    config.write_text(config.read_text() + "# a change\n")
    changed = render(tmp_path / "deploy/k8s")
    assert changed.names("ConfigMap") != base.names("ConfigMap")
    assert changed.pod("envoy") != base.pod("envoy")
    assert all(changed.pod(tier) == base.pod(tier) for tier in TIERS if tier != "envoy")


def test_local_is_one_pod_of_each_tier_and_needs_only_the_images() -> None:
    """It needs no registry, no metrics and no operator."""
    manifests = render(ROOT / "deploy/k8s/overlays/local")
    assert not manifests.of("HorizontalPodAutoscaler")
    assert {found["spec"].get("replicas", 1) for found in manifests.of("Deployment")} == {1}
    assert {found["kind"] for found in manifests.objects} & {kind for _, kind in FOREIGN} == set()
    for tier in TIERS:
        assert manifests.container(tier)["image"] == f"facet-{tier}:latest"
        assert manifests.container(tier)["imagePullPolicy"] == "IfNotPresent"


def test_production_uses_images_of_a_version_from_a_registry() -> None:
    """Each tier starts with at least three pods."""
    manifests = render(ROOT / "deploy/k8s/overlays/production")
    assert {manifests.container(tier)["image"] for tier in TIERS} == {
        f"registry.example.com/facet-{tier}:0.1.0" for tier in TIERS
    }
    assert manifests.one("Deployment", "envoy")["spec"]["replicas"] >= 3
    assert {found["spec"]["minReplicas"] for found in manifests.of("HorizontalPodAutoscaler")} == {3}


def test_the_rules_are_those_of_compose(combined: Combined) -> None:
    """The alerts and the names of the jobs are the same."""
    manifests = combined["base", ("monitoring",)]
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    assert manifests.one("PrometheusRule", "facet")["spec"] == rules
    compose = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job["dns_sd_configs"][0]["port"] for job in compose["scrape_configs"]}
    monitor = manifests.one("PodMonitor", "facet")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["relabelings"] == [
        {
            "sourceLabels": ["__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", NAME)],
            "targetLabel": "job",
            "replacement": "facet-$1",
        }
    ]
    monitored = {}
    for tier in TIERS:
        labels = manifests.pod(tier)["metadata"]["labels"]
        assert selects(monitor["selector"], labels)
        monitored[f"facet-{labels[NAME]}"] = manifests.ports(tier)[endpoint["port"]]
    assert monitored == jobs


def test_the_documents_commands_name_existing_objects(overlay: Manifests) -> None:
    """Folders that render, objects and ports in them, and labels of pods."""
    commands = [line for line in re.findall(r"^ *\$ (.*)$", DOCUMENT, re.MULTILINE) if line.startswith("kubectl")]
    folders = {folder for line in commands for folder in re.findall(r"(?:-k|kustomize) (\S+)", line)}
    assert folders == {"deploy/k8s/overlays/local", "deploy/k8s/overlays/production"}
    for line in commands:
        for kind, name in re.findall(r"(deployment|service)/(\w+)", line):
            assert overlay.one(kind.capitalize(), name), line
        for namespace in re.findall(r"-n (\w+)", line):
            assert overlay.names("Namespace") == {namespace}
        for label in re.findall(r"-l (\S+)", line):
            key, value = label.split("=")
            assert overlay.pod(value)["metadata"]["labels"][key] == value
        for service, port in re.findall(r"port-forward service/(\w+) \d+:(\d+)", line):
            assert int(port) in {found["port"] for found in overlay.one("Service", service)["spec"]["ports"]}
    assert sum("port-forward" in line for line in commands) == 1


def test_the_document_lists_every_port_for_a_mesh(base: Manifests) -> None:
    """It lists the ports of all containers. The manifests name only the first of the workers' own ports."""
    listed = {
        (tier, int(first))
        for tier, first in re.findall(r"^\| (\w+) \| (\d+)(?: to \d+)? \| \S*(?:h2c|HTTP)", DOCUMENT, re.MULTILINE)
    }
    assert listed == {(tier, port) for tier in TIERS for port in base.ports(tier).values()}


def test_the_documents_policy_for_a_mesh_is_valid() -> None:
    """No overlay contains it."""
    policy = yaml.safe_load(SNIPPETS[1])
    assert policy["kind"] == "NetworkPolicy"
    for version in VERSIONS:
        assert kubernetes_validate.validate(policy, version, strict=True) == version


@pytest.mark.parametrize("tier", ["inference", "web"])
def test_the_documents_patch_does_what_it_says(tmp_path: Path, tier: str) -> None:
    """A setting reaches the tier that the patch names."""
    render_with("overlays/local", [], tmp_path)
    kustomization = tmp_path / "deploy/k8s/overlays/local/kustomization.yaml"
    snippet, _ = SNIPPETS
    settings = yaml.safe_load(kustomization.read_text())
    settings["patches"] += yaml.safe_load(snippet.replace("inference", tier))["patches"]
    kustomization.write_text(yaml.safe_dump(settings))
    variables = {found["name"]: found for found in render(kustomization.parent).container(tier)["env"]}
    assert variables.pop("FACET_LOG_LEVEL")["value"] == "DEBUG"
    assert set(variables) == ({"FACET_WORKERS"} if tier == "inference" else set())


def test_another_namespace_is_one_line(tmp_path: Path) -> None:
    """As the document shows."""
    render_with("overlays/production", ["monitoring", "tls"], tmp_path)
    kustomization = tmp_path / "deploy/k8s/overlays/production/kustomization.yaml"
    kustomization.write_text(f"{kustomization.read_text()}namespace: faces\n")
    manifests = render(kustomization.parent)
    assert {found["metadata"].get("namespace", "faces") for found in manifests.objects} == {"faces"}
    assert manifests.names("Namespace") == {"faces"}
