"""The decoder, fed with damaged pictures by itself: many more of them than a whole stack can be sent."""

from __future__ import annotations

import random

import pytest
from inference.imaging.decode import ImageLimits, decode
from inference.imaging.errors import ImageError

from tests.hostile.mutations import mutated

LIMITS = ImageLimits(max_bytes=10 * 1024 * 1024, max_pixels=40_000_000, max_side=16384)
SEED = 20261123
CASES = 20_000


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # the worker is deaf to them, too
def test_a_damaged_picture_is_decoded_or_refused_for_a_reason() -> None:
    """Nothing else comes out of the decoder, and what does is a picture."""
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
            assert decoded.pixels.shape == (decoded.height, decoded.width, 3), case
    assert CASES / 4 < refused < CASES  # else the damage is none, or nothing but damage
