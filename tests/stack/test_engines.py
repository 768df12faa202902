"""Every engine serves the same faces."""

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict

from protos import infer_pb2, infer_pb2_grpc
from tests.stack.running import RunningStack, free_base_port, wait_for
from tests.stack.service import running_service


def coordinates(value: Any) -> list[float]:
    """List all numbers of a response in order."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in coordinates(value[key])]
    if isinstance(value, list):
        return [number for item in value for number in coordinates(item)]
    return [float(value)]


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorflow"])
def test_an_engine_is_chosen_by_one_setting(
    engine: str, processes: RunningStack, tmp_path: Path, astronaut_file: bytes
) -> None:
    """With `FACET_ENGINE` alone, the inference service finds the same faces as with the default engine."""
    expected = httpx.post(f"{processes.url}/predict", files={"image": ("a.webp", astronaut_file)}, timeout=60).json()
    with (
        running_service(free_base_port(), tmp_path, FACET_ENGINE=engine, FACET_WORKERS="1") as service,
        grpc.insecure_channel(service.target) as channel,
    ):
        wait_for(service.serves, "the service serves")
        predict = infer_pb2_grpc.InferenceStub(channel).Predict
        found = predict(infer_pb2.Image(raw_data=astronaut_file), timeout=60)
        with pytest.raises(grpc.RpcError) as rejected:
            predict(infer_pb2.Image(raw_data=astronaut_file[:1000]), timeout=60)
    assert found._meta_data.engine == engine
    assert len(found.results) == len(expected["results"]) == 1
    assert coordinates(MessageToDict(found)["results"]) == pytest.approx(coordinates(expected["results"]), abs=0.01)
    assert rejected.value.code() is grpc.StatusCode.INVALID_ARGUMENT
