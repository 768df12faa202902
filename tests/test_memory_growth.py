"""The statistics of the soak test."""

import random

import pytest

from tests.stack.memory_growth import MIB, slope

HALF_AN_HOUR = range(0, 1800, 2)


def test_growth_is_distinguished_from_noise() -> None:
    """30 MiB per hour are found in noise of 5 MiB, and noise alone gives no slope."""
    noise = random.Random(1)
    growing = slope([(second, (100 + second / 120 + noise.gauss(0, 5)) * MIB) for second in HALF_AN_HOUR])
    assert growing.mib_per_hour == pytest.approx(30, abs=growing.error)
    assert growing.least > 20
    steady = slope([(second, (100 + noise.gauss(0, 5)) * MIB) for second in HALF_AN_HOUR])
    assert abs(steady.mib_per_hour) <= steady.error < 10


def test_a_line_without_noise_has_no_error() -> None:
    """1 MiB in half an hour is a slope of 2 MiB per hour."""
    line = slope([(second, second / 1800 * MIB) for second in HALF_AN_HOUR])
    assert line.mib_per_hour == pytest.approx(2)
    assert line.error == pytest.approx(0, abs=1e-6)
