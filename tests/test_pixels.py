"""Any real dtype becomes RGB in [0, 1] and comes back as it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_styletransfer.errors import ImageError
from napari_styletransfer.images.pixels import Encoding, decode, encode, encoding_of

DTYPES = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">u2", ">i4", ">f4", ">f8", "<f8"]
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda size: st.sampled_from([size, (*size, 3), (*size, 4)])
)
REAL = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), SHAPES))


def exact(array):
    """Values as numpy's widest float, so that differences neither wrap nor overflow."""
    return array.astype(np.longdouble)


def has_finite_color(array):
    return bool(np.isfinite(array if array.ndim == 2 else array[..., :3]).any())


@given(REAL.filter(has_finite_color))
@settings(max_examples=300)
def test_decoded_pixels_are_finite_contiguous_float32_within_0_and_1(array):
    rgb, encoding = decode(array)
    assert rgb.dtype == np.float32
    assert rgb.shape == (*array.shape[:2], 3)
    assert rgb.flags.c_contiguous
    assert np.isfinite(rgb).all()
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert encoding.low < encoding.high


@given(REAL.filter(has_finite_color))
@settings(max_examples=50)
def test_planar_pixels_are_the_same_with_each_colour_in_one_piece(array):
    rgb, encoding = decode(array, planar=True)

    expected, same = decode(array)
    np.testing.assert_array_equal(rgb, expected)
    assert rgb.transpose(2, 0, 1).flags.c_contiguous
    assert encoding == same == encoding_of(array)


@given(REAL.filter(has_finite_color))
@settings(max_examples=300)
def test_encoding_what_was_decoded_gives_the_same_pixels_within_rounding(array):
    rgb, encoding = decode(array)
    back = encode(rgb, encoding)
    assert back.dtype == array.dtype
    color = array[..., :3] if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
    finite = np.isfinite(color)
    span = np.longdouble(encoding.high) - np.longdouble(encoding.low)
    unit = 0.5 if array.dtype.kind in "iu" else 0.0
    largest = np.abs(exact(color[finite])).max()
    tolerance = unit + span * 2.0**-23 + largest * (2.0**-50 if array.dtype.itemsize > 2 else 2.0**-11)
    assert np.all(np.abs(exact(back[..., :3])[finite] - exact(color)[finite]) <= tolerance)
    if array.ndim == 3 and array.shape[2] == 4:
        np.testing.assert_array_equal(back[..., 3], array[..., 3])


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "i1", "i2"])
def test_small_integers_come_back_exactly(dtype):
    array = np.linspace(0, 1, 40).reshape(5, 8) > 0.5 if dtype == "?" else np.arange(40).reshape(5, 8).astype(dtype)
    back = encode(*decode(array))
    np.testing.assert_array_equal(back, np.repeat(array[..., None], 3, axis=2))


def test_uint8_keeps_its_full_range_even_where_the_picture_is_dull():
    rgb, encoding = decode(np.full((2, 2), 51, np.uint8))
    np.testing.assert_allclose(rgb, 0.2, rtol=1e-6)
    assert (encoding.low, encoding.high) == (0, 255)


def test_floats_within_0_and_1_are_taken_as_they_are():
    array = np.array([[0.25, 0.5]])
    np.testing.assert_array_equal(decode(array)[0][..., 0], array)


def test_other_dtypes_are_stretched_between_their_extremes():
    rgb, encoding = decode(np.array([[-100.0, 0.0, 300.0]]))
    np.testing.assert_allclose(rgb[0, :, 0], [0, 0.25, 1])
    assert (encoding.low, encoding.high) == (-100, 300)


def test_nan_becomes_low_and_infinities_the_ends():
    rgb, _ = decode(np.array([[np.nan, -np.inf, np.inf, 2.0, 4.0, 3.0]], np.float32))
    np.testing.assert_allclose(rgb[0, :, 1], [0, 0, 1, 0, 1, 0.5])


@pytest.mark.parametrize("value", [0, 7, 65535, -3, -1.5, 1e30, 2.0**63])
def test_a_constant_image_works_and_comes_back(value):
    dtype = np.float64 if isinstance(value, float) else np.int32
    array = np.full((3, 2), value, dtype)
    rgb, encoding = decode(array)
    assert len(np.unique(rgb)) == 1
    np.testing.assert_allclose(encode(rgb, encoding)[..., 0], array)


def test_extremes_of_float64_do_not_overflow():
    largest = np.finfo(np.float64).max
    array = np.array([[-largest, 0, largest]])
    rgb, encoding = decode(array)
    np.testing.assert_allclose(rgb[0, :, 0], [0, 0.5, 1])
    np.testing.assert_array_equal(encode(rgb, encoding)[..., 0], array)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32, np.uint32])
