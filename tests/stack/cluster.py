"""A stand-in for a Kubernetes cluster on a container engine: pods as in the manifests, and their rollout.

Everything that a rollout depends on is as in Kubernetes: images, arguments, rights and limits of the pods, probes and
endpoints, the caches of DNS and Services, the order of starting and stopping, preStop and the grace period. There are
no nodes, network policies or control plane: cluster_node.py replaces the latter, restarts no pods, and sets no limit
to their start.
"""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.deploy.manifests import TIERS, Manifests, quantity
from tests.stack.compose import docker
from tests.stack.running import free_base_port, wait_for

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
NODE = Path(__file__).with_name("cluster_node.py")


@dataclass
class Pod:
    """A pod, in the form that cluster_node.py reads."""

    name: str
    tier: str
    ip: str
    probes: dict[str, Any]
    leaving: bool = False


@dataclass
class Ending:
    """How a pod ended, and how long it took including preStop."""

    tier: str
    exit_code: int
    out_of_memory: bool
    seconds: float


class StandInCluster:
    """Pods on one network with a node that manages them."""

    def __init__(self, name: str, manifests: Manifests, folder: Path) -> None:
        self.pods: dict[str, Pod] = {}
        self.endings: list[Ending] = []
        self.edge = f"127.0.0.1:{free_base_port()}"
        self.name = name
        self._manifests = manifests
        self._folder = folder
        self._count = 0
        self._lock = threading.Lock()

    def start_node(self) -> None:
        """Start the node, which also forwards to the Service `envoy`, for this machine too."""
        self._write_pods()
        self._run(
            f"{self.name}-node", "--network-alias=envoy", f"--publish={self.edge}:8080", "--user=0:0",
            f"--volume={self._folder}:/node", f"--volume={NODE}:/cluster_node.py:ro",
            "facet-web:test", "python", "/cluster_node.py", "/node",
        )  # fmt: skip
        self._dns = self._address(f"{self.name}-node")

    def start_pod(self, tier: str) -> Pod:
        """Start a pod as in the tier's Deployment."""
        with self._lock:
            self._count += 1
            name = f"{self.name}-{tier}-{self._count}"
        container = self._manifests.container(tier)
        context, own = self._manifests.pod(tier)["spec"]["securityContext"], container["securityContext"]
        limits = container["resources"]["limits"]
        assert own["readOnlyRootFilesystem"]
        options = [
            f"--hostname={name}", f"--dns={self._dns}", f"--user={context['runAsUser']}:{context['runAsGroup']}",
            "--read-only", "--security-opt=no-new-privileges", f"--memory={quantity(limits['memory']):f}",
            f"--cpus={quantity(limits['cpu'])}", *(f"--cap-drop={found}" for found in own["capabilities"]["drop"]),
        ]  # fmt: skip
        for variable in container.get("env", []):
            resource = variable["valueFrom"]["resourceFieldRef"]["resource"].removeprefix("limits.")
            options += [f"--env={variable['name']}={quantity(limits[resource])}"]
        for mount in container.get("volumeMounts", []):
            options += [f"--volume={self._config_map(tier, mount['name'])}:{mount['mountPath']}:ro"]
        image = container["image"].replace(":latest", ":test")
        self._run(name, *options, image, *container.get("args", []))
        pod = Pod(name, tier, self._address(name), {probe: self._numbered(tier, probe) for probe in PROBES})
        with self._lock:
            self.pods[name] = pod
            self._write_pods()
        return pod

    def wait_until_ready(self, pod: Pod) -> None:
        """Wait until the pod's readiness probe has passed."""
        wait_for(lambda: self.status().get(pod.name, {}).get("ready"), f"{pod.name} is ready")

    def status(self) -> dict[str, Any]:
        """Return the results of the probes by pod."""
        found: dict[str, Any] = json.loads((self._folder / "status.json").read_text())
        return found

    def roll(self, tier: str) -> None:
        """Replace all pods of a tier like a Deployment, and return when the old ones have ended."""
        strategy = self._manifests.one("Deployment", tier)["spec"]["strategy"]["rollingUpdate"]
        assert strategy == {"maxUnavailable": 0, "maxSurge": 1}
        old = self.of(tier)
        with ThreadPoolExecutor(
            len(old)
        ) as endings:  # a Deployment does not wait for the end of a pod before it starts the next one
            ended = []
            for pod in old:
                self.wait_until_ready(self.start_pod(tier))
                ended.append(endings.submit(self.stop_pod, pod))
        for ending in ended:
            ending.result()

    def stop_pod(self, pod: Pod) -> None:
        """Stop a pod: remove it from the endpoints, run preStop, send SIGTERM, and SIGKILL after the grace period."""
        began = time.monotonic()
        with self._lock:
            pod.leaving = True
            self._write_pods()
        hook = self._manifests.container(pod.tier)["lifecycle"]["preStop"]
        over = began + self._manifests.pod(pod.tier)["spec"]["terminationGracePeriodSeconds"]
        if "sleep" in hook:
            time.sleep(hook["sleep"]["seconds"])
        else:
            with suppress(subprocess.TimeoutExpired):
                command = ["docker", "exec", pod.name, *hook["exec"]["command"]]
                subprocess.run(command, check=True, timeout=over - time.monotonic())
        docker("stop", f"--time={max(2, int(over - time.monotonic()))}", pod.name)
        (found,) = json.loads(docker("inspect", pod.name))
        state = found["State"]
        with self._lock:
            self.endings.append(Ending(pod.tier, state["ExitCode"], state["OOMKilled"], time.monotonic() - began))
            del self.pods[pod.name]
            self._write_pods()

    def of(self, tier: str) -> list[Pod]:
        """Return the pods of a tier."""
        return [pod for pod in self.pods.values() if pod.tier == tier]

    def knows(self, envoy: Pod, workers: int) -> bool:
        """Return whether a pod of Envoy knows this many healthy workers."""
        url = "http://127.0.0.1:9901/stats?filter=^cluster.inference.membership_healthy$"
        found = docker("exec", envoy.name, "busybox", "wget", "-q", "-O", "-", url)
        return found == f"cluster.inference.membership_healthy: {workers}\n"

    def cut_off(self, pod: Pod) -> None:
        """Disconnect a pod from the network, as when its node is lost: endpoints stay, and no connection is refused."""
        docker("network", "disconnect", self.name, pod.name)

    def _run(self, name: str, *arguments: str) -> None:
        docker("run", "--detach", f"--name={name}", f"--network={self.name}", f"--label={self.name}", *arguments)

    def _address(self, name: str) -> str:
        (found,) = json.loads(docker("inspect", name))
        return str(found["NetworkSettings"]["Networks"][self.name]["IPAddress"])

    def _write_pods(self) -> None:
        new = self._folder / "pods.json.new"
        new.write_text(json.dumps({name: asdict(pod) for name, pod in self.pods.items()}))
        new.replace(self._folder / "pods.json")

    def _config_map(self, tier: str, volume: str) -> Path:
        """Write the files of a volume's ConfigMap."""
        (found,) = (found for found in self._manifests.pod(tier)["spec"]["volumes"] if found["name"] == volume)
        folder = self._folder / str(found["configMap"]["name"])
        folder.mkdir(mode=0o755, exist_ok=True)
        for name, text in self._manifests.one("ConfigMap", folder.name)["data"].items():
            (folder / name).write_text(text)
            (folder / name).chmod(found["configMap"]["defaultMode"])
        return folder

    def _numbered(self, tier: str, probe: str) -> dict[str, Any]:
        """Return a probe with a numeric port."""
        found = dict(self._manifests.container(tier)[probe])
        if "httpGet" in found:
            found["httpGet"] = found["httpGet"] | {"port": self._manifests.ports(tier)[found["httpGet"]["port"]]}
        return found


@contextmanager
def running_cluster(manifests: Manifests, folder: Path, replicas: int) -> Iterator[StandInCluster]:
    """Start `replicas` pods of each tier, wait until they are ready, and remove everything at the end."""
    cluster = StandInCluster(f"facet-cluster-{free_base_port()}", manifests, folder)
    docker("network", "create", cluster.name)
    try:
        cluster.start_node()
        for tier in TIERS:
            for _ in range(replicas):
                cluster.start_pod(tier)
        for pod in list(cluster.pods.values()):
            cluster.wait_until_ready(pod)
        workers = replicas * int(quantity(manifests.container("inference")["resources"]["limits"]["cpu"]))
        for pod in cluster.of("envoy"):  # Envoy resolved the name before the workers started
            wait_for(partial(cluster.knows, pod, workers), f"{pod.name} knows {workers} workers")
        yield cluster
    finally:
        if containers := docker("ps", "--all", "--quiet", f"--filter=label={cluster.name}").split():
            docker("rm", "--force", *containers)
        docker("network", "rm", cluster.name)
