"""Parts start and stop with requests under way: what is under way is answered, and nothing is begun too early."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image

from tests.conftest import Figures, all_candidates, encode
from tests.stack.running import RunningStack, gone, ready, running_stack, wait_for

RETRIES = ("cluster.inference.upstream_rq_retry", "cluster.web.upstream_rq_retry")
# In the place of a worker's sitecustomize: loading the model waits until a file is there.
SLOW_LOAD = """
import pathlib, sys, time
if "inference.process.worker" in sys.orig_argv:
    from inference.mtcnn import engines
    load = engines.load_detector
    def slowly(*arguments):
        while not pathlib.Path(__file__).with_name("go").exists():
            time.sleep(0.05)
        return load(*arguments)
    engines.load_detector = slowly
"""


def post(url: str, picture: bytes) -> httpx.Response:
    """Ask for the faces in a picture, also the smallest."""
    return httpx.post(
        f"{url}/predict?min_face_size=12", content=picture, headers={"Content-Type": "image/png"}, timeout=60
    )


@contextmanager
def under_way(stack: RunningStack, *urls: str) -> Iterator[list[int]]:
    """Have a long request under way at each address; after the block its statuses are in the list that it got."""
    long, statuses = encode(Image.fromarray(all_candidates(1200, 900))), list[int]()
    with ThreadPoolExecutor(len(urls)) as pool:
        answers = [pool.submit(post, url, long) for url in urls]
        wait_for(lambda: stack.envoy("cluster.inference.upstream_rq_active") == len(urls), "they are under way")
        yield statuses
        statuses += [answer.result().status_code for answer in answers]


def test_what_is_under_way_is_answered_when_parts_stop(tmp_path: Path, figures: Figures) -> None:
    """SIGTERM to a supervisor, to a gunicorn and to the whole stack: nothing is asked for twice, all exit cleanly."""
    replicas = ("--inference-replicas=2", "--web-replicas=2")
    with running_stack(tmp_path / "logs", "--workers=1", *replicas) as two:
        wait_for(lambda: two.envoy("cluster.inference.membership_healthy") == 2, "Envoy knows two workers")
        wait_for(lambda: two.envoy("cluster.web.membership_healthy") == 2, "Envoy knows two gateways")
        service = next(p for p in two.supervisors() if p.environ()["FACET_HOST"] == "127.0.0.2")
        before = sum(two.envoy(name) for name in RETRIES)
        with under_way(two, two.url, two.url) as by_service:  # one at each worker, the least busy
            service.terminate()
        wait_for(lambda: gone(service), "the supervisor ends")
        assert two.log_lines("inference-127.0.0.2")[-1]["exit_code"] == 0
        gateway = two.gateways()[1]
        with under_way(two, two.gateway_url.replace("127.0.0.1", "127.0.0.2"), two.url) as by_gateway:
            gateway.terminate()
        wait_for(lambda: gone(gateway), "gunicorn ends")
        retries = sum(two.envoy(name) for name in RETRIES) - before
        with under_way(two, two.url) as by_stack:
            asked = time.monotonic()
            two.process.terminate()
        exit_code = two.process.wait(60)  # not 0 if a part had to be killed, or did not exit with 0
    statuses = by_service + by_gateway + by_stack
    figures(
        "SIGTERM to each tier and to all, long requests under way",
        {
            "requests": len(statuses),
            "lost": len(statuses) - statuses.count(200),
            "asked_again": retries,
            "exit_code": exit_code,
            "the_whole_stack_ends_after_s": round(time.monotonic() - asked, 1),
        },
        at_most={"lost": 0, "asked_again": 0, "exit_code": 0, "the_whole_stack_ends_after_s": 25},
    )
    assert statuses == [200] * 5
    assert (retries, exit_code) == (0, 0)


def test_nothing_is_asked_of_a_worker_that_loads_its_model(tmp_path: Path, face_file: bytes, figures: Figures) -> None:
    """However long it takes: alive, not ready, clean 503; when it is loaded the next picture is answered."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_LOAD)
    go = tmp_path / "go"
    go.touch()
    with running_stack(tmp_path / "logs", "--workers=2", PYTHONPATH=str(tmp_path)) as stack:
        assert post(stack.url, face_file).status_code == 200
        go.unlink()
        before = stack.workers()
        for worker in before:
            worker.kill()
        wait_for(lambda: all(gone(worker) for worker in before), "they are gone")
        wait_for(lambda: len(stack.workers()) == 2, "their successors load")
        wait_for(lambda: stack.envoy("cluster.inference.membership_healthy") == 0, "Envoy has noticed")
        calls = stack.envoy("cluster.inference.upstream_rq_total")
        for _ in range(5):
            answer = post(stack.url, face_file)
            assert (answer.status_code, answer.json()["code"]) == (503, "NOT_READY")
            assert answer.headers["Retry-After"] == "1"
            assert httpx.get(f"{stack.url}/readyz", timeout=60).status_code == 503
            assert httpx.get(f"{stack.url}/healthz", timeout=60).status_code == 200
        asked = stack.envoy("cluster.inference.upstream_rq_total") - calls
        figures("workers load their models", {"requests": 5, "asked_of_them": asked}, at_most={"asked_of_them": 0})
        assert asked == 0
        assert stack.serving() == 0
        go.touch()
        wait_for(lambda: ready(stack.url), "it is ready")
        assert post(stack.url, face_file).status_code == 200
