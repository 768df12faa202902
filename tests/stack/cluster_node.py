"""The node of a stand-in cluster; it runs in a container beside the pods (see cluster.py).

It replaces four parts of Kubernetes: the kubelet's probes, the endpoints, the cluster's DNS with its cache, and the
Service `envoy`. It reads pods.json and writes status.json in the folder that is its argument.
"""

import asyncio
import json
import random
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE_PORTS = (8080, 50050)
HEADLESS = ("web", "inference")
CACHED_SECONDS = 30  # CoreDNS' default for a name
NOT_FOUND_SECONDS = 5  # and for a name without addresses
PROPAGATION_SECONDS = 8  # until a Service knows of a change: long, like a cloud's load balancer
TYPE_A = 1


class StandInKubelet:
    """Runs the probes of each pod, and derives the endpoints."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pods: dict[str, dict[str, Any]] = {}
        self._status: dict[str, dict[str, Any]] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._history: deque[tuple[float, list[str]]] = deque()

    def endpoints(self, tier: str) -> list[str]:
        """Return the addresses of the pods that are ready and not leaving."""
        return [
            pod["ip"]
            for name, pod in self._pods.items()
            if pod["tier"] == tier and self._status[name]["ready"] and not pod["leaving"]
        ]

    def propagated(self) -> list[str]:
        """Return the endpoints of `envoy` that the Service knows, which are some seconds old."""
        return self._history[0][1] if self._history else []

    async def run(self) -> None:
        """Follow pods.json, and write status.json."""
        while True:
            self._pods = json.loads((self._folder / "pods.json").read_text())
            for name in self._pods.keys() - self._watching.keys():
                self._status[name] = {"ready": False, "failed_liveness": 0}
                self._watching[name] = asyncio.create_task(self._watch(name))
            for name in self._watching.keys() - self._pods.keys():
                self._watching.pop(name).cancel()
                self._status.pop(name)
            self._history.append((time.monotonic(), self.endpoints("envoy")))
            while len(self._history) > 1 and self._history[1][0] < time.monotonic() - PROPAGATION_SECONDS:
                self._history.popleft()
            written = self._folder / "status.json.new"
            written.write_text(json.dumps(self._status))
            written.replace(self._folder / "status.json")
            await asyncio.sleep(0.1)

    async def _watch(self, name: str) -> None:
        probes = self._pods[name]["probes"]
        while not await passes(self._pods[name]["ip"], probes["startupProbe"]):  # noqa: ASYNC110 - as the kubelet does
            await asyncio.sleep(probes["startupProbe"]["periodSeconds"])
        await asyncio.gather(
            self._repeat(name, probes["readinessProbe"], self._set_ready),
            self._repeat(name, probes["livenessProbe"], self._set_alive),
        )

    async def _repeat(self, name: str, probe: dict[str, Any], report: Callable[[str, bool], None]) -> None:
        """Probe periodically; report success at once, and failure at the threshold."""
        misses = 0
        while True:
            passed = await passes(self._pods[name]["ip"], probe)
            misses = 0 if passed else misses + 1
            if passed or misses == probe["failureThreshold"]:
                report(name, passed)
            await asyncio.sleep(probe["periodSeconds"])

    def _set_ready(self, name: str, ready: bool) -> None:  # noqa: FBT001
        self._status[name]["ready"] = ready

    def _set_alive(self, name: str, alive: bool) -> None:  # noqa: FBT001
        if not alive and not self._pods[name]["leaving"]:  # the kubelet does not probe leaving pods
            self._status[name]["failed_liveness"] += 1


async def passes(ip: str, probe: dict[str, Any]) -> bool:
    """Run a probe once."""
    ask: Awaitable[bool] = _grpc(ip, probe["grpc"]) if "grpc" in probe else _http(ip, probe["httpGet"])
    try:
        return await asyncio.wait_for(ask, probe["timeoutSeconds"])
    except (OSError, TimeoutError, grpc.RpcError):
        return False


async def _grpc(ip: str, probe: dict[str, Any]) -> bool:
    async with grpc.aio.insecure_channel(f"{ip}:{probe['port']}") as channel:
        request = health_pb2.HealthCheckRequest(service=probe.get("service", ""))
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its stubs are for calls that block
        answer = await stub.Check(request)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _http(ip: str, probe: dict[str, Any]) -> bool:
    reader, writer = await asyncio.open_connection(ip, probe["port"])
    try:
        writer.write(f"GET {probe['path']} HTTP/1.1\r\nHost: {ip}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.readline()).split()[1:2] == [b"200"]
    finally:
        writer.close()


class StandInDns(asyncio.DatagramProtocol):
    """Resolves the headless Services, with a cache."""

    def __init__(self, kubelet: StandInKubelet) -> None:
        self._kubelet = kubelet
        self._cache: dict[str, tuple[float, list[str]]] = {}

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        labels, at = [], 12
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length].decode())
            at += 1 + length
        question = data[12 : at + 5]
        name, kind = ".".join(labels), struct.unpack("!H", data[at + 1 : at + 3])[0]
        found = self._look_up(name) if kind == TYPE_A and name in HEADLESS else []
        header = struct.pack("!2sHHHHH", data[:2], 0x8180, 1, len(found), 0, 0)
        answers = [struct.pack("!HHHIH4s", 0xC00C, TYPE_A, 1, CACHED_SECONDS, 4, socket.inet_aton(ip)) for ip in found]
        self._transport.sendto(header + question + b"".join(answers), address)

    def _look_up(self, name: str) -> list[str]:
        until, found = self._cache.get(name, (0.0, []))
        if time.monotonic() >= until:
            found = self._kubelet.endpoints(name)
            self._cache[name] = (time.monotonic() + (CACHED_SECONDS if found else NOT_FOUND_SECONDS), found)
        return found


async def serve(kubelet: StandInKubelet, port: int) -> None:
    """Forward a port of the Service `envoy`: each connection goes to one of the ready pods."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(random.choice(kubelet.propagated()), port)
        except (IndexError, OSError):
            writer.close()
            return
        await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))

    server = await asyncio.start_server(connect, port=port)
    await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main() -> None:
    """Run until the container is removed."""
    kubelet = StandInKubelet(Path(sys.argv[1]))
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: StandInDns(kubelet), ("0.0.0.0", 53))
    await asyncio.gather(kubelet.run(), *(serve(kubelet, port) for port in SERVICE_PORTS))


if __name__ == "__main__":
    asyncio.run(main())
