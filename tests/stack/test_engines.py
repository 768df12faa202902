"""Every engine serves the same answers through the whole stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stack.running import running_stack


def coordinates(value: Any) -> list[float]:
    """List all numbers of an answer, in order."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in coordinates(value[key])]
    if isinstance(value, list):
        return [number for item in value for number in coordinates(item)]
    return [float(value)]


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "tensorflow"])
def test_an_engine_is_chosen_by_one_setting(
    engine: str,
    client: httpx.Client,
    tmp_path: Path,
    astronaut_file: bytes,
) -> None:
    """With `FACET_ENGINE` alone: the faces are those of the stack that all other tests use."""
    wanted = client.post("/predict", files={"image": ("a.webp", astronaut_file)}).json()
    with (
        running_stack(tmp_path / "logs", "--workers=1", FACET_ENGINE=engine) as other,
        httpx.Client(base_url=other.url, timeout=60) as http,
    ):
        found = http.post("/predict", files={"image": ("a.webp", astronaut_file)}).json()
        refused = http.post("/predict", files={"image": ("a.webp", astronaut_file[:1000])})
    assert found["metaData"]["engine"] == engine
    assert len(found["results"]) == len(wanted["results"]) == 1
    assert coordinates(found["results"]) == pytest.approx(coordinates(wanted["results"]), abs=0.01)
    assert (refused.status_code, refused.json()["code"]) == (422, "INVALID_IMAGE")
