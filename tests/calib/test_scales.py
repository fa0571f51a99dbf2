"""Scale arithmetic against plain loops, and at the values where it could go wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskrt.calib import scales


def test_the_largest_value_of_each_channel_is_the_last_level() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    scale = scales.symmetric_scale(scales.channel_amax(weight, 0))
    levels = scales.quantize_weight(weight, scale, 0)
    for channel in range(4):
        amax = max(abs(value) for value in weight[channel].ravel())
        assert scale[channel] == pytest.approx(amax / 127, rel=1e-6)
        assert np.abs(levels[channel]).max() == 127
        error = np.abs(levels[channel] * scale[channel] - weight[channel]).max()
        assert error <= scale[channel] * 0.5001  # rounding to nearest; the margin is float32's


def test_channels_may_lie_along_any_axis() -> None:
    weight = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    along_1 = scales.symmetric_scale(scales.channel_amax(weight, 1))
    assert along_1.shape == (5,)
    transposed = scales.quantize_weight(weight.T, along_1, 0)
    np.testing.assert_array_equal(scales.quantize_weight(weight, along_1, 1), transposed.T)
    one = scales.symmetric_scale(scales.channel_amax(weight, None))
    assert one.shape == ()
    assert np.abs(scales.quantize_weight(weight, one, None)).max() == 127


def test_dead_channels_get_a_positive_scale_that_fp16_can_hold() -> None:
    weight = np.ones((3, 2, 1, 1), np.float32)
    weight[1], weight[2] = 0.0, 1e-20
    scale = scales.symmetric_scale(scales.channel_amax(weight, 0))
    assert (scale > 0).all()
    assert (scale.astype(np.float16) > 0).all()
    levels = scales.quantize_weight(weight, scale, 0)
    assert not levels[1:].any()


@given(st.floats(2.0**-24, 6e4, width=32))
def test_fp16_scales_are_fp16_numbers_and_saturate_nothing(value: float) -> None:
    rounded = scales.fp16_representable(np.float32([value]))
    assert rounded.astype(np.float16).astype(np.float32) == rounded
    assert rounded >= np.float32(value)
    assert rounded <= max(np.float32(value) * 1.001, np.float32(value) + 2.0**-24)


def test_a_scale_beyond_fp16_stays_what_it_is() -> None:
    np.testing.assert_array_equal(scales.fp16_representable(np.float32([7e4, 2.0])), [7e4, 2.0])


def test_a_bias_of_a_nearly_dead_channel_fits_into_int32() -> None:
    bias = np.float32([0.5, 0.5])
    scale = np.float32([1e-3, 2.0**-24])
    data_scale = 1e-4
    naive = bias.astype(np.float64) / (data_scale * scale)
    assert naive[1] > 2**31  # what it is there to prevent
    safe = scales.bias_safe(scale, bias, data_scale)
    assert safe[0] == scale[0]
    stored = scales.quantize_bias(bias, data_scale * safe)
    np.testing.assert_allclose(stored * (data_scale * safe.astype(np.float64)), bias, rtol=1e-4)


def test_one_scale_for_all_channels_is_widened_for_the_largest_bias() -> None:
    safe = scales.bias_safe(np.float32(1e-9), np.float32([0.1, -2.0]), 1e-3)
    assert safe.shape == ()
    assert 2.0 / (1e-3 * float(safe)) <= 2**30 * 1.001
