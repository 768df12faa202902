"""Names, ports, limits and times agree between envoy.yaml, the settings of the services and gunicorn."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from inference.process.worker import MESSAGE_OVERHEAD
from inference.settings import MAX_WORKERS
from inference.settings import Settings as InferenceSettings
from web.settings import Settings as WebSettings

from tools.serve.plan import Ports

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def envoy() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "envoy/envoy.yaml").read_text())
    return config


def listener(envoy: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (entry for entry in envoy["static_resources"]["listeners"] if entry["name"] == name)
    return dict(found)


def manager(envoy: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(listener(envoy, name)["filter_chains"][0]["filters"][0]["typed_config"])


def cluster(envoy: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (entry for entry in envoy["static_resources"]["clusters"] if entry["name"] == name)
    return dict(found)


def addresses(envoy: dict[str, Any], name: str) -> list[tuple[str, int]]:
    (group,) = cluster(envoy, name)["load_assignment"]["endpoints"]
    sockets = [entry["endpoint"]["address"]["socket_address"] for entry in group["lb_endpoints"]]
    return [(socket["address"], socket["port_value"]) for socket in sockets]


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


def routes(envoy: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the routes of a listener that lead to a cluster, in order."""
    (host,) = manager(envoy, name)["route_config"]["virtual_hosts"]
    return [route for route in host["routes"] if "route" in route]


def timeouts(envoy: dict[str, Any], name: str) -> list[float]:
    """Return the timeouts of a listener's routes, in order; 0 means no timeout."""
    return [seconds(route["route"]["timeout"]) for route in routes(envoy, name)]


def test_there_is_an_endpoint_for_each_possible_worker_and_one_successor(envoy: dict[str, Any]) -> None:
    """Each worker process has its own, whatever FACET_WORKERS is."""
    first = InferenceSettings().worker_port
    assert addresses(envoy, "inference") == [("inference", first + slot) for slot in range(MAX_WORKERS + 1)]


def test_the_gateway_and_envoy_find_each_other(envoy: dict[str, Any]) -> None:
    """Several files repeat the names and ports."""
    settings = WebSettings()
    assert addresses(envoy, "web") == [("web", settings.web_port)]
    internal = listener(envoy, "internal")["address"]["socket_address"]["port_value"]
    assert settings.inference_target == f"envoy:{internal}"
    inference = InferenceSettings()
    edge = listener(envoy, "edge")["address"]["socket_address"]["port_value"]
    admin = envoy["admin"]["address"]["socket_address"]
    assert admin["address"] == "127.0.0.1"
    assert Ports() == Ports(
        edge=edge,
        web=settings.web_port,
        web_metrics=settings.web_metrics_port,
        internal=internal,
        shared=inference.port,
        inference_metrics=inference.metrics_port,
        worker=inference.worker_port,
        admin=admin["port_value"],
        envoy_metrics=listener(envoy, "metrics")["address"]["socket_address"]["port_value"],
    )
    assert addresses(envoy, "admin") == [(admin["address"], admin["port_value"])]


def test_limits_are_the_same_everywhere(envoy: dict[str, Any]) -> None:
    """Envoy, gateway and worker limit the body alike, and Envoy buffers the largest message for a retry."""
    limit = InferenceSettings().max_body_bytes
    assert WebSettings().max_body_bytes == limit
    buffer = next(found for found in manager(envoy, "edge")["http_filters"] if found["name"].endswith(".buffer"))
    assert buffer["typed_config"]["max_request_bytes"] == limit
    for name in ("edge", "internal"):
        assert routes(envoy, name)[0]["request_body_buffer_limit"] == limit + MESSAGE_OVERHEAD


def test_the_callee_times_out_before_its_caller(envoy: dict[str, Any]) -> None:
    """The worker, then the route to it, then the route to the gateway: the one that knows the reason reports it."""
    deadline = InferenceSettings().deadline_seconds
    assert WebSettings().deadline_seconds == deadline
    predict, streams, drawn, file, web = timeouts(envoy, "edge")
    assert timeouts(envoy, "internal") == [predict, streams]
    assert deadline < predict < web == file
    assert streams == drawn == 0  # the client may receive an image as slowly as it likes
    assert deadline < InferenceSettings().stall_seconds < InferenceSettings().hang_seconds


def test_requests_of_a_stopped_worker_have_time_for_a_retry(envoy: dict[str, Any]) -> None:
    """Envoy notices soon enough to leave most of the deadline. The flow-control windows are those of the edge."""
    (options,) = cluster(envoy, "inference")["typed_extension_protocol_options"].values()
    http2 = dict(options["explicit_http_config"]["http2_protocol_options"])
    keepalive = http2.pop("connection_keepalive")
    assert http2.items() <= manager(envoy, "internal")["http2_protocol_options"].items()
    found_out = seconds(keepalive["interval"]) + seconds(keepalive["timeout"])
    assert found_out < InferenceSettings().deadline_seconds / 2


def test_a_draining_worker_waits_until_envoy_has_noticed(envoy: dict[str, Any]) -> None:
    """The drain is longer than interval x threshold, and the grace period covers the drain and the longest request."""
    (check,) = cluster(envoy, "inference")["health_checks"]
    settings = InferenceSettings()
    assert settings.drain_seconds > seconds(check["interval"]) * check["unhealthy_threshold"]
    assert settings.grace_seconds > settings.drain_seconds + settings.deadline_seconds


def test_a_draining_gateway_waits_until_envoy_has_noticed(envoy: dict[str, Any]) -> None:
    """A failing answer takes effect at once, plus the time for which Envoy gathers changes of hosts."""
    web, settings = cluster(envoy, "web"), WebSettings()
    (check,) = web["health_checks"]
    merge_window = seconds(web.get("common_lb_config", {}).get("update_merge_window", "1s"))  # Envoy's default
    assert settings.drain_seconds > seconds(check["interval"]) + merge_window
    assert settings.grace_seconds > settings.drain_seconds + settings.deadline_seconds


def test_envoy_closes_an_idle_connection_before_the_gateway_does(
    envoy: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Otherwise it could send a request on a connection that gunicorn is closing."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # set back afterwards
    gunicorn = runpy.run_path(str(ROOT / "services/web/gunicorn.conf.py"))
    (options,) = cluster(envoy, "web")["typed_extension_protocol_options"].values()
    assert seconds(options["common_http_protocol_options"]["idle_timeout"]) < gunicorn["keepalive"]
    assert gunicorn["graceful_timeout"] > WebSettings().deadline_seconds
    assert gunicorn["preload_app"] is False
