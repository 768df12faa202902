"""What the clients return: equal for equal images over every protocol."""

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
    """Return the gateway's answer after it was written and parsed as text."""
    fields = MessageToDict(answer, always_print_fields_with_no_presence=True)
    return json.loads(json.dumps({"message": "", "width": 7, "height": 5, **fields, "new": "field"}))


@given(coordinate.filter(lambda x: abs(x) < 1e38), st.floats(0, 1))
def test_json_and_message_give_equal_numbers(x: float, confidence: float) -> None:
    """The shortest decimal of a coordinate gives the same float32. The worker and the times do not count."""
    one, other = detection(results(x, confidence, "a")), detection_from_json(as_json(results(x, confidence, "b")))
    assert one == other
    assert hash(one) == hash(other)
    assert one.faces[0].box.up_left.x == x
    assert (one.worker, other.worker) == ("a", "b")
    assert (one.width, one.height, one.orientation) == (7, 5, 6)


def test_a_different_face_is_a_different_detection() -> None:
    """One different number is enough."""
    assert detection(results(1, 0.5, "")) != detection(results(1, 0.25, ""))
    assert Detection((), 1, 2, 1) != Detection((), 2, 1, 1)


def test_an_answer_of_something_else_is_an_error() -> None:
    """It is not a detection without faces."""
    with pytest.raises(FacetError, match="UNEXPECTED_ANSWER"):
        detection_from_json({"results": "none"})


def test_the_service_chooses_a_missing_option() -> None:
    """None means missing; zero is a value."""
    assert request(b"x", min_face_size=None).options == infer_pb2.DetectOptions()
    assert request(b"x", max_faces=0).options.HasField("max_faces")


def test_an_invalid_option_is_refused_before_it_is_sent() -> None:
    """The error names the valid values."""
    with pytest.raises(InvalidOption, match="boxes or blur"):
        drawn_request(b"x", style="pixel")  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="at most 2147483647"):
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
def test_a_code_becomes_an_error_of_its_kind(code: str, kind: type[FacetError], retryable: bool) -> None:  # noqa: FBT001
    """The error has the text and the id of the request."""
    error = error_for(code, "the reason", "id-1")
    assert type(error) is kind
    assert (error.code, error.message, error.request_id, error.retryable) == (code, "the reason", "id-1", retryable)
