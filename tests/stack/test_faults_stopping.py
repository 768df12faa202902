"""Parts start and stop while requests are in flight: each is answered, and no request reaches a part that cannot."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import wire
from PIL import Image

from tests.conftest import Figures, all_candidates, encode
from tests.stack.running import RunningStack, gone, ready, running_stack, wait_for

HEALTHY_GATEWAYS = "cluster.web.membership_healthy"
RETRIES = ("cluster.inference.upstream_rq_retry", "cluster.web.upstream_rq_retry")
# A sitecustomize module for the workers: loading the model waits for a file.
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


def post(url: str, image: bytes) -> httpx.Response:
    """Post an image, searching for faces of any size."""
    return httpx.post(
        f"{url}/predict?min_face_size=12", content=image, headers={"Content-Type": "image/png"}, timeout=60
    )


@contextmanager
def in_flight(stack: RunningStack, *urls: str) -> Iterator[list[int]]:
    """Keep a long request in flight at each URL during the block, which gets the list of their statuses."""
    long, statuses = encode(Image.fromarray(all_candidates(1000, 800))), list[int]()
    with ThreadPoolExecutor(len(urls)) as pool:
        answers = [pool.submit(post, url, long) for url in urls]
        wait_for(lambda: stack.envoy("cluster.inference.upstream_rq_active") == len(urls), "all are in flight")
        yield statuses
        statuses += [answer.result().status_code for answer in answers]


def second(gateway_url: str) -> str:
    """Return the URL of the second gateway."""
    return gateway_url.replace("127.0.0.1", "127.0.0.2")


def test_requests_in_flight_are_answered_when_parts_stop(tmp_path: Path, figures: Figures) -> None:
    """On SIGTERM to a gateway, a supervisor or the whole stack, no request is repeated and every part exits with 0."""
    replicas = ("--inference-replicas=2", "--web-replicas=2")
    with running_stack(tmp_path / "logs", "--workers=1", *replicas) as two:
        wait_for(lambda: two.envoy("cluster.inference.membership_healthy") == 2, "Envoy knows two workers")
        wait_for(lambda: two.envoy(HEALTHY_GATEWAYS) == 2, "Envoy knows two gateways")
        before = sum(two.envoy(name) for name in RETRIES)
        # While there are two workers: at a single one the second request would wait, and be refused as busy after 5 s.
        gateway = two.gateways()[1]
        with in_flight(two, second(two.gateway_url), two.url) as by_gateway:
            gateway.terminate()
        wait_for(lambda: gone(gateway), "gunicorn ends")
        service = next(p for p in two.supervisors() if p.environ()["FACET_HOST"] == "127.0.0.2")
        with in_flight(two, two.url, two.url) as by_service:  # one at each worker
            service.terminate()
        wait_for(lambda: gone(service), "the supervisor ends")
        assert two.log_lines("inference-127.0.0.2")[-1]["exit_code"] == 0
        retries = sum(two.envoy(name) for name in RETRIES) - before
        with in_flight(two, two.url) as by_stack:
            asked = time.monotonic()
            two.process.terminate()
        exit_code = two.process.wait(60)  # not 0 if a part had to be killed, or did not exit with 0
    statuses = by_gateway + by_service + by_stack
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


def test_a_stopping_gateway_gets_no_new_requests_while_it_answers_an_old_one(tmp_path: Path, face_file: bytes) -> None:
    """After SIGTERM it fails its health check; Envoy sends new requests to the other gateway without a retry."""
    request = wire.post("/predict", face_file, "image/png")
    with running_stack(tmp_path / "logs", "--workers=1", "--web-replicas=2") as two:
        wait_for(lambda: two.envoy(HEALTHY_GATEWAYS) == 2, "Envoy knows two gateways")
        gateway, metrics = two.gateways()[1], second(two.metrics_urls["web"])
        before = two.envoy("cluster.web.upstream_rq_retry")  # of the first requests, when no gateway listened yet
        with socket.create_connection(("127.0.0.2", two.base), timeout=60) as slow_client:
            slow_client.sendall(request[:-1])
            wait_for(lambda: "facet_http_requests_in_flight 1.0" in httpx.get(metrics).text, "the request is in flight")
            gateway.terminate()
            statuses = [post(two.url, face_file).status_code]
            while two.envoy(HEALTHY_GATEWAYS) == 2 or len(statuses) < 20:
                statuses.append(post(two.url, face_file).status_code)
            slow_client.sendall(request[-1:])
            assert slow_client.recv(65536).startswith(b"HTTP/1.1 200 ")
        wait_for(lambda: gone(gateway), "gunicorn ends")
        assert set(statuses) == {200}
        assert two.envoy("cluster.web.upstream_rq_retry") == before


def test_a_worker_that_loads_its_model_gets_no_requests(tmp_path: Path, face_file: bytes, figures: Figures) -> None:
    """However long loading takes, the stack is alive and not ready, and the first request after it is answered."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_LOAD)
    go = tmp_path / "go"
    go.touch()
    with running_stack(tmp_path / "logs", "--workers=2", PYTHONPATH=str(tmp_path)) as stack:
        assert post(stack.url, face_file).status_code == 200
        go.unlink()
        before = stack.workers()
        for worker in before:
            worker.kill()
        wait_for(lambda: all(gone(worker) for worker in before), "the workers are gone")
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
