"""What the path costs in addition to the detector: by form, by hop, and at 70 % of its capacity."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import grpc
from whole_path.alone import NAME, Alone, detectors_alone
from whole_path.images import SampleImage, images
from whole_path.load import (
    CALLERS,
    SIZE,
    TIMEOUT,
    Request,
    Sample,
    closed_load,
    faces_in,
    first_answers,
    until_all_answer,
)
from whole_path.stacks import CannotCompare, Stack, facet
from wire import Answer, OpenLoad

from protos import infer_pb2, infer_pb2_grpc

SECONDS, BUSY_SECONDS, OPEN_SECONDS = 2.0, 4.0, 15.0  # of a period: one caller, many callers, 70 %
FEWEST = 50  # answers with many callers: the kernel counts CPU time in hundredths of a second
LOAD = 0.7
EVEN, RANDOM = "even times", "random times"
WORKER, ENVOY, GATEWAY = "a worker, by gRPC", "Envoy, by gRPC", "the gateway"
WHOLE, FORM, JSON = "the whole path", "the whole path, multipart", "the whole path, JSON"

Way = Callable[[float], Sample]


def measure(workers: int, rounds: int, scale: float) -> dict[str, Any]:
    """Measure everything with one image of one face, in turns."""
    image = images(SIZE)[0]
    with facet(workers, image.as_it_is()) as stack, detectors_alone(workers, image) as alone:
        faces = len(first_answers(stack, [image])[image.name])
        as_it_is = Request(image.name, image.as_it_is(), faces)
        until_all_answer(stack, as_it_is, workers)
        one = _in_turns(_ways(stack, alone, image, faces), rounds, SECONDS * scale)
        busy = {NAME: lambda seconds: alone.run(seconds, workers), **_forms(stack, image, faces, CALLERS, FEWEST)}
        many = _in_turns(busy, rounds, BUSY_SECONDS * scale)
        rates = sorted(sample["rate"] for sample in many[WHOLE])
        rate = LOAD * rates[len(rates) // 2]
        loaded = {
            when: [_open(stack, as_it_is, rate, seed, OPEN_SECONDS * scale, when) for seed in range(rounds)]
            for when in (RANDOM, EVEN)
        }
    service = sorted(each for sample in one[WHOLE] for each in sample["latencies"][image.name])
    ideal = _ideal_queue(workers, LOAD, service[len(service) // 2])
    return {"image": image.name, "one_caller": one, "busy": many, "rate": rate, "loaded": loaded, "ideal": ideal}


def _ways(stack: Stack, alone: Alone, image: SampleImage, faces: int) -> dict[str, Way]:
    as_it_is = Request(image.name, image.as_it_is(), faces)
    return {
        NAME: lambda seconds: alone.run(seconds, 1),
        WORKER: lambda seconds: _grpc(stack, stack.worker, image, seconds),
        ENVOY: lambda seconds: _grpc(stack, stack.url.removeprefix("http://"), image, seconds),
        GATEWAY: lambda seconds: closed_load(stack, [as_it_is], 1, seconds, stack.gateway_url),
        **_forms(stack, image, faces, 1),
    }


def _forms(stack: Stack, image: SampleImage, faces: int, callers: int, fewest: int = 1) -> dict[str, Way]:
    def way(data: bytes) -> Way:
        request = Request(image.name, data, faces)
        return lambda seconds: closed_load(stack, [request], callers, seconds, fewest=fewest)

    return {WHOLE: way(image.as_it_is()), FORM: way(image.as_form()), JSON: way(image.as_json())}


def _in_turns(ways: dict[str, Way], rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            sample = ways[name](seconds)
            print(f"{name}: {sample.rate:.1f} requests/s", flush=True)
            samples[name].append(asdict(sample))
    return samples


def _grpc(stack: Stack, target: str, image: SampleImage, seconds: float) -> Sample:
    """Call as one gRPC client does. It needs more CPU time than the callers over HTTP."""
    latencies: list[float] = []
    request = infer_pb2.Image(raw_data=image.jpeg)
    with grpc.insecure_channel(target) as channel:
        predict = infer_pb2_grpc.InferenceStub(channel).Predict
        try:
            predict(request, wait_for_ready=True, timeout=TIMEOUT)  # the connection is made
            before, own, began = stack.cpu_seconds(), time.process_time(), time.monotonic()
            while (sent := time.monotonic()) < began + seconds:
                predict(request, timeout=TIMEOUT)
                latencies.append(1000 * (time.monotonic() - sent))
        except grpc.RpcError as error:
            raise CannotCompare(f"{stack.name}, {image.name}, by gRPC: no answer, {error}") from error
        took, own, after = time.monotonic() - began, time.process_time() - own, stack.cpu_seconds()
    count = len(latencies)
    cpu = {tier: 1000 * (after[tier] - before[tier]) / count for tier in after}
    return Sample(count / took, {image.name: latencies}, cpu, 1000 * own / count)


def _open(stack: Stack, request: Request, rate: float, seed: int, seconds: float, when: str) -> dict[str, Any]:
    """Send open-loop load; return the latencies in milliseconds, from the scheduled times.

    A rejected request or a wrong answer counts as infinite latency.
    """

    def judge(answer: Answer) -> str:
        return "" if answer.status == 200 and faces_in(answer) == request.faces else f"{answer.status}"  # noqa: PLR2004

    with OpenLoad(stack.url, request.data, judge, rate, seed, even=when == EVEN) as load:
        time.sleep(seconds)
    print(f"{rate:.1f} requests/s at {when}: {len(load.requests)} answers", flush=True)
    latencies = [math.inf if request.code else 1000 * request.latency for request in load.requests]
    return {"latencies": latencies, "wrong": dict(load.wrong)}


def _ideal_queue(servers: int, load: float, service: float, count: int = 200_000) -> list[float]:
    """Return p50 and p99 of a queue before this many servers with a constant service time: the optimum."""
    gaps, free, now, latencies = random.Random(1), [0.0] * servers, 0.0, []  # noqa: S311 - no secret
    for _ in range(count):
        now += gaps.expovariate(load * servers / service)
        free.sort()
        free[0] = max(free[0], now) + service
        latencies.append(free[0] - now)
    latencies.sort()
    return [latencies[count // 2], latencies[99 * count // 100]]
