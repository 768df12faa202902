"""The containers of the compose stack: they restart, are locked down, and use little memory."""

import json
import os
import re
import socket
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.conftest import all_candidates, encode
from tests.stack.compose import ComposeStack, compose_stack, docker
from tests.stack.running import ROOT, wait_for

TIERS = ["inference", "web", "envoy"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can kill a container's process from outside")
def test_a_container_whose_process_dies_is_restarted(compose: ComposeStack, client: httpx.Client) -> None:
    """The engine restarts it after its process 1 was killed, and the stack becomes ready again."""
    container = compose.container("inference")
    starts = compose.inspect(container)["RestartCount"]
    psutil.Process(compose.inspect(container)["State"]["Pid"]).kill()
    wait_for(lambda: compose.inspect(container)["RestartCount"] == starts + 1, "it is restarted")
    wait_for(lambda: client.get("/readyz").status_code == 200, "it answers")
    compose.wait_until_healthy(container)


def test_a_stopped_container_ends_by_itself(compose: ComposeStack) -> None:
    """Process 1 gets the signal, drains and exits with 0 before it would be killed."""
    for tier in TIERS:
        container = compose.container(tier)
        docker("stop", container)
        state = compose.inspect(container)["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False), tier
    compose.up()


@pytest.mark.parametrize("tier", TIERS)
def test_a_container_is_locked_down(compose: ComposeStack, tier: str) -> None:
    """No root, no capabilities, none from set-uid programs, a read-only file system, and limits of memory and pids."""
    container = compose.container(tier)
    found = compose.inspect(container)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{found['State']['Pid']}/status").read_text().splitlines()
    )
    assert "0" not in status["Uid"].split() + status["Gid"].split()
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"  # the engine's filter of system calls
    assert found["HostConfig"]["Memory"] > 0
    assert 0 < found["HostConfig"]["PidsLimit"] <= 1024
    for path in ("/written", "/tmp/written", "/opt/written", "/etc/written"):
        if tier == "envoy":  # it has no Python
            done = compose.execute(container, "busybox", "wget", "-q", "-O", path, "http://127.0.0.1:9901/ready")
        else:
            done = compose.execute(container, "python", "-c", f"open({path!r}, 'w')")
        assert done.returncode != 0
        assert re.search("Read-only file system|No such file", done.stderr), done.stderr


def test_only_envoy_is_published(compose: ComposeStack) -> None:
    """On the requested address; the host has no address in the networks of the other tiers."""
    published = {
        tier: {inside: outside for inside, outside in all_ports(compose, tier).items() if outside} for tier in TIERS
    }
    port = [{"HostIp": "127.0.0.1", "HostPort": str(compose.port)}]
    assert published == {"envoy": {"8080/tcp": port}, "web": {}, "inference": {}}
    adapters = [address for found in psutil.net_if_addrs().values() for address in found]
    own = [ip_address(address.address) for address in adapters if address.family == socket.AF_INET]
    assert own
    for network in ("gateway", "workers", "metrics"):
        (found,) = json.loads(docker("network", "inspect", f"{compose.project}_{network}"))
        assert found["Internal"], network
        (subnet,) = (ip_network(config["Subnet"]) for config in found["IPAM"]["Config"])
        assert not [address for address in own if address in subnet], network


def all_ports(compose: ComposeStack, tier: str) -> dict[str, list[dict[str, str]] | None]:
    return dict(compose.inspect(compose.container(tier))["NetworkSettings"]["Ports"])


def test_each_container_reaches_only_what_it_needs(compose: ComposeStack) -> None:
    """Envoy cannot reach the workers' metrics, the gateway no worker, and neither gateway nor workers the outside."""
    inference, web, envoy = (compose.container(tier) for tier in TIERS)
    worker, metrics = compose.address(inference, "workers"), compose.address(inference, "metrics")

    def from_envoy(url: str) -> bool:
        done = compose.execute(envoy, "busybox", "wget", "-q", "-T", "2", "-O", "/dev/stdout", url)
        return done.returncode == 0

    def connects(container: str, host: str, port: int) -> bool:
        code = f"import socket; socket.create_connection(({host!r}, {port}), timeout=2)"
        return compose.execute(container, "python", "-c", code).returncode == 0

    assert from_envoy("http://web:8000/healthz")
    assert not from_envoy(f"http://{worker}:50052/metrics")
    assert not from_envoy(f"http://{metrics}:50052/metrics")
    assert connects(inference, metrics, 50052)  # it listens in its own network
    assert not connects(inference, worker, 50052)
    assert connects(web, "envoy", 50050)
    assert not connects(web, "envoy", 9901)
    assert not connects(web, worker, 50061)
    assert not connects(web, metrics, 50052)
    (edge,) = json.loads(docker("network", "inspect", f"{compose.project}_edge"))
    gateway = edge["IPAM"]["Config"][0]["Gateway"]
    with ThreadingHTTPServer((gateway, 0), SimpleHTTPRequestHandler) as host:  # stands for everything outside
        port = host.server_address[1]
        threading.Thread(target=host.serve_forever).start()
        try:
            assert from_envoy(f"http://{gateway}:{port}/README.md")
            assert not connects(web, gateway, port)
            assert not connects(inference, gateway, port)
        finally:
            host.shutdown()


@pytest.mark.usefixtures("compose")
def test_a_container_with_little_memory_survives_large_images(face: Image.Image, face_file: bytes) -> None:
    """With 1.5 GiB it starts one worker, which survives several images of 40 megapixels at once."""
    noise = np.random.default_rng(0).integers(0, 256, (5000, 8000, 3), dtype=np.uint8)
    large = [
        encode(Image.fromarray(noise), "JPEG", quality=10),
        encode(face.resize((8000, 5000), Image.Resampling.BICUBIC), "JPEG", quality=70),
    ]
    worst = encode(Image.fromarray(all_candidates(8000, 5000)))
    with compose_stack("small", FACET_INFERENCE_MEMORY="1536m", FACET_MIN_FACE_SIZE="12") as small:
        with httpx.Client(base_url=small.url, timeout=120) as http, ThreadPoolExecutor(4) as callers:

            def status(file: bytes) -> int:
                return http.post("/predict", content=file, headers={"Content-Type": "image/jpeg"}).status_code

            statuses = Counter(callers.map(status, large * 4))
            # Four at a time overload one worker: BUSY or, on a slow machine, past the deadline.
            assert set(statuses) <= {200, 503, 504}, statuses
            assert statuses[200] >= 1, statuses
            assert status(worst) in (503, 504)  # it takes longer than the deadline
            wait_for(lambda: status(face_file) == 200, "the worker answers again")
        state = small.inspect(small.container("inference"))
        assert (state["State"]["OOMKilled"], state["RestartCount"]) == (False, 0)
        messages = Counter(line.get("message") for line in small.log_lines("inference"))
        assert (messages["worker started"], messages["worker ended"]) == (1, 0)


# Lists the contents of a container from inside.
LISTING = """
import importlib.metadata, json, os, shutil, sysconfig
programs = ["gcc", "cc", "g++", "c++", "ld", "make", "git", "curl", "zig", "pytest"]
caches = ["/root/.cache", "/var/lib/apt/lists", "/var/cache/apt/archives", "/build", "/wheels"]
print(json.dumps({
    "programs": [name for name in programs if shutil.which(name)],
    "caches": [path for path in caches if os.path.isdir(path) and set(os.listdir(path)) - {"lock", "partial"}],
    "grpcio": importlib.metadata.distribution("grpcio").read_text("WHEEL"),
    "packages": [d.name.lower() for d in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])],
}))
"""


def test_images_are_small_and_contain_only_what_runs(compose: ComposeStack) -> None:
    """No compiler, no test tools and no caches; gRPC was compiled from source; the gateway has no model runtime."""
    sizes = {tier: compose.inspect(f"facet-{tier}:test")["Size"] / 1e6 for tier in TIERS}
    assert sizes["inference"] <= 500, sizes
    assert sizes["web"] <= 200, sizes
    for tier in ("inference", "web"):
        container = compose.container(tier)
        listing = compose.execute(container, "python", "-c", LISTING, user="0")
        assert listing.returncode == 0, listing.stderr
        found = json.loads(listing.stdout)
        assert found["programs"] == [], tier
        assert found["caches"] == [], tier
        assert "manylinux" not in found["grpcio"], tier
        packages = set(found["packages"])
        assert not packages & {"pytest", "ruff", "mypy", "hatchling", "ziglang", "onnx", "mtcnn", "tensorflow"}
        if tier == "web":
            assert not packages & {"numpy", "openvino", "onnxruntime", "pillow"}


def test_containers_hold_the_licenses(compose: ComposeStack) -> None:
    """That of facet, and that of the package whose weights the workers use."""
    for tier in ("inference", "web"):
        for path in ("LICENSE", "LICENSES/mtcnn.txt"):
            shown = compose.execute(compose.container(tier), "cat", f"/usr/share/doc/facet/{Path(path).name}")
            assert shown.stdout == (ROOT / path).read_text(), tier


def test_an_idle_stack_takes_little_memory(compose: ComposeStack) -> None:
    """All containers together with two workers, as the engine reports it, without the page cache."""
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *(compose.container(tier) for tier in TIERS))
    units = {"MiB": 2**20, "GiB": 2**30}
    amounts = re.findall(r"([\d.]+)(MiB|GiB) /", used)
    assert len(amounts) == 3, used
    assert sum(float(amount) * units[unit] for amount, unit in amounts) <= 600e6, used


