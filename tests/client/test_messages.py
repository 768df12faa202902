"""The options of a call, as the clients over gRPC and the local one send them."""

from typing import Any

import numpy as np
import pytest
from facet import InvalidOption
from facet.messages import request


@pytest.mark.parametrize("value", [40, 40.0, np.int64(40), np.float32(40)])
def test_a_whole_number_may_be_a_float(value: Any) -> None:
    """As over HTTP, where JSON does not tell 40 from 40.0."""
    assert request(b"", min_face_size=value).options.min_face_size == 40


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (40.5, "a whole number"),
        (float("nan"), "a whole number"),
        (float("inf"), "a whole number"),
        ("40", "a whole number"),
        (True, "a whole number"),
        (2**40, "at most 2147483647"),
        (2.0**40, "at most 2147483647"),
        (-(2**40), "at least 0"),
    ],
)
@pytest.mark.parametrize("name", ["min_face_size", "max_faces"])
def test_another_value_is_refused_with_the_rule(name: str, value: Any, rule: str) -> None:
    """The message names the option, the value and what it must be."""
    options: Any = {name: value}
    with pytest.raises(InvalidOption, match=f"{name} is .*; it must be {rule}"):
        request(b"", **options)
