"""What the path costs beside the detector alone: form by form, hop by hop, and at 70 % of what it bears."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import grpc
from whole_path.alone import NAME, Alone, detectors_alone
from whole_path.load import Request, Sample, closed_load, faces_in, first_answers, until_all_answer
from whole_path.pictures import Picture, pictures
from whole_path.stacks import Stack, facet
from wire import Answer, OpenLoad

from protos import infer_pb2, infer_pb2_grpc

SIZE = "640x480"
SECONDS, BUSY_SECONDS, OPEN_SECONDS = 2.0, 4.0, 15.0  # of a stretch: one caller, many callers, 70 %
BUSY_CALLERS = 8
LOAD = 0.7
EVEN, RANDOM = "even times", "random times"

Way = Callable[[float], Sample]


def measure(rounds: int, scale: float) -> dict[str, Any]:
    """Measure all of it with one picture of one face, in turns."""
    workers, picture = os.cpu_count() or 1, pictures(SIZE)[0]
    with facet(workers, picture.as_it_is()) as stack, detectors_alone(workers, picture) as alone:
        faces = first_answers(stack, [picture])[picture.name]
        as_it_is = Request(picture.name, picture.as_it_is(), faces)
        until_all_answer(stack, as_it_is, workers)
        one = _in_turns(_ways(stack, alone, picture, faces), rounds, SECONDS * scale)
        busy: dict[str, Way] = {
            NAME: lambda seconds: alone.run(seconds, workers),
            "the whole path": lambda seconds: closed_load(stack, [as_it_is], BUSY_CALLERS, seconds),
        }
        many = _in_turns(busy, rounds, BUSY_SECONDS * scale)
        rates = sorted(sample["rate"] for sample in many["the whole path"])
        rate = LOAD * rates[len(rates) // 2]
        loaded = {
            times: [_open(stack, as_it_is, rate, seed, OPEN_SECONDS * scale, times) for seed in range(rounds)]
            for times in (EVEN, RANDOM)
        }
    service = sorted(each for sample in one["the whole path"] for each in sample["latencies"][picture.name])
    ideal = _ideal_queue(workers, LOAD, service[len(service) // 2])
    return {"picture": picture.name, "one_caller": one, "busy": many, "rate": rate, "loaded": loaded, "ideal": ideal}


def _ways(stack: Stack, alone: Alone, picture: Picture, faces: int) -> dict[str, Way]:
    def http(data: bytes, url: str = "") -> Way:
        return lambda seconds: closed_load(stack, [Request(picture.name, data, faces)], 1, seconds, url)

    return {
        NAME: lambda seconds: alone.run(seconds, 1),
        "a worker, by gRPC": lambda seconds: _grpc(stack, stack.worker, picture, seconds),
        "Envoy, by gRPC": lambda seconds: _grpc(stack, stack.url.removeprefix("http://"), picture, seconds),
        "the gateway": http(picture.as_it_is(), stack.gateway_url),
        "the whole path": http(picture.as_it_is()),
        "the whole path, multipart": http(picture.as_form()),
        "the whole path, JSON": http(picture.as_json()),
    }


def _in_turns(ways: dict[str, Way], rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            sample = ways[name](seconds)
            print(f"{name}: {sample.rate:.1f} requests/s", flush=True)
            samples[name].append(asdict(sample))
    return samples


def _grpc(stack: Stack, target: str, picture: Picture, seconds: float) -> Sample:
    """Call as one gRPC client does; its own CPU time is above that of HTTP's callers."""
    latencies: list[float] = []
    request = infer_pb2.Image(raw_data=picture.jpeg)
    with grpc.insecure_channel(target) as channel:
        predict = infer_pb2_grpc.InferenceStub(channel).Predict
        predict(request, wait_for_ready=True)  # the connection is made
        before, own, began = stack.cpu_seconds(), time.process_time(), time.monotonic()
        while (sent := time.monotonic()) < began + seconds:
            predict(request)
            latencies.append(1000 * (time.monotonic() - sent))
        took, own, after = time.monotonic() - began, time.process_time() - own, stack.cpu_seconds()
    count = len(latencies)
    cpu = {tier: 1000 * (after[tier] - before[tier]) / count for tier in after}
    return Sample(count / took, {picture.name: latencies}, cpu, 1000 * own / count)


def _open(stack: Stack, request: Request, rate: float, seed: int, seconds: float, times: str) -> dict[str, Any]:
    """Send requests at times that heed no answer; give the latencies, in milliseconds, from those times on.

    Who is refused or gets a wrong answer has waited for ever.
    """

    def judge(answer: Answer) -> str:
        return "" if answer.status == 200 and faces_in(answer) == request.faces else f"{answer.status}"  # noqa: PLR2004

    with OpenLoad(stack.url, request.data, judge, rate, seed, even=times == EVEN) as load:
        time.sleep(seconds)
    print(f"{rate:.1f} requests/s at {times}: {len(load.shots)} answers", flush=True)
    latencies = [math.inf if shot.code else 1000 * shot.latency for shot in load.shots]
    return {"latencies": latencies, "wrong": dict(load.wrong)}


def _ideal_queue(servers: int, load: float, service: float, count: int = 200_000) -> list[float]:
    """Give p50 and p99 of a line before so many servers that all take exactly as long: what no stack can beat."""
    gaps, free, now, latencies = random.Random(1), [0.0] * servers, 0.0, []  # noqa: S311 - no secret
    for _ in range(count):
        now += gaps.expovariate(load * servers / service)
        free.sort()
        free[0] = max(free[0], now) + service
        latencies.append(free[0] - now)
    latencies.sort()
    return [latencies[count // 2], latencies[99 * count // 100]]
