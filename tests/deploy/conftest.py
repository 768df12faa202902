"""The manifests, rendered once: unchanged, and in every combination of overlay and components; and a umask."""

import fcntl
import os
import pickle
from collections.abc import Iterator
from itertools import chain, combinations

import pytest

from tests.deploy.manifests import ROOT, Manifests, render, render_all

OVERLAYS = ("base", "overlays/local", "overlays/production")
COMPONENTS = ("monitoring", "gateway-api", "tls", "traces")  # in the order in which they are listed
SETS = tuple(chain.from_iterable(combinations(COMPONENTS, count) for count in range(len(COMPONENTS) + 1)))


@pytest.fixture(scope="session")
def base() -> Manifests:
    """The objects of `kubectl apply -k deploy/k8s`."""
    return render(ROOT / "deploy/k8s")


@pytest.fixture(scope="session", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Manifests:
    """Each overlay, unchanged."""
    return render(ROOT / "deploy/k8s" / request.param)


@pytest.fixture(scope="session")
def combined(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[tuple[str, tuple[str, ...]], Manifests]:
    """Every overlay with every set of components; the first process of pytest-xdist renders them for all."""
    combinations = [(overlay, components) for overlay in OVERLAYS for components in SETS]
    own = tmp_path_factory.getbasetemp()
    shared = (own if worker_id == "master" else own.parent) / "manifests.pickle"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            rendered = render_all(combinations, tmp_path_factory.mktemp("k8s"))
            shared.write_bytes(pickle.dumps(dict(zip(combinations, rendered, strict=True))))
    found: dict[tuple[str, tuple[str, ...]], Manifests] = pickle.loads(shared.read_bytes())
    return found


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    """By default new files are for their owner only."""
    before = os.umask(0o077)
    yield
    os.umask(before)