@pytest.mark.usefixtures("compose")
@pytest.mark.parametrize(
    ("grpcio", "engine"), [("wheel", "openvino"), ("wheel", "onnxruntime"), ("source", "tensorflow")]
)
def test_the_other_images_serve(grpcio: str, engine: str) -> None:
    """By build arguments: the published gRPC, and the engines other than the default."""
    tag = f"facet-inference:test-{grpcio}-{engine}"
    arguments = [f"--build-arg=GRPCIO={grpcio}", f"--build-arg=ENGINE={engine}", f"--tag={tag}"]
    docker("buildx", "build", "--load", "--file", str(ROOT / "services/inference/Dockerfile"), *arguments, str(ROOT))
    container = docker("run", "--detach", "--read-only", "--cap-drop=ALL", "--env=FACET_WORKERS=1", tag).strip()
    try:
        check = ["docker", "exec", container, "python", "-m", "inference.process.healthcheck"]
        wait_for(lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0, "it serves")
        lines = [json.loads(line) for line in docker("logs", container).splitlines()]
        assert [line["engine"] for line in lines if line["message"] == "loaded"] == [engine]
        done = subprocess.run([*check[:3], "python", "-c", LISTING], capture_output=True, text=True, check=True)
        assert ("manylinux" in json.loads(done.stdout)["grpcio"]) == (grpcio == "wheel")
    finally:
        docker("rm", "--force", container)
        docker("rmi", tag)
