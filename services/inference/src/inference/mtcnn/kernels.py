"""The compiled kernels, for operations that no library offers or offers fast enough. The C code is in kernels.c.

- The first layer of P-Net from the pixels: area resize, convolution, PReLU and pooling in one pass, so that the pyramid
  never exists in memory. OpenCV's resize rounds to bytes, or takes ten times as long with floats; OpenVINO takes three
  times as long for a convolution of three channels to ten.
- Crops like `tf.image.crop_and_resize`; `cv2.remap` rounds positions to 1/32 pixel.
- Non-maximum suppression that is not greedy, in bounded memory.

There is one library per instruction set, and the best that the processor supports is loaded. Calls release the
interpreter's lock.
"""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.mtcnn.detector import RGB
from inference.mtcnn.pyramid import Level, Tile

BUILT = Path(__file__).parent / "built"
# Instruction sets, the best first, and the flags of /proc/cpuinfo that each needs in addition to the next.
# Source: x86-64 psABI, section 3.1.1, micro-architecture levels.
INSTRUCTION_SETS = {
    "x86_64_v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86_64_v3": {"avx2", "fma", "bmi1", "bmi2", "f16c", "abm", "movbe"},
    "x86_64_v2": {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"},
}


class KernelsMissing(Exception):
    """There are no kernels for this machine. The message says how to build them."""


class FirstLayer(ctypes.Structure):
    """The weights of P-Net's first layer in the kernel's order: [row][color][column][channel]."""

    _fields_ = (("weight", ctypes.c_float * 270), ("bias", ctypes.c_float * 10), ("slope", ctypes.c_float * 10))

    @classmethod
    def of(cls, weight: NDArray[np.float32], bias: NDArray[np.float32], slope: NDArray[np.float32]) -> FirstLayer:
        """Convert from ONNX order: weight (10, 3, 3, 3) as [channel][color][row][column], bias and slope (10,)."""
        values = np.concatenate([weight.transpose(2, 1, 3, 0).ravel(), bias.ravel(), slope.ravel()])
        return cls.from_buffer_copy(values.astype(np.float32).tobytes())


class Kernels:
    """The functions of one built library."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        array, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_ssize_t
        self._library.first_layer.argtypes = [array, *[number] * 8, ctypes.POINTER(FirstLayer), array, size, size]
        self._library.crop.argtypes = [array, number, number, array, number, number, array]
        self._library.crop.restype = None
        self._library.suppress.argtypes = [array, array, *[ctypes.c_int64] * 3, ctypes.c_double, number, array]
        self._library.suppress.restype = None

    def first_layer(
        self, pixels: RGB, level: Level, tile: Tile, layer: FirstLayer, canvas: NDArray[np.float32]
    ) -> None:
        """Write a tile's features to its position on a canvas (10, height, width) float32. Raises MemoryError.

        The resize equals `tf.image.resize(method="area")`, including the rounding of positions.
        """
        target = canvas[:, tile.canvas_y :, tile.canvas_x :]
        failed = self._library.first_layer(
            _address(pixels, np.uint8),
            *pixels.shape[:2],
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

    def crop(self, pixels: RGB, corners: NDArray[np.float64], crops: NDArray[np.float32]) -> None:
        """Fill `crops` (n, 3, side, side) float32 with the normalized pixels in `corners` (n, 4: x1, y1, x2, y2).

        As in `tf.image.crop_and_resize`: bilinear, both corners included, 0 outside the image.
        """
        height, width = pixels.shape[:2]
        relative = (corners / [width, height, width, height]).astype(np.float32)
        self._library.crop(
            _address(pixels, np.uint8),
            height,
            width,
            _address(relative, np.float32),
            len(crops),
            crops.shape[3],
            _address(crops, np.float32),
        )

    def suppress(
        self,
        corners: NDArray[np.float64],
        ranks: NDArray[np.int64],
        rows: range,
        limit: float,
        suppressed: NDArray[np.uint8],
        *,
        by_smaller: bool,
    ) -> None:
        """Set `suppressed` at the rank of each box that a box of better rank overlaps by more than `limit`.

        `corners` (n, 4) are sorted by x1, so that only near neighbors are compared. This call compares `rows` with all
        boxes after them. The overlap is the shared area divided by the union, or by the smaller box.
        """
        self._library.suppress(
            _address(corners, np.float64),
            _address(ranks, np.int64),
            rows.start,
            rows.stop,
            len(corners),
            limit,
            by_smaller,
            _address(suppressed, np.uint8),
        )


def load_kernels() -> Kernels:
    """Load the best kernels that are built and that this processor supports. Raises KernelsMissing."""
    for name in instruction_sets():
        library = BUILT / f"kernels-{name}.so"
        if library.exists():
            return Kernels(library)
    raise KernelsMissing(f"no kernels for {platform.machine()} in {BUILT}; pip install services/inference builds them")


def instruction_sets() -> list[str]:
    """Name the instruction sets that this processor supports, the best first."""
    if platform.machine() != "x86_64":
        return [platform.machine()]
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    names = list(INSTRUCTION_SETS)
    needed = [set().union(*(INSTRUCTION_SETS[lesser] for lesser in names[place:])) for place in range(len(names))]
    return [name for name, need in zip(names, needed, strict=True) if need <= flags]


def _address(array: NDArray[Any], kind: type[np.generic]) -> int:
    """Give the address of an array. The C code reads it unchecked, so another type or layout is an error here."""
    if array.dtype != kind or not array.flags.c_contiguous:
        raise TypeError(f"the kernels need contiguous {kind.__name__}, not {array.dtype} with strides {array.strides}")
    return array.ctypes.data
