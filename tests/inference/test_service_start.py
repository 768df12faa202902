"""`python -m inference`: the ids of its workers, and its errors when it cannot start."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from protos import infer_pb2, infer_pb2_grpc
from tests.stack.running import free_base_port


def environment(base: int, **settings: str) -> dict[str, str]:
    """Give the environment of a service with one worker on free ports from `base` on."""
    ports = {"FACET_PORT": base, "FACET_WORKER_PORT": base + 1, "FACET_METRICS_PORT": base + 3}
    numbers = {name: str(port) for name, port in ports.items()}
    return os.environ | numbers | {"FACET_HOST": "127.0.0.1", "FACET_WORKERS": "1"} | settings


def start(**settings: str) -> subprocess.CompletedProcess[str]:
    """Run the service until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "inference"],
        env=environment(free_base_port(), **settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_answers_and_logs_name_a_worker_by_the_same_id(face_file: bytes) -> None:
    """The id is random: it tells a caller no host and no port."""
    base = free_base_port()
    service = subprocess.Popen(
        [sys.executable, "-m", "inference"],
        env=environment(base, FACET_WORKERS="2", FACET_METRICS_PORT=str(base + 4), FACET_DRAIN_SECONDS="0"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{base}") as channel:
            answer = infer_pb2_grpc.InferenceStub(channel).Predict(
                infer_pb2.Image(raw_data=face_file), wait_for_ready=True, timeout=60
            )
        service.terminate()
        output, _ = service.communicate(timeout=60)
    finally:
        service.kill()
        service.wait()
    worker = answer._meta_data.worker
    assert re.fullmatch("[0-9a-f]{8}", worker)
    lines = [json.loads(line) for line in output.splitlines()]
    started = {line["slot"]: line["worker"] for line in lines if line["message"] == "worker started"}
    assert started[0] != started[1]
    (slot,) = (slot for slot, found in started.items() if found == worker)
    assert {line["worker"] for line in lines if line["part"] == f"worker {slot}"} == {worker}
    named = {line["message"] for line in lines if line.get("worker") == worker}
    assert {"worker started", "worker serves", "serving", "predict"} <= named


def critical(ended: subprocess.CompletedProcess[str]) -> str:
    """Give the message of the worker's only CRITICAL line. There is no output besides the log."""
    assert ended.stderr == ""
    records = [json.loads(line) for line in ended.stdout.splitlines()]
    (line,) = [record for record in records if record["level"] == "CRITICAL" and record["part"] == "worker 0"]
    assert "exc_info" not in line
    return str(line["message"])


def test_a_port_in_use_ends_the_start() -> None:
    """It ends before a worker starts."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = start(FACET_PORT=str(port))
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stdout
    assert "worker started" not in ended.stdout


def test_an_unknown_engine_ends_the_start() -> None:
    """The service has the exit code of the worker."""
    ended = start(FACET_ENGINE="caffe")
    assert ended.returncode == 3
    assert "there is no engine 'caffe'; FACET_ENGINE can be: openvino, onnxruntime, tensorflow" in ended.stdout


@pytest.mark.parametrize(
    ("engine", "packages"), [("openvino", "openvino"), ("onnxruntime", "onnxruntime"), ("tensorflow", "tensorflow")]
)
def test_an_engine_that_is_not_installed_ends_the_start(engine: str, packages: str, tmp_path: Path) -> None:
    """One sentence says how to install it. The test hides the package from the worker."""
    hidden = f"import sys\nsys.modules[{packages!r}] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    ended = start(FACET_ENGINE=engine, PYTHONPATH=str(tmp_path))
    assert ended.returncode == 3
    assert f"pip install 'facet-inference[{engine}]'" in critical(ended)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_bad_weights_end_the_start(engine: str, tmp_path: Path) -> None:
    """One sentence names the file."""
    (tmp_path / "pnet.onnx").write_text("not a network")
    ended = start(FACET_ENGINE=engine, FACET_WEIGHTS=str(tmp_path))
    assert ended.returncode == 3
    assert critical(ended) == f"{tmp_path}/pnet.onnx cannot be read as an ONNX model"
    missing = tmp_path / "nowhere"
    assert f"there is no file {missing}/pnet.onnx" in critical(start(FACET_ENGINE=engine, FACET_WEIGHTS=str(missing)))


def test_a_setting_out_of_range_is_named() -> None:
    """The message names its variable and has no traceback."""
    ended = start(FACET_WORKERS="17", FACET_MAX_PIXELS="many", OTEL_TRACES_EXPORTER="console")
    assert ended.returncode == 2
    assert "FACET_WORKERS: Input should be less than or equal to 16" in ended.stderr
    assert "FACET_MAX_PIXELS: 'many' is not a number; write it with the digits 0 to 9" in ended.stderr
    assert "OTEL_TRACES_EXPORTER: Input should be '', 'none' or 'otlp'" in ended.stderr
    assert "Traceback" not in ended.stderr
