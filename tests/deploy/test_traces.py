"""Every deployment configures traces alike: Envoy's configuration and the name of the collector."""

import re
from pathlib import Path
from typing import Any

import inference.settings
import pytest
import web.settings
import yaml
from inference.settings import Settings as InferenceSettings
from pydantic import ValidationError
from web.settings import Settings as WebSettings

from tests.deploy.manifests import ROOT, TIERS, Manifests, Object, render, render_with
from tools.serve.plan import CannotServe
from tools.serve.rendering import envoy_traces

COLLECTOR = "http://collector:4317"


@pytest.fixture(scope="module")
def envoy_config() -> Object:
    """Envoy's configuration for traces."""
    config: Object = yaml.safe_load((ROOT / "envoy/traces.yaml").read_text())
    return config


@pytest.fixture(scope="module")
def override() -> Object:
    services: Object = yaml.safe_load((ROOT / "deploy/docker-compose.traces.yml").read_text())["services"]
    return services


def address(config: Object) -> Object:
    (cluster,) = config["static_resources"]["clusters"]
    (group,) = cluster["load_assignment"]["endpoints"]
    (endpoint,) = group["lb_endpoints"]
    found: Object = endpoint["endpoint"]["address"]["socket_address"]
    return found


def test_compose_adds_the_file_to_the_command_of_the_image(override: Object, envoy_config: Object) -> None:
    """Unchanged, except for the comments."""
    (command,) = re.findall(r"^CMD (\[.*\])$", (ROOT / "envoy/Dockerfile").read_text(), re.MULTILINE)
    *before, skip, flag, text = override["envoy"]["command"]
    assert (before, skip, flag) == (yaml.safe_load(command), "--skip-deprecated-logs", "--config-yaml")
    assert yaml.safe_load(text.replace("${FACET_TRACE_PERCENT:-100}", "100")) == envoy_config


def test_kubernetes_adds_the_same_to_its_command(combined: dict[Any, Manifests], envoy_config: Object) -> None:
    """In every overlay, and nothing without the component."""
    for (overlay, components), manifests in combined.items():
        before = combined[overlay, ()].container("envoy")["args"]
        added = manifests.container("envoy")["args"][len(before) :]
        if "traces" in components:
            assert added[:-1] == ["--skip-deprecated-logs", "--config-yaml"]
            (percent,) = manifests.container("envoy")["env"]
            assert yaml.safe_load(added[-1].replace(f"$({percent['name']})", percent["value"])) == envoy_config
        else:
            assert added == []


def test_the_collector_has_one_name(combined: dict[Any, Manifests], override: Object, envoy_config: Object) -> None:
    """In all tiers, with compose and on Kubernetes."""
    assert "http://{address}:{port_value}".format(**address(envoy_config)) == COLLECTOR
    manifests = combined["base", ("traces",)]
    for tier in TIERS[1:]:
        variables = {found["name"]: found.get("value") for found in manifests.container(tier)["env"]}
        assert variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == COLLECTOR
        assert override[tier]["environment"] == {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR}
    assert manifests.one("Service", "collector")["spec"]["type"] == "ExternalName"
    networks = yaml.safe_load((ROOT / "deploy/docker-compose.yml").read_text())["services"]
    for tier in TIERS:  # the two networks into which the collector is put
        assert {"gateway", "workers"} & set(networks[tier]["networks"])


def test_the_documents_patches_lead_to_another_collector(tmp_path: Path) -> None:
    """They set its name, its namespace and the percentage of traces."""
    render_with("overlays/local", [], tmp_path)
    kustomization = tmp_path / "deploy/k8s/overlays/local/kustomization.yaml"
    (snippet,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    settings, example = yaml.safe_load(kustomization.read_text()), yaml.safe_load(snippet)
    settings["patches"] += example["patches"]
    kustomization.write_text(yaml.safe_dump(settings | {"components": example["components"]}))
    manifests = render(kustomization.parent)
    assert manifests.one("Service", "collector")["spec"]["externalName"] == "collector.tracing.svc.cluster.local"
    collector, dns = manifests.one("NetworkPolicy", "traces")["spec"]["egress"]
    assert collector["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tracing"}}}]
    assert collector["ports"] == [{"protocol": "TCP", "port": 4317}]
    assert dns["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert manifests.container("envoy")["env"] == [{"name": "FACET_TRACE_PERCENT", "value": "10"}]


@pytest.mark.parametrize(
    ("variables", "collector"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://elsewhere:5000"}, ("elsewhere", 5000)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://elsewhere"}, ("elsewhere", 4317)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:2"}, ("b", 2)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("localhost", 4317)),
        ({"OTEL_TRACES_EXPORTER": "OTLP", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ("localhost", 4317)),
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_TRACES_EXPORTER": "None"}, None),
        ({"OTEL_TRACES_EXPORTER": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_SDK_DISABLED": "True"}, None),
    ],
)
def test_the_usual_variables_switch_traces_on(
    monkeypatch: pytest.MonkeyPatch, envoy_config: Object, variables: dict[str, str], collector: tuple[str, int] | None
) -> None:
    """For both services by the same rule, and `make serve` configures Envoy alike."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert InferenceSettings().traces == WebSettings().traces == (collector is not None)
    arguments = envoy_traces()
    if collector is None:
        assert arguments == []
        return
    config = yaml.safe_load(arguments[-1])
    assert tuple(address(config).values()) == collector
    address(config).update(address(envoy_config))
    assert config == envoy_config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ],
)
@pytest.mark.parametrize("service", [inference.settings, web.settings])
def test_what_is_not_otlp_over_grpc_is_refused(
    monkeypatch: pytest.MonkeyPatch, service: Any, name: str, value: str
) -> None:
    """The error names the variable and its valid values."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refused:
        service.Settings()
    assert re.fullmatch(
        r"OTEL_(TRACES_EXPORTER|.+_PROTOCOL): Input should be .*'(otlp|grpc)'\..+",
        service.Settings.format_errors(refused.value),
    )


@pytest.mark.parametrize("url", ["https://traces.example.com", "http://", "http://collector:port"])
def test_an_address_that_envoy_cannot_take_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The error says what to do."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    with pytest.raises(CannotServe, match="http://host:port"):
        envoy_traces()
