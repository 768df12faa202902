"""The profile `observability`: a real Prometheus scrapes the real stack.

Grafana is not started, because its image is not available everywhere; the queries of its dashboard are tested.
"""

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.stack.compose import ComposeStack, compose_stack, docker
from tests.stack.load import Load
from tests.stack.running import ROOT, free_base_port, wait_for

STAND_IN = Path(__file__).parent / "prometheus.compose.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/facet.json"
PROMETHEUS = httpx.Client(timeout=10)


@pytest.fixture(scope="module")
def watched(compose: ComposeStack) -> Iterator[tuple[ComposeStack, str]]:
    """A stack with Prometheus, and the URL of Prometheus."""
    del compose  # it says that there is an engine
    port = free_base_port()
    with compose_stack("watched", [str(STAND_IN)], FACET_WORKERS="1", PROMETHEUS_PORT=str(port)) as stack:
        stack.compose("--profile", "observability", "up", "--detach", "--build", "--no-recreate", "prometheus")
        address = f"http://127.0.0.1:{port}"
        wait_for(partial(ready, address), "Prometheus is ready")
        yield stack, address


def ready(prometheus: str) -> bool:
    try:
        return PROMETHEUS.get(f"{prometheus}/-/ready").is_success
    except httpx.TransportError:
        return False


def ask(prometheus: str, path: str, **parameters: str) -> Any:
    """Query Prometheus' API."""
    answer = PROMETHEUS.get(f"{prometheus}/api/v1/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def values(prometheus: str, expression: str) -> list[float]:
    """Evaluate an expression."""
    return [float(series["value"][1]) for series in ask(prometheus, "query", query=expression)["result"]]


def finite(prometheus: str, expression: str) -> bool:
    """Return whether an expression has a value that is a finite number."""
    return any(map(math.isfinite, values(prometheus, expression)))


def test_all_three_tiers_are_scraped(watched: tuple[ComposeStack, str]) -> None:
    """Envoy, web and inference each have a job whose targets are up."""
    _, prometheus = watched

    def up() -> bool:
        targets = ask(prometheus, "targets")["activeTargets"]
        return {t["labels"]["job"] for t in targets if t["health"] == "up"} == {
            "facet-envoy",
            "facet-web",
            "facet-inference",
        }

    wait_for(up, "all three are up")


def test_prometheus_accepts_the_files(watched: tuple[ComposeStack, str]) -> None:
    """The checker accepts the configuration, the alerts pass their tests, and each alert says what to do."""
    stack, _ = watched
    done = stack.execute(stack.container("prometheus"), "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    promtool = ["env", "TMPDIR=/prometheus", "promtool"]  # it keeps the tests' series in a folder for a moment
    done = stack.execute(stack.container("prometheus"), *promtool, "test", "rules", "/tests/alert_rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
    alerts = [rule for rule in group["rules"] if "alert" in rule]
    assert len(alerts) >= 5
    assert all({"summary", "action"} == set(rule["annotations"]) for rule in alerts)


def test_every_panel_of_the_dashboard_shows_something(watched: tuple[ComposeStack, str], face_file: bytes) -> None:
    """Under load, each of the dashboard's expressions has a value."""
    stack, prometheus = watched
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = {target["expr"] for panel in panels for target in panel["targets"]}
    assert len(expressions) > 10
    with Load(stack.url, face_file, 2):
        for expression in sorted(expressions):
            wait_for(partial(finite, prometheus, expression), expression)
    assert values(prometheus, "sum(facet_workers_serving)") == [1.0]


def test_an_alert_would_be_raised_when_no_worker_is_left(watched: tuple[ComposeStack, str]) -> None:
    """No alert is raised before that."""
    stack, prometheus = watched
    (group,) = ask(prometheus, "rules")["groups"]
    rules = {rule["name"]: rule for rule in group["rules"]}
    wait_for(lambda: values(prometheus, "facet_workers_serving"), "it has been scraped")
    alerts = [rules[name]["query"] for name in ("FacetNoWorker", "FacetTierDown")]
    assert [values(prometheus, alert) for alert in alerts] == [[], []]
    assert [alert["labels"]["alertname"] for alert in ask(prometheus, "alerts")["alerts"]] == []
    docker("stop", stack.container("inference"))
    wait_for(lambda: all(values(prometheus, alert) for alert in alerts), "it is noticed")
