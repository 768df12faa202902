"""Sets an image's options from the fields of a request; they obey the same rules in a query, a form and JSON."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from protos import infer_pb2
from web.errors import RequestFailed

# float() also accepts 1_000, digits of other scripts, surrounding spaces, nan and infinity.
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
INT32_MAX = 2**31 - 1
ECHOED = 60  # characters of a name or value that a message repeats


class JsonNumber(str):
    """A number of a JSON body, as it is written there."""

    __slots__ = ()


def set_options(image: infer_pb2.Image, fields: Iterable[tuple[str, Any]]) -> None:
    """Set the image's id and options, and what to draw if anything. The worker checks the ranges.

    Raises RequestFailed.
    """
    seen = set()
    known = [*OPTIONS, *(DRAWING if image.HasField("drawing") else ["image_id"])]  # a drawn image carries no id
    for name, value in ((canonical(name), value) for name, value in fields):
        if name in seen:
            raise RequestFailed("INVALID_OPTION", f"{_short(name)} is given twice; give it once")
        seen.add(name)
        if name not in known:
            raise RequestFailed("INVALID_OPTION", f"there is no option {quoted(name)}{_guess(name, known)}")
        try:
            if name == "image_id":
                image.image_id = _text(value)
            elif name in OPTIONS:
                setattr(image.options, name, OPTIONS[name](value))
            else:
                setattr(image.drawing, name, _choice(value, DRAWING[name]))
        except ValueError as error:
            raise RequestFailed("INVALID_OPTION", f"{name} is {quoted(value)}; it must be {error}") from error


def _guess(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1) if len(name) <= ECHOED else []
    return f"; did you mean {close[0]}?" if close else f"; the options are {', '.join(known)}"


# Each of the next four raises a ValueError that says what the value must be.


def _number(value: Any, kind: str = "a number") -> float:
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        raise ValueError(f"{kind}, in the digits 0 to 9")
    return float(value)


def _whole_number(value: Any) -> int:
    number = _number(value, "a whole number")
    if number > INT32_MAX:
        raise ValueError(f"at most {INT32_MAX}")
    if number < -INT32_MAX:
        raise ValueError("at least 0")
    if not number.is_integer():
        raise ValueError("a whole number")
    return int(number)


def _text(value: Any) -> str:
    if type(value) is not str:  # nor a JsonNumber
        raise ValueError("text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("text without lone surrogates") from None
    return value


def _choice(value: Any, values: Mapping[str, int]) -> int:
    word = str(value).lower() if isinstance(value, (str, bool)) else ""
    if word not in values:
        raise ValueError(" or ".join(values))
    return values[word]


OPTIONS: dict[str, Callable[[Any], float]] = {
    "min_face_size": _whole_number,
    "min_confidence": _number,
    "max_faces": _whole_number,
}
# The options of /annotate: the words for each, and their values in the contract.
DRAWING: dict[str, dict[str, int]] = {
    "style": {"boxes": infer_pb2.Drawing.BOXES, "blur": infer_pb2.Drawing.BLUR},
    "labels": {"true": True, "false": False},
}


def quoted(value: Any) -> str:
    """Repeat what the client sent, shortened."""
    if isinstance(value, list):
        return "an object or array"
    if isinstance(value, (bool, JsonNumber)):
        return _short(str(value)).lower()
    return repr(_short(value))


def _short(text: str) -> str:
    return text if len(text) <= ECHOED else text[:ECHOED] + "..."


def canonical(name: str) -> str:
    """Return a field's name in the .proto file for either of its spellings, rawData and raw_data."""
    return SPELLINGS.get(name, name)


# In proto3 JSON every field has two valid names: `raw_data` and `rawData`.
FIELDS = (*infer_pb2.Image.DESCRIPTOR.fields, *infer_pb2.DetectOptions.DESCRIPTOR.fields)
SPELLINGS = {field.json_name: field.name for field in FIELDS}
