"""The stack runs for long, under load, with bad input and kills, and is afterwards what it was before."""

from __future__ import annotations

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
SHARE = 0.7  # of what the machine bears; below half an hour:
SHORT_SHARE = 0.5  # where a machine that others slow down may not fail a check
LONG_MINUTES = 30
WARM_UP = 0.25  # of the whole time: allocators and thread pools grow to what the load takes, and then no more
KILL_EVERY = 300.0
MOST = 1.0  # MiB an hour, in a run that is long enough to tell; in a shorter one:
MOST_GROWN = 50.0  # MiB in all: what two requests at once take more, and no leak that a day would not show
BURST = 200  # callers at once, so that all pools are as large as they get


def form(picture: bytes) -> bytes:
    """A picture as the file of a form."""
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return post("/predict", head + picture + b"\r\n--b--\r\n", "multipart/form-data; boundary=b")


def good_requests(picture: bytes) -> list[bytes]:
    """One picture in the three forms of input."""
    in_json = json.dumps({"image": base64.b64encode(picture).decode()}).encode()
    return [post("/predict", picture, "image/jpeg"), form(picture), post("/predict", in_json, "application/json")]


def refused(code: str) -> Judge:
    """Make the judge for whom just this error is right."""

    def judge(answer: Answer) -> str:
        found = json.loads(answer.body).get("code")
        return "" if found == code else f"{answer.status} {found}"

    return judge


def bad_requests(picture: bytes) -> list[tuple[bytes, Judge]]:
    """Requests that are refused at all stages, each with its judge."""
    pixels = Image.new("1", (20000, 20000))
    return [
        (post("/predict", picture[: len(picture) // 2], "image/jpeg"), refused("INVALID_IMAGE")),
        (post("/predict", random.Random(1).randbytes(20_000), "image/png"), refused("INVALID_IMAGE")),
        (post("/predict", encode(pixels), "image/png"), refused("IMAGE_TOO_LARGE")),
        (post("/predict", b'{"image": "', "application/json"), refused("MALFORMED_REQUEST")),
        (post("/predict?max_faces=-1", picture, "image/jpeg"), refused("INVALID_OPTION")),
        (post("/predict", encode(pixels.resize((90, 90)), "GIF"), "image/jpeg"), refused("UNSUPPORTED_FORMAT")),
    ]


def test_a_long_run_loses_nothing_and_grows_nothing(
    tmp_path: Path, figures: Figures, astronaut: Image.Image, soak_minutes: float
) -> None:
    """One per cent of bad input, and a worker killed every five minutes; memory, descriptors and threads stay."""
    seconds, long = 60 * soak_minutes, soak_minutes >= LONG_MINUTES
    share = SHARE if long else SHORT_SHARE
    picture = encode(astronaut.resize((640, 480)), "JPEG", quality=90)
    with running_stack(tmp_path / "logs", f"--workers={WORKERS}") as stack:
        rate = share * warmed_up(stack, picture)
        processes = long_lived_processes(stack)
        before = idle_holdings(processes)
        with ExitStack() as running:
            loads = mixed_load(stack, picture, rate)
            for load in loads:
                running.enter_context(load)
            time.sleep(WARM_UP * seconds)
            with MemoryGrowth(processes) as growth:
                kills = kill_workers(stack, processes["eldest worker"], (1 - WARM_UP) * seconds)
        wait_for(lambda: stack.serving() == WORKERS, "all workers are back")
        after = idle_holdings(processes)
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
        at_most=most | ({STEEPEST: MOST} if long else {}),
    )
    assert wrong.keys() <= (set() if long else {"503 BUSY"})  # a machine that has become slower fails no short run
    assert more == {}
    assert max(grown.values()) <= MOST_GROWN, grown
    if long:
        assert max(each.least for each in slopes.values()) <= MOST, slopes


def warmed_up(stack: RunningStack, picture: bytes) -> float:
    """Make all pools as large as they get; then measure how many pictures a second are examined."""
    request = post("/predict", picture, "image/jpeg")
    closed_load(stack.url, request, lambda _: "", callers=BURST, seconds=5)
    wait_for(lambda: nothing_is_rejected(stack.url, request, callers=16), "no request is rejected")
    return capacity(stack.url, request, right_judge(stack, picture))


def right_judge(stack: RunningStack, picture: bytes) -> Judge:
    """Make the judge for whom the answer of now is the right one, which has one face."""
    answer = httpx.post(f"{stack.url}/predict", content=picture, headers={"Content-Type": "image/jpeg"}, timeout=60)
    (face,) = answer.json()["results"]
    return same_results([face])


def mixed_load(stack: RunningStack, picture: bytes, rate: float) -> list[OpenLoad]:
    """99 % good requests in equal parts of all forms, 1 % bad ones of all kinds."""
    good, bad, judge = good_requests(picture), bad_requests(picture), right_judge(stack, picture)
    loads = [OpenLoad(stack.url, each, judge, 0.99 * rate / len(good), seed) for seed, each in enumerate(good)]
    loads += [OpenLoad(stack.url, each, its, 0.01 * rate / len(bad), 10 + n) for n, (each, its) in enumerate(bad)]
    return loads


def exceeds(after: int, before: int) -> bool:
    """Whether there is more of a thing than the odd timer's thread or connection that is just being closed."""
    return after > before + 2


def idle_holdings(processes: dict[str, psutil.Process]) -> dict[str, tuple[int, int]]:
    """Count descriptors and threads when those of the last load are gone: the same twice, a while apart."""
    counted = [descriptors_and_threads(processes)]

    def settled() -> bool:
        time.sleep(5)
        counted.append(descriptors_and_threads(processes))
        return len(counted) > 8 and counted[-1] == counted[-2]  # idle connections to the gateway last for 30 s

    wait_for(settled, "descriptors and threads settle")
    return counted[-1]


def kill_workers(stack: RunningStack, spared: psutil.Process, seconds: float) -> int:
    """Kill a worker every five minutes, the first one halfway to that, but not the spared one; give how many."""
    kills, end = 0, time.monotonic() + seconds
    following = time.monotonic() + min(KILL_EVERY, seconds) / 2
    while time.monotonic() < end:
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))
        if time.monotonic() >= following:
            next(worker for worker in stack.workers() if worker != spared).kill()
            kills, following = kills + 1, following + KILL_EVERY
    return kills
