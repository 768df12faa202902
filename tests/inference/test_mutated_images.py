"""The decoder on mutated images: far more than a whole stack can examine."""

import random

import pytest
from inference.imaging.decode import ImageLimits, decode
from inference.imaging.errors import ImageError

from tests.hostile.mutations import mutated

LIMITS = ImageLimits(max_bytes=10 * 1024 * 1024, max_pixels=40_000_000, max_side=16384)
SEED = 20261123
CASES = 20_000


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # the worker ignores them, too
def test_a_mutated_image_is_decoded_or_refused_with_a_reason() -> None:
    """Nothing else happens, and the pixels have the right shape."""
    refused = 0
    for number in range(CASES):
        case = f"{SEED}-{number}"
        try:
            decoded = decode(mutated(random.Random(case)), LIMITS)
        except ImageError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"case {case}") from error
        else:
            assert decoded.pixels.shape[2:] == (3,), case
    assert CASES / 4 < refused < CASES  # else the mutations do too little, or too much
