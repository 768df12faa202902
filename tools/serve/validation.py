"""Checks that need the installed packages: of the engine, and of the files that Envoy reads only while it runs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from inference.settings import Settings
from pydantic import ValidationError

from tools.serve.plan import ROOT, CannotServe, Plan
from tools.serve.rendering import OFF, envoy_binary

NEAR = re.compile(r",\s*near [^)]*\)")  # a place in the JSON that Envoy was given, not in the file
NOT_INSTALLED = ("onnxruntime", "tensorflow")  # by `make serve`
EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"


def check_engine() -> None:
    """Check that FACET_ENGINE's runtime is installed; `make serve` installs openvino alone. Raises CannotServe."""
    try:
        engine = Settings().engine
    except ValidationError:
        return  # the supervisor reports what is wrong
    if engine in NOT_INSTALLED and not importlib.util.find_spec(engine):
        where = os.path.relpath(sys.prefix, ROOT)
        command = f"{where}/bin/uv pip install --no-deps --python {where} -r requirements/{engine}.txt"
        raise CannotServe(f"the engine {engine} is not installed here; install it with `{command}`")


def envoy_errors(config: str, *arguments: str) -> str:
    """Return what Envoy reports about a configuration, warnings too; nothing if it is valid."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(config)
        file.flush()
        command = [envoy_binary(), "--mode", "validate", "--log-level", "warn", "--config-path", file.name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() or (done.stdout.strip() if done.returncode else "")


def check_extensions(plan: Plan) -> None:
    """Check the files of API keys and the rate limit, if they are on. Raises CannotServe."""
    for folder, name in ((plan.keys, "keys.yaml"), (plan.rate_limit, "rate-limit.yaml")):
        if folder:
            check_extension(folder / name)


def check_extension(file: Path) -> None:
    """Check a file that holds one HTTP filter of the edge. Raises CannotServe."""
    try:
        (resource,) = yaml.safe_load(file.read_text())["resources"]
        extension = {"name": resource["name"], "typed_config": resource["typed_config"]}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CannotServe(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CannotServe(f"{file} must hold one resource, as the files in {OFF} do") from error
    if errors := envoy_errors(json.dumps(_listener_with(extension))):
        reason = errors.rpartition("http_filters[0].typed_config.<any>.")[2].partition("): {")[0]
        raise CannotServe(f"Envoy rejects {file}: {' '.join(NEAR.sub('', reason).split())}")


def _listener_with(extension: dict[str, Any]) -> dict[str, Any]:
    router = {"name": "router", "typed_config": {"@type": f"{EXTENSIONS}.http.router.v3.Router"}}
    manager = {
        "@type": f"{EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "route_config": {},
        "http_filters": [extension, router],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return {"static_resources": {"listeners": [{"address": address, "filter_chains": [chain]}]}}
