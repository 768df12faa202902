"""A request is one trace, from the edge to each step of the detection. Traces that are off cost nothing."""

import json
import secrets
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import grpc
import httpx
import pytest

from protos import infer_pb2, infer_pb2_grpc
from tests.stack.collector import Collector, collecting
from tests.stack.load import Load
from tests.stack.running import ROOT, RunningStack, running_stack, wait_for

STEPS = ["queue", "decode", "pyramid", "pnet", "boxes", "nms", "crops", "rnet", "onet"]
# The names from the edge to the worker, over HTTP; gRPC goes straight from the edge.
OVER_HTTP = [
    "facet-envoy: edge",
    "facet-envoy: edge to web",
    "facet-web: POST /predict",
    "facet-web: Inference/Predict",
    "facet-envoy: internal",
    "facet-envoy: internal to inference",
    "facet-inference: Inference/Predict",
]
OVER_GRPC = ["facet-envoy: edge", "facet-envoy: edge to inference", "facet-inference: Inference/Predict"]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[RunningStack]:
    """A stack with one worker that sends its traces to the collector."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with running_stack(tmp_path_factory.mktemp("traced") / "logs", "--workers=1", **variables) as running:
        yield running


def begun(sampled: bool = True) -> tuple[str, dict[str, str]]:  # noqa: FBT001, FBT002 - the one thing to say
    """Start a trace as a caller does: return its id and the header that carries it."""
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{'cd' * 8}-{'01' if sampled else '00'}"}


def post(stack: RunningStack, path: str, headers: dict[str, str], **body: object) -> httpx.Response:
    return httpx.post(f"{stack.url}{path}", headers=headers, timeout=60, **body)  # type: ignore[arg-type]


def names(line: list[str]) -> list[str]:
    """Remove the service from each name."""
    return [span.partition(": ")[2] for span in line]


def test_a_request_is_one_trace_down_to_each_step(
    traced: RunningStack, collector: Collector, astronaut_file: bytes
) -> None:
    """It continues the caller's trace. Each span lies within its parent, by id and by time."""
    trace_id, headers = begun()
    answer = post(traced, "/predict", headers, content=astronaut_file)
    trace = collector.trace(trace_id, *names(OVER_HTTP), *STEPS)
    worker = trace.one("Inference/Predict", "facet-inference")
    assert trace.line(worker) == OVER_HTTP
    assert trace.one("edge").parent == "cd" * 8
    assert [span.name for span in trace.children(worker)] == STEPS
    assert len(trace.spans) == len(OVER_HTTP) + len(STEPS)
    milliseconds = answer.json()["metaData"]["milliseconds"]
    for parent in trace.spans:
        for span in trace.children(parent):
            assert parent.began <= span.began <= span.ended <= parent.ended, (parent, span)
    for span in trace.children(worker):
        assert span.milliseconds == pytest.approx(milliseconds[span.name], abs=0.002)
    assert not any(span.failed for span in trace.spans)


def test_spans_say_what_was_asked_and_found(traced: RunningStack, collector: Collector, astronaut_file: bytes) -> None:
    """The request id is that of the response and of the logs. Log lines have the trace id."""
    trace_id, headers = begun()
    answer = post(traced, "/predict", headers, content=astronaut_file)
    trace = collector.trace(trace_id, "POST /predict", *2 * ["Inference/Predict"])
    gateway = trace.one("POST /predict").attributes
    assert gateway["facet.request_id"] == answer.headers["X-Request-ID"]
    assert (gateway["http.route"], gateway["http.response.status_code"]) == ("/predict", 200)
    worker = trace.one("Inference/Predict", "facet-inference").attributes
    assert worker["facet.request_id"] == answer.headers["X-Request-ID"]
    assert (worker["facet.width"], worker["facet.height"], worker["facet.faces"]) == (512, 512, 1)
    assert worker["facet.bytes"] == len(astronaut_file)
    assert (worker["facet.engine"], worker["rpc.response.status_code"]) == ("openvino", "OK")
    for part in ("web", "inference"):
        assert [line for line in traced.log_lines(part) if line.get("trace_id") == trace_id]


def test_grpc_is_traced_from_the_edge_to_the_worker(
    traced: RunningStack, collector: Collector, face_file: bytes
) -> None:
    """Without a caller's trace, the edge starts one."""
    with grpc.insecure_channel(traced.edge) as channel:
        stub = infer_pb2_grpc.InferenceStub(channel)
        request_id = f"grpc-{secrets.token_hex(4)}"
        stub.Predict(infer_pb2.Image(raw_data=face_file), metadata=(("x-request-id", request_id),), timeout=60)
    found = wait_for(
        lambda: [span for span in collector.spans if span.attributes.get("facet.request_id") == request_id], "the span"
    )
    trace = collector.trace(found[0].trace, *names(OVER_GRPC))
    assert trace.line(trace.one("Inference/Predict")) == OVER_GRPC
    assert trace.one("edge").parent == ""


