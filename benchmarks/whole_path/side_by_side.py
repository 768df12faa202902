"""Facet and the baseline in turns: the same requests on the same CPUs, for a short period each."""

import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from itertools import product
from math import ceil
from typing import Any

from whole_path.images import SampleImage, images
from whole_path.load import CALLERS, SIZE, Request, Sample, closed_load, first_answers, require_same_faces
from whole_path.stacks import START_SECONDS, CannotCompare, Stack, baseline, facet

BASELINE_PROCESSES = 3
ALL_CALLERS = (1, 4, CALLERS, 16)
# The baseline answers a tenth as many: it gets longer stretches, or a percentile would be of a handful of requests.
SECONDS: dict[str, dict[str, float]] = {
    "facet": {"320x240": 2.5, "640x480": 5, "1920x1080": 4},
    "baseline": {"320x240": 3, "640x480": 8, "1920x1080": 8},
}
FEWEST = 100  # answers of a period in the cell of the targets, enough for p99
WARM_UP_SECONDS, WARM_UP_CALLERS = 4, 8
WARM_UP_TIMES = 3  # for each image and process, on average


def compare(
    workers: int, processes: int, rounds: int, scale: float, sizes: list[str], callers: tuple[int, ...]
) -> dict[str, Any]:
    """Measure every size with every number of callers, `rounds` times, in turns that change their order.

    Facet has `workers` workers, the baseline has `processes` processes.
    """
    everything = [image for size in sizes for image in images(size)]
    starts: dict[str, list[float]] = {"facet": [], "baseline": []}
    memory: dict[str, float] = {}
    numbers = {"facet": workers, "baseline": processes}
    for number in range(rounds - 1):
        for name, count in numbers.items():
            with _start(name, count, everything[0]) as stack:
                starts[name].append(stack.cold_start)
                if number == 0:
                    memory[f"{name}, {count}"] = _memory(stack, everything, scale, count)
    alone = rounds > 1 or workers != processes  # otherwise memory is measured below, where both share pages
    for name in numbers if alone else ():  # as many processes as facet has, alone, since processes share pages
        if f"{name}, {workers}" not in memory:
            with _start(name, workers, everything[0]) as stack:
                memory[f"{name}, {workers}"] = _memory(stack, everything, scale, workers)
    cells: list[dict[str, Any]] = []
    with ExitStack() as both:
        stacks: list[Stack] = [both.enter_context(_start(name, numbers[name], everything[0])) for name in numbers]
        for stack in stacks:
            starts[stack.name].append(stack.cold_start)
            _warm_up(stack, everything, scale, numbers[stack.name])
            memory.setdefault(f"{stack.name}, {numbers[stack.name]}", stack.megabytes())
        found = [first_answers(stack, everything) for stack in stacks]
        require_same_faces(*found)
        faces = {name: len(boxes) for name, boxes in found[0].items()}
        for number in range(rounds):
            for size, count in product(sizes, callers):
                for stack in stacks[:: 1 if number % 2 else -1]:
                    sample = _measure(stack, size, faces, count, scale)
                    cells.append({"size": size, "callers": count, "stack": stack.name} | asdict(sample))
    return {
        "workers": workers,
        "processes": processes,
        "faces": faces,
        "bytes": {image.name: len(image.jpeg) for image in everything},
        "cold_start": starts,
        "memory": memory,
        "cells": cells,
    }


def _start(name: str, processes: int, image: SampleImage) -> AbstractContextManager[Stack]:
    return (facet if name == "facet" else baseline)(processes, image.as_json())


def _memory(stack: Stack, everything: list[SampleImage], scale: float, processes: int) -> float:
    _warm_up(stack, everything, scale, processes)
    return stack.megabytes()


def _warm_up(stack: Stack, everything: list[SampleImage], scale: float, processes: int) -> None:
    """Send requests with many callers, then with one until each process has worked for the time of every image.

    The gateway of the baseline uses one connection for overlapping requests, so many callers may keep one process busy
    and leave the others cold. With one caller, each request makes a new connection.
    """
    before = stack.each_worker()
    found = first_answers(stack, everything)
    requests = [Request(image.name, image.as_json(), len(found[image.name])) for image in everything]
    missing = WARM_UP_TIMES * processes * len(requests) * scale
    while missing > 0:
        sample = closed_load(stack, requests, WARM_UP_CALLERS, WARM_UP_SECONDS * scale)
        missing -= sum(map(len, sample.latencies.values()))
    each = len(requests) * sum(sample.cpu[tier] for tier in ("inference", "start") if tier in sample.cpu) / 1000
    give_up = time.monotonic() + START_SECONDS
    while any(used - before.get(process, 0.0) < each for process, used in stack.each_worker().items()):
        if time.monotonic() > give_up:
            raise CannotCompare(f"{stack.name}: not all of its processes get work within {START_SECONDS} s")
        closed_load(stack, requests, 1, WARM_UP_SECONDS * scale)


def _measure(stack: Stack, size: str, faces: dict[str, int], callers: int, scale: float) -> Sample:
    requests = [Request(image.name, image.as_json(), faces[image.name]) for image in images(size)]
    fewest = ceil(FEWEST * scale) if (size, callers) == (SIZE, CALLERS) else 1
    sample = closed_load(stack, requests, callers, SECONDS[stack.name][size] * scale, fewest=fewest)
    print(f"{stack.name}, {size}, {callers} callers: {sample.rate:.1f} requests/s", flush=True)
    return sample
