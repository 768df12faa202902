"""Each setting takes effect in all tiers, or is refused at start with a sentence that says what to do."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from annotated_types import Le
from inference.settings import MAX_WORKERS
from inference.settings import Settings as InferenceSettings
from pydantic import ValidationError
from web.settings import MAX_THREADS
from web.settings import Settings as WebSettings

from telemetry.settings import ServiceSettings, unknown_variables
from telemetry.variables import VARIABLES
from tests.deploy.manifests import ROOT, Manifests, clusters, envoy_config, flatten, render, seconds

SERVICES: list[type[ServiceSettings]] = [InferenceSettings, WebSettings]


@pytest.fixture(scope="module")
def envoy() -> dict[str, Any]:
    return dict(envoy_config()["static_resources"])


@pytest.fixture(scope="module")
def base() -> Manifests:
    return render(ROOT / "deploy/k8s")


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy/docker-compose.yml").read_text())["services"]
    return loaded


def at_most(settings: type[ServiceSettings], name: str) -> float:
    """Give the maximum of a setting."""
    (bound,) = (found for found in settings.model_fields[name].metadata if isinstance(found, Le))
    return float(bound.le)  # type: ignore[arg-type]


def values(envoy: dict[str, Any], key: str) -> Iterator[Any]:
    """Give all values that a key has in Envoy's configuration."""
    return (found[key] for found in flatten(envoy) if isinstance(found, dict) and key in found)


@pytest.mark.parametrize("settings", SERVICES)
def test_shared_maxima_follow_from_envoy_and_the_containers(
    settings: type[ServiceSettings], envoy: dict[str, Any], base: Manifests, composed: dict[str, Any]
) -> None:
    """Envoy rejects larger bodies and ends longer requests; containers are killed in a longer shutdown."""
    tier = {InferenceSettings: "inference", WebSettings: "web"}[settings]
    assert set(values(envoy, "max_request_bytes")) == {at_most(settings, "max_body_bytes")}
    timeouts = [seconds(found) for found in values(envoy, "timeout") if isinstance(found, str)]
    of_routes = [found for found in timeouts if found > 10]
    assert len(of_routes) >= 4
    assert min(of_routes) == at_most(settings, "deadline_seconds") + 1
    assert set(values(envoy, "grpc_timeout_header_max")) == {f"{min(of_routes):g}s"}
    assert at_most(settings, "grace_seconds") < seconds(composed[tier]["stop_grace_period"])
    pod, container = base.pod(tier)["spec"], base.container(tier)
    left = pod["terminationGracePeriodSeconds"] - container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert at_most(settings, "grace_seconds") < left


