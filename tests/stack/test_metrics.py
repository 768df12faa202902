"""Each tier shows its metrics on a port of its own, and they are right over several processes and after restarts."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.stack.running import RunningStack, wait_for
from tests.stack.test_predict import post


def samples(stack: RunningStack, tier: str) -> dict[str, float]:
    """Read a tier's figures: the name with its labels, and the value."""
    text = httpx.get(stack.metrics_urls[tier]).text
    return {
        ",".join([sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_pictures_are_counted_over_all_workers(
    processes: RunningStack, client: httpx.Client, astronaut_file: bytes
) -> None:
    """Twelve pictures at four workers are twelve, with one face each; a refused one counts by its reason."""
    wait_for(lambda: processes.serving() == 4, "4 workers serve")
    before = samples(processes, "inference")
    for _ in range(12):
        assert post(client, "raw", astronaut_file).status_code == 200
    assert post(client, "raw", b"no picture").status_code == 422
    after = samples(processes, "inference")

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("facet_inference_requests_total,code=OK,method=Predict") == 12
    assert grown("facet_inference_requests_total,code=INVALID_IMAGE,method=Predict") == 1
    assert grown("facet_inference_faces_sum") == grown("facet_inference_faces_count") == 12
    assert grown("facet_inference_duration_seconds_count") == 13
    for step in ("queue", "decode", "pnet", "onet"):
        assert grown(f"facet_inference_step_seconds_count,step={step}") == 12


def test_counts_go_on_when_a_worker_is_replaced(
    processes: RunningStack, client: httpx.Client, face_file: bytes
) -> None:
    """They neither begin again nor forget; the failure is counted, too."""
    wait_for(lambda: processes.serving() == 4, "4 workers serve")
    name = "facet_inference_requests_total,code=OK,method=Predict"
    assert post(client, "raw", face_file).status_code == 200
    before = samples(processes, "inference")
    assert (before["facet_workers"], before["facet_workers_serving"]) == (4, 4)
    processes.workers()[0].kill()
    failures = "facet_worker_failures_total"
    wait_for(lambda: samples(processes, "inference")[failures] == before[failures] + 1, "the failure is counted")
    wait_for(lambda: samples(processes, "inference")["facet_workers_serving"] == 4, "4 workers serve again")
    for _ in range(8):
        assert post(client, "raw", face_file).status_code == 200
    assert samples(processes, "inference")[name] == before[name] + 8


def test_the_gateway_counts_by_route_and_status(processes: RunningStack, client: httpx.Client) -> None:
    """Over all its processes."""
    name = "facet_http_requests_total,method=GET,route=/healthz,status=200"
    before = samples(processes, "web").get(name, 0)
    for _ in range(10):
        client.get("/healthz")
    assert samples(processes, "web")[name] >= before + 10  # Envoy asks for it, too


def test_envoy_shows_its_figures_and_nothing_else_of_its_admin(processes: RunningStack) -> None:
    """That would stop it for whoever asks."""
    url = processes.metrics_urls["envoy"]
    assert "envoy_http_downstream_rq_completed" in httpx.get(url).text
    for path in (
        "/",
        "/quitquitquit",
        "/config_dump",
        "/metrics/",
        "/metrics%2f..%2fquitquitquit",
        "/stats",
    ):
        for ask in (httpx.get, httpx.post):
            assert ask(url.removesuffix("/metrics") + path).status_code == 404


@pytest.mark.parametrize("tier", ["web", "inference", "envoy"])
def test_no_metrics_at_the_front_door(processes: RunningStack, tier: str) -> None:
    """The edge leads to none of them."""
    path = processes.metrics_urls[tier].rpartition("/")[2]
    assert httpx.get(f"{processes.url}/{path}").status_code == 404


def test_what_is_in_flight_is_seen_and_forgotten_with_the_worker_that_had_it(
    processes: RunningStack, slow_file: bytes, client: httpx.Client
) -> None:
    """A picture counts from its arrival to its answer, or to its worker's end; also in a slot that stays empty then."""
    wait_for(lambda: processes.serving() == 4, "4 workers serve")
    old = {worker.pid for worker in processes.workers()}
    processes.supervisors()[0].send_signal(signal.SIGHUP)
    wait_for(lambda: not old & {worker.pid for worker in processes.workers()}, "all are replaced")
    wait_for(lambda: processes.serving() == 4, "4 workers serve again")
    assert 4 in processes.serving_slots(), "the spare slot is in use"
    name = "facet_inference_in_flight"
    assert samples(processes, "inference")[name] == 0
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(post, client, "raw", slow_file) for _ in range(4)]
        wait_for(lambda: samples(processes, "inference")[name] == 4, "each worker has one")
        for worker in processes.workers():
            worker.kill()
        for answer in answers:
            answer.result()  # whatever it is: after so many deaths Envoy may have no try left
    wait_for(lambda: processes.serving() == 4, "4 workers serve again")
    wait_for(lambda: samples(processes, "inference")[name] == 0, "nothing is in flight")
    healthy = "envoy_cluster_membership_healthy,envoy_cluster_name=inference"
    wait_for(lambda: samples(processes, "envoy")[healthy] == 4, "Envoy has found them, too")
    wait_for(lambda: client.get("/readyz").status_code == 200, "and its threads have heard of it")
