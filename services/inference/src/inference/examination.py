"""The examination of an image: encoded bytes and options in, faces and a drawn image out. It knows no transport."""

from dataclasses import dataclass, field

from inference.imaging.decode import ImageLimits, decode
from inference.imaging.draw import DrawOptions, draw
from inference.mtcnn.detector import SMALLEST_FACE, DetectOptions, Detector, Face
from inference.mtcnn.steps import Steps

# The longest drawn file, in multiples of the longest accepted image.
DRAWN_PER_RECEIVED = 2


class InvalidOption(Exception):
    """An option is outside its range. The message names the option and its range."""


@dataclass(frozen=True, slots=True)
class Options:
    """The faces to look for and, unless `draw` is None, how to draw them. Raises InvalidOption."""

    detect: DetectOptions = field(default_factory=DetectOptions)
    draw: DrawOptions | None = None

    def __post_init__(self) -> None:
        detect = self.detect
        if detect.min_face_size < SMALLEST_FACE:
            raise InvalidOption(f"min_face_size is {detect.min_face_size}; it must be at least {SMALLEST_FACE} pixels")
        if not 0 <= detect.min_confidence <= 1:  # also refuses NaN
            raise InvalidOption(f"min_confidence is {detect.min_confidence:g}; it must be between 0 and 1")
        if detect.max_faces < 0:
            raise InvalidOption(f"max_faces is {detect.max_faces}; it must be 1 or more, or 0 for all")
        if self.draw and self.draw.blur and (detect.max_faces or detect.min_confidence):
            raise InvalidOption("max_faces and min_confidence would leave faces unblurred; omit them to blur faces")


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found in one image, and how."""

    width: int
    height: int
    """Size of the upright image in pixels."""
    orientation: int
    """The EXIF orientation that was undone, 1 to 8; 1 is upright."""
    faces: list[Face]
    drawn: bytes
    """The drawn image as a JPEG or PNG file; empty unless the options asked for it."""
    model: str
    engine: str
    milliseconds: dict[str, float]
    """Time spent in each step so far, including the steps that the caller ran before the examination."""


def examine(image: bytes, options: Options, detector: Detector, limits: ImageLimits, steps: Steps) -> Examination:
    """Decode an image, find its faces and, if asked, draw them.

    Raises an `ImageError` when the image is refused, and `Abandoned` when the caller of `steps` no longer waits.
    """
    with steps("decode"):
        decoded = decode(image, limits)
    faces = detector.detect(decoded.pixels, options.detect, steps)
    drawn = b""
    if options.draw:
        with steps("draw"):
            drawn = draw(decoded, faces, options.draw, DRAWN_PER_RECEIVED * limits.max_bytes)
    height, width = decoded.pixels.shape[:2]
    return Examination(
        width=width,
        height=height,
        orientation=decoded.orientation,
        faces=faces,
        drawn=drawn,
        model=detector.model,
        engine=detector.engine,
        milliseconds=dict(steps.milliseconds),
    )
