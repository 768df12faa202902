"""Hooks for schemathesis: images, and options that exclude each other, which the API's description cannot express."""

import base64
import io
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from pydantic.alias_generators import to_snake
from schemathesis.generation import GenerationMode


def _image(form: str) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((24, 18)).save(file, form)
    return file.getvalue()


IMAGES = st.sampled_from([_image(form) for form in ("PNG", "JPEG", "WEBP")])

schemathesis.openapi.format("binary", IMAGES)
schemathesis.openapi.format("byte", IMAGES.map(base64.b64encode).map(bytes.decode))
for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, IMAGES)


@schemathesis.deserializer("image/jpeg", "image/png")
def read_image(_: Any, response: Any) -> str:
    """Fail unless the whole image can be decoded and has the stated type."""
    with Image.open(io.BytesIO(response.content)) as image:
        image.load()
        assert f"image/{str(image.format).lower()}" == response.headers["content-type"][0]
    return "an image"


@schemathesis.hook
def before_load_schema(_: Any, raw_schema: dict[str, Any]) -> None:
    """Remove X-Request-Timeout, which may correctly lead to 504; other tests cover it."""
    for path in raw_schema["paths"].values():
        for operation in path.values():
            said = operation.get("parameters", [])
            said[:] = [parameter for parameter in said if parameter["name"] != "X-Request-Timeout"]


@schemathesis.hook
def filter_case(_: Any, case: Any) -> bool:
    """Skip forms with an empty list, which cannot be sent."""
    form = case.body if case.media_type == "multipart/form-data" and isinstance(case.body, dict) else {}
    return [] not in form.values()


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Keep each option of a valid request once, and drop those that blur does not allow."""
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