def test_integers_are_clipped_rather_than_wrapped(dtype):
    limits = np.iinfo(dtype)
    array = np.array([[limits.min, limits.max]], dtype)
    back = encode(np.array([[[0] * 3, [1] * 3]], np.float32), decode(array)[1])
    assert back[0, 0, 0] == limits.min
    assert back[0, 1, 0] == pytest.approx(limits.max, rel=1e-12)
    assert back[0, 1, 0] > 0


def test_values_outside_0_and_1_and_nan_are_clipped_when_encoded():
    encoding = decode(np.zeros((1, 3), np.uint8))[1]
    rgb = np.array([[[-5.0] * 3, [7.0] * 3, [np.nan] * 3]])
    assert encode(rgb, encoding)[0, :, 0].tolist() == [0, 255, 0]


def test_a_given_range_is_used_and_clips():
    rgb, encoding = decode(np.array([[0, 100, 200, 400]], np.uint16), low=100, high=300)
    np.testing.assert_allclose(rgb[0, :, 0], [0, 0, 0.5, 1])
    assert encode(rgb, encoding)[0, :, 0].tolist() == [100, 100, 200, 300]


@pytest.mark.parametrize(
    ("given_ends", "expected"),
    [({"low": 10}, (10, 40)), ({"high": 30}, (20, 30)), ({"low": 50}, (50, 100)), ({"high": 20}, (0, 20))],
)
def test_one_given_end_leaves_the_other_to_the_picture(given_ends, expected):
    encoding = decode(np.array([[20, 40]], np.int16), **given_ends)[1]
    assert (encoding.low, encoding.high) == expected


def test_a_range_beyond_the_dtype_is_clipped_to_it():
    encoding = decode(np.zeros((1, 1), np.float16), low=0.0, high=1e9)[1]
    assert encode(np.ones((1, 1, 3)), encoding)[0, 0, 0] == np.finfo(np.float16).max


def test_views_that_are_not_contiguous_decode_like_their_copies():
    array = np.arange(2 * 9 * 8, dtype=np.uint16).reshape(9, 8, 2)[::-2, ::3, 1]
    np.testing.assert_array_equal(decode(array)[0], decode(array.copy())[0])


def test_large_images_decode_like_their_parts():
    array = np.random.default_rng(0).normal(size=(700, 1600)).astype(np.float32)
    rgb = decode(array, low=-3, high=3)[0]
    np.testing.assert_array_equal(rgb[-5:], decode(array[-5:], low=-3, high=3)[0])


def test_decoding_copies_and_leaves_its_input_alone():
    array = np.random.default_rng(0).random((4, 4, 4), np.float32)
    before = array.copy()
    rgb, encoding = decode(array)
    rgb[:] = 0
    encoding.alpha[:] = 0
    np.testing.assert_array_equal(array, before)


def test_alpha_is_resized_with_the_result():
    array = np.zeros((4, 4, 4), np.uint8)
    array[:, 2:, 3] = 200
    encoding = decode(array)[1]
    back = encode(np.zeros((8, 2, 3)), encoding)
    assert back.shape == (8, 2, 4)
    assert back.dtype == np.uint8
    assert back[0, 0, 3] < 50
    assert back[0, 1, 3] > 150


def test_an_encoding_is_compared_by_its_range_not_its_alpha():
    one = Encoding(np.dtype("u1"), 0, 255, 4, np.zeros((2, 2), np.uint8))
    assert one == Encoding(np.dtype("u1"), 0, 255, 4, np.ones((2, 2), np.uint8))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros(5), r"shape \(5,\).*two dimensions"),
        (np.zeros((2, 3, 4, 3)), "Take one plane"),
        (np.zeros((5, 5, 2)), "Take one channel"),
        (np.zeros((3, 9, 9)), "moveaxis"),
        (np.zeros((0, 4)), "some pixels"),
        (np.zeros((4, 0, 3)), "some pixels"),
        (np.zeros((2, 2), complex), "numpy.abs"),
        (np.array([["a", "b"]]), "numeric dtype"),
        (np.array([[None, 1]]), "numeric dtype"),
        (np.full((2, 2), np.nan), "NaN or infinite"),
        (np.full((2, 2), np.inf, np.float16), "NaN or infinite"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_way_on(array, says):
    with pytest.raises(ImageError, match=says):
        decode(array)


@pytest.mark.parametrize("ends", [{"low": 1, "high": 1}, {"low": 2, "high": 1}, {"low": np.nan}, {"high": np.inf}])
def test_an_impossible_range_is_refused(ends):
    with pytest.raises(ImageError, match="Give a"):
        decode(np.zeros((2, 2)), **ends)


@pytest.mark.parametrize("rgb", [np.zeros((4, 4)), np.zeros((4, 4, 4)), np.zeros((4, 4, 3), complex)])
def test_only_rgb_can_be_encoded(rgb):
    with pytest.raises(ImageError, match="Expected an RGB image"):
        encode(rgb, decode(np.zeros((4, 4)))[1])
