"""A long run under load, with bad input and killed workers, loses no requests and leaks nothing."""

import base64
import json
import random
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
from PIL import Image
from wire import Answer, Judge, OpenLoad, capacity, closed_load, post, same_results

from tests.conftest import Figures, encode
from tests.stack.memory_growth import MemoryGrowth, descriptors_and_threads, long_lived_processes
from tests.stack.running import RunningStack, running_stack, wait_for
from tests.stack.under_load import nothing_is_rejected

WORKERS = 2
STEEPEST = "steepest beyond its error, MiB/h"
SHARE = 0.7  # of the capacity
SHORT_SHARE = 0.5  # in runs below half an hour, which must pass on a busy machine
LONG_MINUTES = 30
WARM_UP = 0.25  # of the duration, during which allocators and thread pools reach their size
KILL_EVERY = 300.0
MAX_SLOPE = 1.0  # MiB per hour, in long runs
MAX_GROWTH = 50.0  # MiB in total: two concurrent requests need as much more
BURST = 200  # concurrent callers, so that all pools reach their full size


def form(image: bytes) -> bytes:
    """Return a request with the image in a form."""
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return post("/predict", head + image + b"\r\n--b--\r\n", "multipart/form-data; boundary=b")


def good_requests(image: bytes) -> list[bytes]:
    """Return requests with the image in all three forms of input."""
    in_json = json.dumps({"image": base64.b64encode(image).decode()}).encode()
    return [post("/predict", image, "image/jpeg"), form(image), post("/predict", in_json, "application/json")]


def rejected(code: str) -> Judge:
    """Return a judge that expects this error."""

    def judge(answer: Answer) -> str:
        found = json.loads(answer.body).get("code")
        return "" if found == code else f"{answer.status} {found}"

    return judge


def bad_requests(image: bytes) -> list[tuple[bytes, Judge]]:
    """Return requests that are rejected at all stages, each with its judge."""
    pixels = Image.new("1", (20000, 20000))
    return [
        (post("/predict", image[: len(image) // 2], "image/jpeg"), rejected("INVALID_IMAGE")),
        (post("/predict", random.Random(1).randbytes(20_000), "image/png"), rejected("INVALID_IMAGE")),
        (post("/predict", encode(pixels), "image/png"), rejected("IMAGE_TOO_LARGE")),
        (post("/predict", b'{"image": "', "application/json"), rejected("MALFORMED_REQUEST")),
        (post("/predict?max_faces=-1", image, "image/jpeg"), rejected("INVALID_OPTION")),
        (post("/predict", encode(pixels.resize((90, 90)), "GIF"), "image/jpeg"), rejected("UNSUPPORTED_FORMAT")),
    ]


def test_a_long_run_loses_nothing_and_grows_nothing(
    tmp_path: Path, figures: Figures, astronaut: Image.Image, soak_minutes: float
) -> None:
    """With 1 % bad input and a worker killed every five minutes, memory, descriptors and threads do not grow."""
    seconds, long = 60 * soak_minutes, soak_minutes >= LONG_MINUTES
    share = SHARE if long else SHORT_SHARE
    image = encode(astronaut.resize((640, 480)), "JPEG", quality=90)
    with running_stack(tmp_path / "logs", f"--workers={WORKERS}") as stack:
        rate = share * capacity_after_warm_up(stack, image)
        processes = long_lived_processes(stack)
        before = idle_descriptors_and_threads(processes)
        with ExitStack() as running:
            loads = mixed_load(stack, image, rate)
            for load in loads:
                running.enter_context(load)
            time.sleep(WARM_UP * seconds)
            with MemoryGrowth(processes) as growth:
                kills = kill_workers(stack, processes["oldest worker"], (1 - WARM_UP) * seconds)
        wait_for(lambda: stack.serving() == WORKERS, "all workers are back")
        after = idle_descriptors_and_threads(processes)
    wrong = sum((load.wrong for load in loads), Counter[str]())
    slopes, grown = growth.slopes(), growth.grown()
    more = {name: (before[name], after[name]) for name in before if any(map(exceeds, after[name], before[name]))}
    most = {"lost": 0.0, "processes with more descriptors or threads": 0.0}
    figures(
        f"{soak_minutes:g} minutes at {share:.0%} of capacity, 1 % bad input, a kill every 5 minutes",
        {
            "requests": sum(len(load.requests) for load in loads),
            "lost": wrong.total(),
            "kills": kills,
            "processes with more descriptors or threads": len(more),
            **{f"{name}, MiB": round(mib, 2) for name, mib in grown.items()},
            **{f"{name}, MiB/h": round(each.mib_per_hour, 2) for name, each in slopes.items()},
            STEEPEST: max(each.least for each in slopes.values()),
        },
        at_most=most | ({STEEPEST: MAX_SLOPE} if long else {}),
    )
    assert wrong.keys() <= (set() if long else {"503 BUSY"})  # short runs must pass on a machine that slows down
    assert more == {}
    assert max(grown.values()) <= MAX_GROWTH, grown
    if long:
        assert max(each.least for each in slopes.values()) <= MAX_SLOPE, slopes


def capacity_after_warm_up(stack: RunningStack, image: bytes) -> float:
    """Make all pools reach their full size; then measure the requests per second."""
    request = post("/predict", image, "image/jpeg")
    closed_load(stack.url, request, lambda _: "", callers=BURST, seconds=5)
    wait_for(lambda: nothing_is_rejected(stack.url, request, callers=16), "no request is rejected")
    return capacity(stack.url, request, right_judge(stack, image))


def right_judge(stack: RunningStack, image: bytes) -> Judge:
    """Return a judge that expects the current answer, which has one face."""
    answer = httpx.post(f"{stack.url}/predict", content=image, headers={"Content-Type": "image/jpeg"}, timeout=60)
    (face,) = answer.json()["results"]
    return same_results([face])


def mixed_load(stack: RunningStack, image: bytes, rate: float) -> list[OpenLoad]:
    """Return load of 99 % good requests in all forms and 1 % bad requests of all kinds."""
    good, bad, judge = good_requests(image), bad_requests(image), right_judge(stack, image)
    loads = [OpenLoad(stack.url, each, judge, 0.99 * rate / len(good), seed) for seed, each in enumerate(good)]
    loads += [OpenLoad(stack.url, each, its, 0.01 * rate / len(bad), 10 + n) for n, (each, its) in enumerate(bad)]
    return loads


def exceeds(after: int, before: int) -> bool:
    """Return whether a count has grown by more than an occasional timer thread or closing connection."""
    return after > before + 2


def idle_descriptors_and_threads(processes: dict[str, psutil.Process]) -> dict[str, tuple[int, int]]:
    """Count descriptors and threads after the load: when two counts in a row are equal."""
    counted = [descriptors_and_threads(processes)]

    def settled() -> bool:
        time.sleep(5)
        counted.append(descriptors_and_threads(processes))
        return len(counted) > 8 and counted[-1] == counted[-2]  # idle connections to the gateway last for 30 s

    wait_for(settled, "descriptors and threads settle")
    return counted[-1]


def kill_workers(stack: RunningStack, spared: psutil.Process, seconds: float) -> int:
    """Kill a worker every five minutes, the first after half of that, except the spared one; return the number."""
    kills, end = 0, time.monotonic() + seconds
    following = time.monotonic() + min(KILL_EVERY, seconds) / 2
    while time.monotonic() < end:
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))
        if time.monotonic() >= following:
            next(worker for worker in stack.workers() if worker != spared).kill()
            kills, following = kills + 1, following + KILL_EVERY
    return kills
