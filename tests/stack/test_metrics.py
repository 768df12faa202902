"""Each tier serves its metrics on a separate port. They are correct over several processes and after restarts."""

import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.stack.running import RunningStack, wait_for
from tests.stack.test_predict import post


def samples(stack: RunningStack, tier: str) -> dict[str, float]:
    """Read the metrics of a tier: name with labels, and value."""
    text = httpx.get(stack.metrics_urls[tier]).text
    return {
        ",".join([sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_images_are_counted_over_all_workers(
    processes: RunningStack, client: httpx.Client, astronaut_file: bytes
) -> None:
    """Twelve images with one face each count as twelve over four workers. A rejected image counts under its reason."""
    wait_for(lambda: processes.serving() == 4, "4 workers serve")
    before = samples(processes, "inference")
    for _ in range(12):
        assert post(client, "raw", astronaut_file).status_code == 200
    assert post(client, "raw", b"not an image").status_code == 422
    after = samples(processes, "inference")

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("facet_inference_requests_total,code=OK,method=Predict") == 12
    assert grown("facet_inference_requests_total,code=INVALID_IMAGE,method=Predict") == 1
    assert grown("facet_inference_faces_sum") == grown("facet_inference_faces_count") == 12
    assert grown("facet_inference_duration_seconds_count") == 13
    for step in ("queue", "decode", "pnet", "onet"):
        assert grown(f"facet_inference_step_seconds_count,step={step}") == 12


def test_counts_continue_when_a_worker_is_replaced(
    processes: RunningStack, client: httpx.Client, face_file: bytes
) -> None:
    """The new worker continues the counts of its predecessor. The failure counts, too."""
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
    """The counts are sums over all processes."""
    name = "facet_http_requests_total,method=GET,route=/healthz,status=200"
    before = samples(processes, "web").get(name, 0)
    for _ in range(10):
        client.get("/healthz")
    assert samples(processes, "web")[name] >= before + 10  # Envoy checks it, too


def test_envoy_serves_its_metrics_and_nothing_else_of_its_admin(processes: RunningStack) -> None:
    """The admin interface would let anyone stop it."""
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
    """The edge does not route to them."""
    path = processes.metrics_urls[tier].rpartition("/")[2]
    assert httpx.get(f"{processes.url}/{path}").status_code == 404


def test_images_in_flight_are_counted_until_their_worker_ends(
    processes: RunningStack, slow_file: bytes, client: httpx.Client
) -> None:
    """An image is in flight until it is answered or its worker ends, even if the slot stays empty."""
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
    wait_for(lambda: client.get("/readyz").status_code == 200, "and its threads know it")
