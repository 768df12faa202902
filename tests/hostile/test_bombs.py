"""Decompression bombs are rejected before they are expanded, in bounded memory."""

import http.client
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.conftest import Figures
from tests.hostile.bombs import MIB, grpc_call, requests
from tests.hostile.bystander import Bystander
from tests.hostile.http2 import Connection, address
from tests.stack.running import RunningStack

EACH = 3
CONCURRENCY = 8
# The first frame, or the pixels within the stated size, are a valid image.
ACCEPTED = (
    "an animated PNG of 1000 frames",
    "a PNG whose pixels expand beyond its size",
    "a PNG with EXIF that refers",
)
REJECTED = (400, 413, 415, 422)
MAX_GROWTH = 160 * MIB  # of one process: CONCURRENCY bodies of a few megabytes, in a few copies each


def test_bombs_are_rejected_in_bounded_memory(attacked: RunningStack, face_file: bytes, figures: Figures) -> None:
    """All kinds are sent concurrently, while another client gets the usual answers."""
    wires = list(requests().items()) * EACH
    processes = attacked.workers() + [
        p for p in attacked.processes() if "gunicorn" in p.cmdline() or "envoy" in p.name()
    ]
    before = {process: reset_peak(process) for process in processes}
    began = len(attacked.log_lines("inference"))
    spent = cpu_seconds(attacked.workers())
    with Bystander(attacked.url, face_file) as bystander, ThreadPoolExecutor(CONCURRENCY) as senders:
        statuses = list(senders.map(lambda bomb: http_status(attacked, bomb[1]), wires))
    spent = cpu_seconds(attacked.workers()) - spent
    for (name, _), status in zip(wires, statuses, strict=True):
        assert status in ((200,) if name.startswith(ACCEPTED) else REJECTED), (name, status)
    grown = {process: peak(process) - size for process, size in before.items()}
    assert max(grown.values()) < MAX_GROWTH, {process.name(): size // MIB for process, size in grown.items()}
    lines = attacked.log_lines("inference")[began:]
    assert not any(line["level"] == "ERROR" for line in lines)
    sizes = Counter(line.get("size") for line in lines if line["message"] == "predict")
    assert set(sizes) == {"40x40", "107x120"}  # the last is the bystander's: nothing large was decoded
    figures(
        "bombs, several at a time",
        {
            "bombs": len(wires),
            "worker_cpu_ms_per_bomb": round(1000 * spent / len(wires), 1),  # with the bystander's requests
            "slowest_request_beside_them_s": round(bystander.slowest, 2),
            "most_memory_grown_mib": round(max(grown.values()) / MIB),
        },
        at_most={"most_memory_grown_mib": MAX_GROWTH / MIB, "slowest_request_beside_them_s": 5},
    )


def test_a_compressed_message_is_not_expanded_beyond_the_limit(attacked: RunningStack, face_file: bytes) -> None:
    """GRPC answers RESOURCE_EXHAUSTED, as for any message above the limit."""
    headers, message = grpc_call()
    before = {process: reset_peak(process) for process in attacked.workers()}
    with Bystander(attacked.url, face_file), ThreadPoolExecutor(CONCURRENCY) as senders:
        statuses = set(senders.map(lambda _: grpc_status(attacked, headers, message), range(2 * CONCURRENCY)))
    assert statuses == {"8"}
    assert all(peak(process) - size < MAX_GROWTH for process, size in before.items())


def http_status(stack: RunningStack, wire: bytes) -> int:
    with socket.create_connection(address(stack.edge), timeout=60) as connection:
        connection.sendall(wire)
        response = http.client.HTTPResponse(connection)
        response.begin()
        response.read()
        return response.status


def grpc_status(stack: RunningStack, headers: bytes, message: bytes) -> str:
    with socket.create_connection(address(stack.edge), timeout=60) as sock:
        connection = Connection(sock)
        sock.sendall(headers)
        connection.read_settings()
        sock.sendall(message)
        answer = connection.answer()
        return answer.headers.get("grpc-status", str(answer))


def reset_peak(process: psutil.Process) -> int:
    """Make the kernel measure the peak of a process from now on; return its memory now, in bytes."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return int(process.memory_info().rss)


def peak(process: psutil.Process) -> int:
    (line,) = (row for row in Path(f"/proc/{process.pid}/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
