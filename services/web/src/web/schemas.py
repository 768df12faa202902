"""What goes in and comes out over HTTP, as pydantic models.

They only describe: `image_request` reads requests and protobuf writes answers. Tests compare the service with them.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from web.errors import STATUS

# The codes of envoy.yaml that STATUS does not have.
BY_ENVOY = ("UNAUTHENTICATED", "REQUEST_TIMEOUT", "RATE_LIMITED", "HEADERS_TOO_LARGE", "REFUSED")
INT32_MAX = 2**31 - 1

File = Annotated[str, Field(json_schema_extra={"format": "binary"}, description="The file: JPEG, PNG or WebP.")]
Base64 = Annotated[str, Field(json_schema_extra={"format": "byte"}, min_length=1)]

MinFaceSize = Annotated[int, Field(ge=12, le=INT32_MAX)]
MinConfidence = Annotated[float, Field(ge=0, le=1)]
MaxFaces = Annotated[int, Field(ge=0, le=INT32_MAX)]
# In proto3 JSON a number may be text.
AtLeast12 = Annotated[str, StringConstraints(pattern="^(1[2-9]|[2-9][0-9]|[1-9][0-9]{2,8})$")]
Fraction = Annotated[str, StringConstraints(pattern=r"^(0(\.[0-9]{1,9})?|1(\.0{1,9})?)$")]
Whole = Annotated[str, StringConstraints(pattern="^[0-9]{1,9}$")]

# An image of one white pixel.
EXAMPLE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAHLCMmQAAAABJRU5ErkJggg=="
)

MIN_FACE_SIZE = (
    "The smallest face to look for: the side of its box in pixels. A larger value is faster. "
    "The default is a setting of the service, normally 20."
)
MIN_CONFIDENCE = "Omits faces with a lower confidence. The default is 0."
MAX_FACES = "Keeps this many faces, those with the largest boxes; 0, the default, keeps all."
IMAGE_ID = "Any text; the answer repeats it as `imageId`."
STYLE = "How faces are marked. `blur` hides them; it cannot be combined with `max_faces` or `min_confidence`."
LABELS = "Whether each box has its confidence beside it."


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    min_face_size: MinFaceSize = Field(20, description=MIN_FACE_SIZE)
    min_confidence: MinConfidence = Field(0, description=MIN_CONFIDENCE)
    max_faces: MaxFaces = Field(0, description=MAX_FACES)


class PredictOptions(_Options):
    image_id: str = Field("", description=IMAGE_ID)


class AnnotateOptions(_Options):
    style: Literal["boxes", "blur"] = Field("boxes", description=STYLE)
    labels: bool = Field(default=True, description=LABELS)


class PredictForm(PredictOptions):
    """A form with one file; an option may be a field or a query parameter."""

    image: File


class AnnotateForm(AnnotateOptions):
    """A form with one file; an option may be a field or a query parameter."""

    image: File


class BatchForm(PredictOptions):
    """A form with several files; the options apply to all of them."""

    image: list[File] = Field(min_length=1)


class _Json(BaseModel):
    """JSON with the names that protobuf gives its fields."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class JsonOptions(_Json):
    min_face_size: MinFaceSize | AtLeast12 | None = Field(None, description=MIN_FACE_SIZE)
    min_confidence: MinConfidence | Fraction | None = Field(None, description=MIN_CONFIDENCE)
    max_faces: MaxFaces | Whole | None = Field(None, description=MAX_FACES)


class _JsonImage(JsonOptions):
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["image"], "properties": {"image": {"type": "string"}, "rawData": {"type": "null"}}},
                {"required": ["rawData"], "properties": {"rawData": {"type": "string"}, "image": {"type": "null"}}},
            ],
            "examples": [{"image": EXAMPLE}],
        }
    )

    image: Base64 | None = Field(None, description="The image in base64, or a data URL that holds it.")
    raw_data: Base64 | None = Field(None, description="The same, by its name in infer.proto; send one of the two.")
    options: JsonOptions | None = Field(None, description="Options may also be nested here.")
    width: Any = Field(None, description="Ignored: the image's own header counts.")
    height: Any = Field(None, description="Ignored.")


class PredictJson(_JsonImage):
    """The proto3 JSON form of `Image` in infer.proto."""

    image_id: str | None = Field(None, description=IMAGE_ID)


class AnnotateJson(_JsonImage):
    style: Literal["boxes", "blur"] | None = Field(None, description=STYLE)
    labels: bool | Literal["true", "false"] | None = Field(None, description=LABELS)


class Point(_Json):
    """A point in the upright image, in pixels from its top left corner, with fractions."""

    x: float
    y: float


class Box(_Json):
    up_left: Point
    lower_right: Point


class Landmarks(_Json):
    """The five landmarks of a face; left and right are the viewer's."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point


class Face(_Json):
    box: Box
    landmarks: Landmarks
    confidence: float = Field(ge=0, le=1)


class MetaData(_Json):
    """How the service examined the image."""

    width: int
    height: int
    orientation: int = Field(ge=1, le=8, description="The EXIF orientation that was undone; 1 is upright.")
    model: str
    engine: str
    worker: str = Field(description="The id of the worker that answered, as in the logs.")
    milliseconds: dict[str, float] = Field(description="The duration of each step.")


class Prediction(_Json):
    """The faces of one image: highest confidence first, or largest first if `max_faces` omitted some."""

    message: Literal[""]
    image_id: str
    width: int = Field(description="The width of the upright image in pixels.")
    height: int
    results: list[Face]
    meta_data: MetaData


class Failure(_Json):
    """An image of a batch that could not be examined."""

    message: str = Field(min_length=1, description="What is wrong, and what to do.")
    code: Literal[tuple(STATUS)]  # type: ignore[valid-type] # the one list of codes
    image_id: str
    results: list[Face] = Field(max_length=0)


class Batch(_Json):
    """One entry per file, in order. Unless the request has an `image_id`, an entry has the name of its file."""

    message: str = Field(description="Empty if all images were examined.")
    images: list[Prediction | Failure]


class Error(_Json):
    message: str = Field(min_length=1, description="What is wrong, and what to do.")
    code: Literal[(*STATUS, *BY_ENVOY)]  # type: ignore[valid-type]
    request_id: str | None = Field(
        description="The request's id in all logs; null if the request could not be read at all."
    )


class Status(_Json):
    status: Literal["alive", "ready"]
