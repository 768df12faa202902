"""In every deployment, a mounted file switches API keys or the rate limit on."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.manifests import ROOT, render_with
from tools.keys import CannotChange, add_key, names, remove_key
from tools.serve.plan import Plan
from tools.serve.rendering import envoy_yaml

OPTIONS = ("keys", "rate-limit")


def manager(config: str) -> Any:
    """Return the connection manager of the edge."""
    (edge,) = (one for one in yaml.safe_load(config)["static_resources"]["listeners"] if one["name"] == "edge")
    return edge["filter_chains"][0]["filters"][0]["typed_config"]


def filters(config: str) -> dict[str, Any]:
    """Return the HTTP filters of the edge by name."""
    return {found["name"]: found for found in manager(config)["http_filters"]}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_a_file_that_replaces_another(option: str, tmp_path: Path) -> None:
    """It is off in the image; compose and Kubernetes mount a file into the folder that Envoy watches."""
    found = filters((ROOT / "envoy/envoy.yaml").read_text())[option]["config_discovery"]
    (kind,) = found["type_urls"]
    source = found["config_source"]["path_config_source"]
    folder = source["watched_directory"]["path"]
    assert source["path"] == f"{folder}/{option}.yaml"
    dockerfile = (ROOT / "envoy/Dockerfile").read_text()
    assert re.search(rf"^COPY --chmod=0644 envoy/off/{option}.yaml {source['path']}$", dockerfile, re.MULTILINE)
    on = ROOT / {"keys": "envoy/keys.yaml", "rate-limit": "envoy/rate-limit/rate-limit.yaml"}[option]
    for path in (ROOT / f"envoy/off/{option}.yaml", on):
        (resource,) = yaml.safe_load(path.read_text())["resources"]
        assert (resource["name"], resource["typed_config"]["@type"]) == (option, kind)
    override = yaml.safe_load((ROOT / f"deploy/docker-compose.{option}.yml").read_text())["services"]
    ((mounted,),) = (service["volumes"] for service in override.values())
    assert mounted.endswith(f":{folder}:ro")
    manifests = render_with("overlays/production", [option], tmp_path)
    mounts = {mount["mountPath"]: mount["name"] for mount in manifests.container("envoy")["volumeMounts"]}
    volumes = {volume["name"]: volume["configMap"]["name"] for volume in manifests.pod("envoy")["spec"]["volumes"]}
    assert volumes[mounts[folder]] == option
    for manifest in manifests.objects:
        if manifest["apiVersion"] in ("v1", "apps/v1"):
            assert kubernetes_validate.validate(manifest, "1.32", strict=True)


def test_all_options_can_be_combined(tmp_path: Path) -> None:
    """The ConfigMap of the rate limit is the file that the other deployments mount."""
    manifests = render_with("base", ["gateway-api", "tls", "traces", *OPTIONS], tmp_path)
    config = manifests.one("ConfigMap", "rate-limit")
    assert config["data"]["rate-limit.yaml"] == (ROOT / "envoy/rate-limit/rate-limit.yaml").read_text()
    assert config["metadata"]["namespace"] == "facet"
    assert len(manifests.container("envoy")["volumeMounts"]) == 3


def test_refused_requests_are_not_read() -> None:
    """The filters check the key first, then the limits, and then buffer the body."""
    assert list(filters(envoy_yaml(Plan())))[:4] == [*OPTIONS, "large-files", "envoy.filters.http.buffer"]


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "x" * 65, "über"])
def test_a_key_has_a_name_that_fits_into_a_header_and_a_log(tmp_path: Path, name: str) -> None:
    """Other names are refused, and no file is written."""
    with pytest.raises(CannotChange, match="not a valid name for a key"):
        add_key(tmp_path / "keys.yaml", name)
    assert list(tmp_path.iterdir()) == []


def test_a_key_goes_no_further_than_envoy() -> None:
    """Envoy removes both of its headers, whether keys are on or not. A client cannot set the header with its name."""
    found = manager(envoy_yaml(Plan()))
    (host,) = found["route_config"]["virtual_hosts"]
    asked = yaml.safe_load((ROOT / "envoy/keys.yaml").read_text())["resources"][0]["typed_config"]["providers"]["keys"]
    name = asked["claim_to_headers"][0]["header_name"]
    assert {name, *(header["name"] for header in asked["from_headers"])} <= set(host["request_headers_to_remove"])
    (early,) = found["early_header_mutation_extensions"]
    mutations = early["typed_config"]["mutations"]
    assert {"remove": name} in mutations
    assert name not in [found["append"]["header"]["key"] for found in mutations if "append" in found]


@pytest.mark.usefixtures("narrow_umask")
def test_a_name_has_one_key(tmp_path: Path) -> None:
    """The name revokes it. Envoy's user can read the file, which holds no private half."""
    file = tmp_path / "keys/keys.yaml"
    assert names(file) == []
    add_key(file, "alice")
    with pytest.raises(CannotChange, match="already a key named alice"):
        add_key(file, "alice")
    add_key(file, "bob")
    remove_key(file, "alice")
    with pytest.raises(CannotChange, match="no key named alice"):
        remove_key(file, "alice")
    assert names(file) == ["bob"]
    remove_key(file, "bob")
    assert names(file) == []
    assert file.stat().st_mode & 0o004
    assert '"d"' not in file.read_text()