def test_maxima_of_the_workers_follow_from_envoy_and_the_probes(envoy: dict[str, Any], base: Manifests) -> None:
    """Beyond them, Envoy would reject calls or Kubernetes would restart the container first."""
    endpoints = clusters(envoy)["inference"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert at_most(InferenceSettings, "workers") == MAX_WORKERS == len(endpoints) - 1
    limits = {found.get("priority"): found for found in clusters(envoy)["inference"]["circuit_breakers"]["thresholds"]}
    assert at_most(InferenceSettings, "max_streams") == limits["DEFAULT"]["max_requests"]
    assert at_most(InferenceSettings, "queue_places") + 1 == limits["HIGH"]["max_requests"]
    start, live = (base.container("inference")[probe] for probe in ("startupProbe", "livenessProbe"))
    assert at_most(InferenceSettings, "start_seconds") < start["periodSeconds"] * start["failureThreshold"]
    assert at_most(InferenceSettings, "hang_seconds") < live["periodSeconds"] * live["failureThreshold"]
    (period,) = re.findall(r"--start-period=(\d+)m", (ROOT / "services/inference/Dockerfile").read_text())
    assert at_most(InferenceSettings, "start_seconds") <= 60 * int(period)


def test_threads_of_the_gateway_fit_into_its_container(envoy: dict[str, Any], composed: dict[str, Any]) -> None:
    """A fifth is left for gRPC's threads, and Envoy allows that many requests."""
    assert composed["web"]["pids_limit"] > MAX_THREADS * 1.2
    (limits,) = clusters(envoy)["web"]["circuit_breakers"]["thresholds"]
    assert limits["max_requests"] >= MAX_THREADS


@pytest.mark.parametrize(
    ("settings", "variables", "sentence"),
    [
        (InferenceSettings, {"STALL_SECONDS": "30"}, r"FACET_STALL_SECONDS is 30; it must be below FACET_HANG_SECONDS"),
        (InferenceSettings, {"HANG_SECONDS": "10"}, r"FACET_STALL_SECONDS is 20; it must be below .* 10, at which"),
        (
            InferenceSettings,
            {"DRAIN_SECONDS": "25"},
            r"DRAIN_SECONDS is 25; it must be below FACET_GRACE_SECONDS",
        ),
        (InferenceSettings, {"QUEUE_SECONDS": "16"}, r"FACET_QUEUE_SECONDS is 16; it must not exceed .*DEADLINE"),
        (
            InferenceSettings,
            {"ONNXRUNTIME_PROVIDER": "Some"},
            r"is Some, which the engine openvino does not use",
        ),
        (InferenceSettings, {"PORT": "50070"}, r"FACET_PORT is 50070, one of the workers' own ports, 50061 to 50077"),
        (InferenceSettings, {"METRICS_PORT": "50063", "WORKERS": "2"}, r"METRICS_PORT is 50063, one of .* to 50063"),
        (InferenceSettings, {"METRICS_PORT": "50051"}, r"FACET_PORT and FACET_METRICS_PORT are both 50051"),
        (WebSettings, {"WEB_METRICS_PORT": "8000"}, r"FACET_WEB_PORT and FACET_WEB_METRICS_PORT are both 8000"),
        (WebSettings, {"WEB_THREADS": "161"}, r"WEB_PROCESSES x FACET_WEB_THREADS is 2 x 161; it must be at most 320"),
        (
            WebSettings,
            {"DEADLINE_SECONDS": "20"},
            r"to 15\. .*, because Envoy ends a request after 16 s",
        ),
        (
            InferenceSettings,
            {"GRACE_SECONDS": "40"},
            r"to 28\. .*, because containers are killed after 30 s",
        ),
        (
            WebSettings,
            {"MAX_BODY_BYTES": "20000000"},
            r"BYTES: .* 10485760\. .*, because Envoy rejects larger",
        ),
    ],
)
def test_a_setting_without_effect_is_refused(
    monkeypatch: pytest.MonkeyPatch, settings: type[ServiceSettings], variables: dict[str, str], sentence: str
) -> None:
    """The message is one line that names the variable and the setting that it conflicts with."""
    for name, value in variables.items():
        monkeypatch.setenv(f"FACET_{name}", value)
    with pytest.raises(ValidationError) as refused:
        settings()
    said = settings.format_errors(refused.value)
    assert re.search(sentence, said), said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "1_0"),
        ("QUEUE_SECONDS", "1_0.5"),
        ("PORT", "\N{ARABIC-INDIC DIGIT FIVE}0051"),
        ("DEADLINE_SECONDS", "nan"),
        ("MAX_SIDE", "0x10"),
    ],
)
def test_a_number_consists_of_ascii_digits(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Python would read 1_0 as 10."""
    monkeypatch.setenv(f"FACET_{name}", value)
    with pytest.raises(ValidationError) as refused:
        InferenceSettings()
    assert f"FACET_{name}: {value!r} is not a number" in InferenceSettings.format_errors(refused.value)


def test_a_shorter_deadline_needs_no_other_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait in the queue ends with the deadline, so its default may exceed it."""
    monkeypatch.setenv("FACET_DEADLINE_SECONDS", "2")
    assert InferenceSettings().deadline_seconds == WebSettings().deadline_seconds == 2


def test_the_names_of_all_variables_are_known() -> None:
    """They are those of both services, of compose, of the client and of the tools."""
    own = {
        f"FACET_{name.upper()}"
        for service in SERVICES
        for name, f in service.model_fields.items()
        if not f.validation_alias
    }
    others = subprocess.run(
        ["git", "grep", "-hoE", "FACET_[A-Z_]+[A-Z]", "--", "deploy", "client/src", "Makefile", "tools"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert own | set(others.stdout.split()) == VARIABLES


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("FACET_WORKRES", "did you mean FACET_WORKERS?"),
        ("FACET_QUEUE_SECOND", "did you mean FACET_QUEUE_SECONDS?"),
        ("facet_web_treads", "did you mean FACET_WEB_THREADS?"),
        ("FACET_0", "docs/settings.md lists the settings"),
    ],
)
def test_a_misspelt_variable_gets_the_closest_name(monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    """Variables of all parts are known."""
    for known in VARIABLES:
        monkeypatch.setenv(known, "1")
    assert unknown_variables() == []
    monkeypatch.setenv(name, "2")
    assert unknown_variables() == [f"{name} is not a setting of facet and has no effect; {hint}"]


@pytest.mark.parametrize(
    "command",
    [["-m", "inference"], ["-m", "gunicorn", "--config", "services/web/gunicorn.conf.py"]],
    ids=["inference", "web"],
)
def test_both_services_warn_at_start(command: list[str]) -> None:
    """The warning is in the log. The services then end, because the address is not one of this machine's."""
    elsewhere = {"FACET_HOST": "192.0.2.1", "FACET_WEB_HOST": "192.0.2.1"}
    environment = {"PATH": os.environ["PATH"], "FACET_WORKRES": "4"} | elsewhere
    command = [sys.executable, *command]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout
        lines = map(json.loads, started.stdout)
        warning = next((line["message"] for line in lines if line["level"] == "WARNING"), "")
        started.terminate()
    assert warning == "FACET_WORKRES is not a setting of facet and has no effect; did you mean FACET_WORKERS?"


def test_make_serve_warns_at_the_terminal() -> None:
    """Its services log to files. It stops here because there is no certificate."""
    command = [sys.executable, "-m", "tools.serve", "--edge-tls", "/nowhere"]
    environment = {"PATH": os.environ["PATH"], "FACET_WORKRES": "4"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    warning, error = done.stderr.splitlines()
    assert warning.startswith("warning: FACET_WORKRES is not a setting of facet and has no effect; did you mean")
    assert "/nowhere" in error