def test_each_image_of_a_batch_and_of_a_stream_has_a_span(
    traced: RunningStack, collector: Collector, face_file: bytes
) -> None:
    """Each has its own steps. The span of a bad image has the error."""
    trace_id, headers = begun()
    files = [("image", (f"{number}.png", face_file)) for number in range(3)]
    assert post(traced, "/predict/batch", headers, files=files).status_code == 200
    trace = collector.trace(trace_id, *6 * ["Inference/Predict"], *3 * STEPS)
    examined = [span for span in trace.all("Inference/Predict") if span.service == "facet-inference"]
    assert len({span.parent for span in examined}) == 3
    for image in examined:
        assert [span.name for span in trace.children(image)] == STEPS

    trace_id, headers = begun()
    images = [infer_pb2.Image(raw_data=data) for data in (face_file, b"not an image", face_file)]
    with grpc.insecure_channel(traced.edge) as channel:
        stream = infer_pb2_grpc.InferenceStub(channel).PredictStream(iter(images), metadata=tuple(headers.items()))
        assert [len(answer.results) for answer in stream] == [1, 0, 1]
    trace = collector.trace(trace_id, "edge to inference", *3 * ["Inference/PredictStream"])
    streamed = trace.children(trace.one("edge to inference"))
    codes = [span.attributes["rpc.response.status_code"] for span in streamed]
    assert codes == ["OK", "INVALID_ARGUMENT", "OK"]


def test_a_callers_error_does_not_fail_the_spans(traced: RunningStack, collector: Collector) -> None:
    """It has the code of the error, and the step that found it."""
    trace_id, headers = begun()
    assert post(traced, "/predict", headers, content=b"not an image").status_code == 422
    trace = collector.trace(trace_id, *names(OVER_HTTP), "queue", "decode")
    worker = trace.one("Inference/Predict", "facet-inference")
    assert trace.one("POST /predict").attributes["facet.code"] == "INVALID_IMAGE"
    assert worker.attributes["facet.code"] == "INVALID_IMAGE"
    assert not [span.name for span in trace.spans if span.failed and span.service != "facet-envoy"]
    assert not trace.one("edge").failed
    assert [span.name for span in trace.children(worker)] == ["queue", "decode"]


def test_a_missed_deadline_is_an_error_where_it_is_enforced(
    traced: RunningStack, collector: Collector, slow_file: bytes
) -> None:
    """The edge and the gateway record an error. The worker records that it was cancelled, and in which step."""
    trace_id, headers = begun()
    headers["X-Request-Timeout"] = "0.5"
    assert post(traced, "/predict", headers, content=slow_file).status_code == 504
    trace = collector.trace(trace_id, *names(OVER_HTTP), "queue", "decode")
    call, worker = (trace.one("Inference/Predict", service) for service in ("facet-web", "facet-inference"))
    for span in (trace.one("edge"), trace.one("POST /predict"), call):
        assert span.failed, span
    assert trace.one("POST /predict").attributes["facet.code"] == "DEADLINE_EXCEEDED"
    assert call.attributes["rpc.response.status_code"] == call.attributes["error.type"] == "DEADLINE_EXCEEDED"
    assert worker.attributes["facet.code"] == "CANCELLED"
    assert not worker.failed


def test_a_caller_that_hangs_up_is_not_an_error(traced: RunningStack, collector: Collector, slow_file: bytes) -> None:
    """The spans of the gateway and of the worker record that the caller left."""
    trace_id, headers = begun()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{traced.url}/predict", headers=headers, content=slow_file, timeout=httpx.Timeout(60, read=0.3))
    trace = collector.trace(trace_id, "POST /predict", *2 * ["Inference/Predict"])
    assert trace.one("POST /predict").attributes["facet.code"] == "CALLER_LEFT"
    calls = trace.all("Inference/Predict")
    assert [span.attributes["rpc.response.status_code"] for span in calls] == 2 * ["CANCELLED"]
    assert not [span for span in (trace.one("POST /predict"), *calls) if span.failed or "error.type" in span.attributes]


