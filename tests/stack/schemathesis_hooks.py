"""What schemathesis cannot read from the API's description: what a picture is, and what does not go together."""

from __future__ import annotations

import base64
import io
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from pydantic.alias_generators import to_snake
from schemathesis.generation import GenerationMode


def _picture(form: str) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((24, 18)).save(file, form)
    return file.getvalue()


PICTURES = st.sampled_from([_picture(form) for form in ("PNG", "JPEG", "WEBP")])

schemathesis.openapi.format("binary", PICTURES)
schemathesis.openapi.format("byte", PICTURES.map(base64.b64encode).map(bytes.decode))
for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, PICTURES)


@schemathesis.deserializer("image/jpeg", "image/png")
def read_picture(_: Any, response: Any) -> str:
    """Fail unless the whole picture can be decoded, and is of the type that it is said to be."""
    with Image.open(io.BytesIO(response.content)) as picture:
        picture.load()
        assert f"image/{str(picture.format).lower()}" == response.headers["content-type"][0]
    return "a picture"


@schemathesis.hook
def before_load_schema(_: Any, raw_schema: dict[str, Any]) -> None:
    """Leave X-Request-Timeout to tests of its own: a short one ends, rightly, with 504."""
    for path in raw_schema["paths"].values():
        for operation in path.values():
            said = operation.get("parameters", [])
            said[:] = [parameter for parameter in said if parameter["name"] != "X-Request-Timeout"]


@schemathesis.hook
def filter_case(_: Any, case: Any) -> bool:
    """Leave out forms with an empty list, of which nothing is sent."""
    form = case.body if case.media_type == "multipart/form-data" and isinstance(case.body, dict) else {}
    return [] not in form.values()


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Let a valid request say each option once, and none that contradicts another: who blurs faces leaves none out."""
    if case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    body = case.body if isinstance(case.body, dict) else {}
    places = [place for place in (body, body.get("options"), case.query) if isinstance(place, dict)]
    blurred = any(place.get("style") == "blur" for place in places)
    seen = {"max_faces", "min_confidence"} if blurred else set()
    for place in places:
        for name in [name for name in place if to_snake(name) in seen]:
            del place[name]
        seen |= set(map(to_snake, place))
    case._sync_validated_hashes()
