"""Bombs, many at a time: refused before the work that they would be, and in bounded memory."""

from __future__ import annotations

import http.client
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.conftest import Figures
from tests.hostile.bombs import MIB, call, requests
from tests.hostile.http2 import Connection, address
from tests.hostile.innocent import Innocent
from tests.stack.running import RunningStack

EACH = 3
TOGETHER = 8
# What it takes to look at the first frame, or at the pixels that there should be.
EXAMINED = ("an animated PNG of 1000 frames", "a PNG whose pixels swell beyond its size", "a PNG with EXIF that points")
REFUSED = (400, 413, 415, 422)
MORE_MEMORY = 160 * MIB  # for each process: TOGETHER bodies of a few megabytes, in a few copies


def test_bombs_are_refused_and_memory_is_bounded(attacked: RunningStack, face_file: bytes, figures: Figures) -> None:
    """All kinds at the same time, beside pictures that are answered as before."""
    wires = list(requests().items()) * EACH
    processes = attacked.workers() + [
        p for p in attacked.processes() if "gunicorn" in p.cmdline() or "envoy" in p.name()
    ]
    before = {process: reset_peak(process) for process in processes}
    began = len(attacked.log_lines("inference"))
    spent = cpu_seconds(attacked.workers())
    with Innocent(attacked.url, face_file) as innocent, ThreadPoolExecutor(TOGETHER) as senders:
        statuses = list(senders.map(lambda bomb: answer_over_http(attacked, bomb[1]), wires))
    spent = cpu_seconds(attacked.workers()) - spent
    for (name, _), status in zip(wires, statuses, strict=True):
        assert status in ((200,) if name.startswith(EXAMINED) else REFUSED), (name, status)
    grown = {process: peak(process) - size for process, size in before.items()}
    assert max(grown.values()) < MORE_MEMORY, {process.name(): size // MIB for process, size in grown.items()}
    lines = attacked.log_lines("inference")[began:]
    assert not any(line["level"] == "ERROR" for line in lines)
    sizes = Counter(line.get("size") for line in lines if line["message"] == "predict")
    assert set(sizes) == {"40x40", "107x120"}  # the innocent's; nothing large was ever decoded
    figures(
        "bombs, several at a time",
        {
            "bombs": len(wires),
            "worker_cpu_ms_per_bomb": round(1000 * spent / len(wires), 1),  # with the innocent's pictures
            "slowest_picture_beside_them_s": round(innocent.slowest, 2),
            "most_memory_grown_mib": round(max(grown.values()) / MIB),
        },
        at_most={"most_memory_grown_mib": MORE_MEMORY / MIB, "slowest_picture_beside_them_s": 5},
    )


def test_a_packed_message_is_not_unpacked_beyond_the_limit(attacked: RunningStack, face_file: bytes) -> None:
    """RESOURCE_EXHAUSTED, as for any message above the limit."""
    beginning, message = call()
    before = {process: reset_peak(process) for process in attacked.workers()}
    with Innocent(attacked.url, face_file), ThreadPoolExecutor(TOGETHER) as senders:
        statuses = set(senders.map(lambda _: answer_over_grpc(attacked, beginning, message), range(2 * TOGETHER)))
    assert statuses == {"8"}
    assert all(peak(process) - size < MORE_MEMORY for process, size in before.items())


def answer_over_http(stack: RunningStack, wire: bytes) -> int:
    with socket.create_connection(address(stack.edge), timeout=60) as connection:
        connection.sendall(wire)
        response = http.client.HTTPResponse(connection)
        response.begin()
        response.read()
        return response.status


def answer_over_grpc(stack: RunningStack, beginning: bytes, message: bytes) -> str:
    with socket.create_connection(address(stack.edge), timeout=60) as sock:
        connection = Connection(sock)
        sock.sendall(beginning)
        connection.heard()
        sock.sendall(message)
        answer = connection.answer()
        return answer.headers.get("grpc-status", str(answer))


def reset_peak(process: psutil.Process) -> int:
    """Have the kernel measure a process's peak from now on, and give its memory now, in bytes."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return int(process.memory_info().rss)


def peak(process: psutil.Process) -> int:
    (line,) = (row for row in Path(f"/proc/{process.pid}/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