def test_each_attempt_has_a_span(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector, face_file: bytes
) -> None:
    """One of two gateways is killed under load, and the other answers its requests."""
    logs = tmp_path_factory.mktemp("attempts") / "logs"
    arguments = ("--workers=1", "--web-replicas=2")
    with running_stack(logs, *arguments, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as stack:
        with Load(stack.url, face_file, callers=4) as load:
            load.wait_for_more(8)
            gateway = stack.gateways()[0]
            for process in (gateway, *gateway.children()):
                process.kill()
            load.wait_for_more(40)
        assert load.lost() == {}

        def attempts() -> list[int]:
            spans = collector.spans
            counts = Counter(span.parent for span in spans if span.name == "edge to web")
            images = [s.id for s in spans if s.name == "edge" and s.attributes["http.url"].endswith("/predict")]
            return [counts[image] for image in images]

        wait_for(lambda: 2 in attempts(), "an image with two attempts")


def test_an_unsampled_trace_is_not_recorded(traced: RunningStack, collector: Collector, face_file: bytes) -> None:
    """All tiers follow the caller's sampling decision."""
    unwanted, headers = begun(sampled=False)
    assert post(traced, "/predict", headers, content=face_file).status_code == 200
    wanted, headers = begun()
    assert post(traced, "/predict", headers, content=face_file).status_code == 200
    collector.trace(wanted, *names(OVER_HTTP))
    assert unwanted not in {span.trace for span in collector.spans}
    assert not [line for line in traced.log_lines("inference") if line.get("trace_id") == unwanted]


def test_the_services_trace_only_images(traced: RunningStack, collector: Collector, face_file: bytes) -> None:
    """Health checks and the files of pages have neither a span nor an INFO line in the log."""
    trace_id, headers = begun()
    headers["X-Request-ID"] = trace_id
    paths = ("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/static/page.js", "/static/nothing", "/nothing")
    statuses = [httpx.get(f"{traced.url}{path}", headers=headers).status_code for path in paths]
    assert statuses == [*6 * [200], 404, 404]
    assert post(traced, "/predict", headers, content=face_file).status_code == 200
    trace = collector.trace(trace_id, *len(paths) * ["edge"], *names(OVER_HTTP), *STEPS)
    assert len([span for span in trace.spans if span.service != "facet-envoy"]) == 3 + len(STEPS)
    logged = [line for line in traced.log_lines("web") if line["request_id"] == trace_id]
    assert [line["path"] for line in logged] == ["/static/nothing", "/nothing", "/predict"]


def test_a_shutdown_sends_the_remaining_spans(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector, face_file: bytes
) -> None:
    """A shutdown sends them without waiting for the next interval, here a minute."""
    trace_id, headers = begun()
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with running_stack(tmp_path_factory.mktemp("end") / "logs", "--workers=1", **variables) as stack:
        assert post(stack, "/predict", headers, content=face_file).status_code == 200
        assert "facet-web" not in {span.service for span in collector.spans if span.trace == trace_id}
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait(60) == 0
    found = {span.service for span in collector.spans if span.trace == trace_id}
    assert {"facet-web", "facet-inference"} <= found


def test_an_unavailable_collector_costs_no_request(tmp_path_factory: pytest.TempPathFactory, face_file: bytes) -> None:
    """The logs report it as JSON and rarely. The shutdown does not wait for the collector."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": away, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with running_stack(tmp_path_factory.mktemp("away") / "logs", "--workers=1", **variables) as stack:

            def warnings(part: str) -> list[str]:
                lines = stack.log_lines(part)
                return [line["message"] for line in lines if line["level"] in ("WARNING", "ERROR")]

            statuses: list[int] = []

            def both_warn() -> bool:
                statuses.append(post(stack, "/predict", {}, content=face_file).status_code)
                return bool(warnings("web") and warnings("inference"))

            wait_for(both_warn, "both report that they cannot send")
            assert set(statuses) == {200}
            for part in ("web", "inference"):
                assert all("export" in line for line in warnings(part))
                assert len(warnings(part)) <= max(4, len(statuses) / 2)
            stack.process.send_signal(signal.SIGINT)
            assert stack.process.wait(20) == 0
            assert [line for line in stack.log_lines("inference") if line["message"] == "stopped"]


@pytest.mark.parametrize(
    ("variables", "imported"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_nothing_is_imported_unless_traces_are_on(variables: dict[str, str], imported: bool) -> None:  # noqa: FBT001
    """Neither by the gateway's application nor by a worker."""
    program = """
import json, os, sys
from inference.settings import Settings
from inference.process.worker import Worker, load
import asyncio
async def make():
    Worker(Settings(), 0, "0", load, os.pipe()[1])
asyncio.run(make())
from web.app import create_app
create_app()
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry")))
"""
    environment = {"PATH": "/usr/bin:/bin", "PROMETHEUS_MULTIPROC_DIR": "/tmp"} | variables
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert bool(json.loads(done.stdout)) == imported


def test_without_traces_a_callers_trace_is_ignored(
    processes: RunningStack, client: httpx.Client, face_file: bytes
) -> None:
    """No log line has a trace id, and Envoy has neither a tracer nor a collector."""
    _, headers = begun()
    assert client.post("/predict", content=face_file, headers=headers).status_code == 200
    assert not [line for part in ("web", "inference") for line in processes.log_lines(part) if "trace_id" in line]
    figures = httpx.get(processes.metrics_urls["envoy"]).text
    assert "envoy_tracing_opentelemetry" not in figures
    assert "collector" not in figures
