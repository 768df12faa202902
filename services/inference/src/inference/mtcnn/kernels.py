"""The compiled kernels: what no library does, or none does fast. The C is in kernels.c.

- The first layer of P-Net straight from the picture's bytes: area resize, convolution, PReLU and pooling in one pass,
  so that the pyramid never exists in memory. OpenCV rounds to bytes, or takes ten times as long over floats; and for a
  convolution of three channels to ten OpenVINO takes three times as long.
- Crops as `tf.image.crop_and_resize` takes them; `cv2.remap` rounds positions to 1/32 pixel.
- Non-maximum suppression that is not greedy, in bounded memory.

They are built once for each level of the processor's instruction set, and the best one that it has is loaded. Calls
release the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.mtcnn.detector import RGB
from inference.mtcnn.pyramid import Level, Tile

BUILT = Path(__file__).parent / "built"
# Instruction sets, the best first, and the flags of /proc/cpuinfo that each needs beyond the next.
# Source: x86-64 psABI, section 3.1.1, micro-architecture levels.
INSTRUCTION_SETS = {
    "x86_64_v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86_64_v3": {"avx2", "fma", "bmi1", "bmi2", "f16c", "abm", "movbe"},
    "x86_64_v2": {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"},
}


# The kernels read arrays without gaps: another type or layout is an ArgumentError, not a wild read.
_BYTES = np.ctypeslib.ndpointer(np.uint8, flags="C_CONTIGUOUS")
_FLOATS = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
_DOUBLES = np.ctypeslib.ndpointer(np.float64, flags="C_CONTIGUOUS")
_WHOLES = np.ctypeslib.ndpointer(np.int64, flags="C_CONTIGUOUS")
_ANY = ctypes.c_void_p  # a part of an array, whose strides are given


class KernelsMissing(Exception):
    """The kernels were not built for this machine; the text says what to do."""


class FirstLayer(ctypes.Structure):
    """The weights of P-Net's first layer, as the kernel reads them: [row][colour][column][channel]."""

    _fields_ = (("weight", ctypes.c_float * 270), ("bias", ctypes.c_float * 10), ("slope", ctypes.c_float * 10))

    @classmethod
    def of(cls, weight: NDArray[np.float32], bias: NDArray[np.float32], slope: NDArray[np.float32]) -> FirstLayer:
        """Take them in ONNX order: weight (10, 3, 3, 3) as [channel][colour][row][column], bias and slope (10,)."""
        values = np.concatenate([weight.transpose(2, 1, 3, 0).ravel(), bias.ravel(), slope.ravel()])
        return cls.from_buffer_copy(values.astype(np.float32).tobytes())


class Kernels:
    """The functions of one built library."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        number, size, whole = ctypes.c_int, ctypes.c_ssize_t, ctypes.c_int64
        self._library.first_layer.argtypes = [_BYTES, *[number] * 8, ctypes.POINTER(FirstLayer), _ANY, size, size]
        self._library.crop.argtypes = [_BYTES, number, number, _FLOATS, number, number, _FLOATS]
        self._library.crop.restype = None
        self._library.suppress.argtypes = [_DOUBLES, _WHOLES, whole, whole, whole, ctypes.c_double, number, _BYTES]
        self._library.suppress.restype = None

    def first_layer(
        self, picture: RGB, level: Level, tile: Tile, layer: FirstLayer, canvas: NDArray[np.float32]
    ) -> None:
        """Compute a tile's features into its place on a canvas of shape (10, height, width). Raises MemoryError.

        The resize is that of `tf.image.resize(method="area")`, to the rounding of its positions.
        """
        target = canvas[:, tile.canvas_y :, tile.canvas_x :]
        failed = self._library.first_layer(
            picture,
            picture.shape[0],
            picture.shape[1],
            level.height,
            level.width,
            2 * tile.top,
            2 * tile.left,
            min(2 * tile.rows + 2, level.height - 2 * tile.top),
            min(2 * tile.columns + 2, level.width - 2 * tile.left),
            ctypes.byref(layer),
            target.ctypes.data,
            target.strides[1] // target.itemsize,
            target.strides[0] // target.itemsize,
        )
        if failed:
            raise MemoryError

    def crop(self, picture: RGB, corners: NDArray[np.float64], crops: NDArray[np.float32]) -> None:
        """Fill `crops` (n, 3, side, side) with what is under `corners` (n, 4: x1, y1, x2, y2 in pixels).

        Bilinear, both corners included, and 0 after normalisation outside the picture: `tf.image.crop_and_resize`.
        """
        height, width = picture.shape[:2]
        relative = (corners / [width, height, width, height]).astype(np.float32)
        self._library.crop(picture, height, width, relative, len(crops), crops.shape[3], crops)

    def suppress(
        self,
        corners: NDArray[np.float64],
        ranks: NDArray[np.int64],
        rows: range,
        limit: float,
        fallen: NDArray[np.uint8],
        *,
        by_smaller: bool,
    ) -> None:
        """Mark in `fallen` the rank of each box that a better-ranked one overlaps by more than `limit`.

        `corners` (n, 4) are sorted by x1, so only near neighbours are compared; `rows` are those compared in this call
        with all that follow them. An overlap is shared area by union, or by the smaller box.
        """
        count = len(corners)
        self._library.suppress(corners, ranks, rows.start, rows.stop, count, limit, by_smaller, fallen)


def load_kernels() -> Kernels:
    """Load the best kernels that were built and that this processor can run. Raises KernelsMissing."""
    for name in instruction_sets():
        library = BUILT / f"kernels-{name}.so"
        if library.exists():
            return Kernels(library)
    raise KernelsMissing(f"no kernels for {platform.machine()} in {BUILT}: pip install services/inference builds them")


def instruction_sets() -> list[str]:
    """Name the instruction sets that this processor has, the best first."""
    if platform.machine() != "x86_64":
        return [platform.machine()]
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    names = list(INSTRUCTION_SETS)
    needed = [set().union(*(INSTRUCTION_SETS[lesser] for lesser in names[place:])) for place in range(len(names))]
    return [name for name, need in zip(names, needed, strict=True) if need <= flags]
