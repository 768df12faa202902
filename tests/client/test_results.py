"""What the clients give: equal for equal pictures, whatever they were asked over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from facet import Detection, FacetError, ImageRefused, InvalidOption, ServiceUnavailable, TimedOut
from facet.errors import error_for
from facet.messages import detection, detection_from_json, drawn_request, request
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from protos import infer_pb2

coordinate = st.floats(width=32, allow_nan=False, allow_infinity=False)


def results(x: float, confidence: float, worker: str) -> infer_pb2.InferResults:
    point = infer_pb2.Point(x=x, y=2 * x / 3)
    face = infer_pb2.Result(
        box=infer_pb2.Box(up_left=point, lower_right=point),
        landmarks=infer_pb2.Landmarks(left_eye=point, right_eye=point, nose=point, mouth_left=point, mouth_right=point),
        confidence=confidence,
    )
    did = infer_pb2.MetaData(width=7, height=5, orientation=6, worker=worker, milliseconds={"pnet": 1.5})
    return infer_pb2.InferResults(image_id=worker, results=[face], _meta_data=did)


def as_json(answer: infer_pb2.InferResults) -> Any:
    """The gateway's answer, as it is after the way through text."""
    said = MessageToDict(answer, always_print_fields_with_no_presence=True)
    return json.loads(json.dumps({"message": "", "width": 7, "height": 5, **said, "new": "field"}))


@given(coordinate.filter(lambda x: abs(x) < 1e38), st.floats(0, 1))
def test_json_and_message_give_equal_numbers(x: float, confidence: float) -> None:
    """A coordinate's shortest decimal becomes the float32 that it was; the worker and its times do not count."""
    one, other = detection(results(x, confidence, "a")), detection_from_json(as_json(results(x, confidence, "b")))
    assert one == other
    assert hash(one) == hash(other)
    assert one.faces[0].box.up_left.x == x
    assert (one.worker, other.worker) == ("a", "b")
    assert (one.width, one.height, one.orientation) == (7, 5, 6)


def test_a_different_face_is_a_different_detection() -> None:
    """By any number."""
    assert detection(results(1, 0.5, "")) != detection(results(1, 0.25, ""))
    assert Detection((), 1, 2, 1) != Detection((), 2, 1, 1)


def test_what_is_no_answer_of_ours_is_an_error() -> None:
    """And no empty detection."""
    with pytest.raises(FacetError, match="UNEXPECTED_ANSWER"):
        detection_from_json({"results": "none"})


def test_an_option_that_is_left_out_is_left_to_the_service() -> None:
    """As is one that is None; zero is a value."""
    assert request(b"x", min_face_size=None).options == infer_pb2.DetectOptions()
    assert request(b"x", max_faces=0).options.HasField("max_faces")


def test_a_word_that_is_none_is_refused_before_it_is_sent() -> None:
    """With the words that there are."""
    with pytest.raises(InvalidOption, match="boxes or blur"):
        drawn_request(b"x", style="pixel")  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="range"):
        request(b"x", max_faces=2**40)


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("IMAGE_TOO_LARGE", ImageRefused, False),
        ("INVALID_OPTION", InvalidOption, False),
        ("DEADLINE_EXCEEDED", TimedOut, False),
        ("BUSY", ServiceUnavailable, True),
        ("A_CODE_OF_THE_FUTURE", FacetError, False),
    ],
)
def test_a_code_becomes_the_error_that_one_would_catch(code: str, kind: type[FacetError], retryable: bool) -> None:  # noqa: FBT001
    """With its text and the request's id."""
    error = error_for(code, "so it is", "id-1")
    assert type(error) is kind
    assert (error.code, error.message, error.request_id, error.retryable) == (code, "so it is", "id-1", retryable)
