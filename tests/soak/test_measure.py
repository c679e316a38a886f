"""What a soak calls flat."""

import random

from tests.soak.measure import grown, is_flat


def test_a_leak_is_not_flat_however_noisy_and_noise_is() -> None:
    noise = random.Random(7)
    level = [(float(minute), 60 + noise.gauss(0, 5)) for minute in range(60)]
    leaking = [(at, value + at / 2) for at, value in level]
    assert (is_flat(level), is_flat(leaking)) == (True, False)
    rise, error = grown(leaking)
    assert abs(rise - 29.5) < 3 * error


def test_one_more_thread_is_flat_and_ten_are_not() -> None:
    assert is_flat([(0, 7), (1, 7), (2, 8), (3, 8)])
    assert not is_flat([(0, 7), (1, 10), (2, 14), (3, 17)])


def test_less_is_flat() -> None:
    assert is_flat([(0.0, 90.0), (1.0, 60.0), (2.0, 30.0)])
