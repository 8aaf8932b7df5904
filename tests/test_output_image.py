"""The output layer: where it lies, what it holds, and what becomes of it when the user interferes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_styletransfer.layers.read import resolve_in
from napari_styletransfer.layers.rendering import as_dtype, resize
from napari_styletransfer.outputs.image import ImageOutput

U8, F32 = np.dtype(np.uint8), np.dtype(np.float32)
KEY = "napari-styletransfer"


def grey(value: float, shape: tuple[int, int] = (6, 8)) -> Any:
    return np.full((*shape, 3), value, np.float32)


def shown(value: float, shape: tuple[int, int] = (6, 8)) -> Any:
    """Return a grey as `ImageOutput.render` does."""
    return as_dtype(grey(value, shape), U8)


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def output(viewer: ViewerModel, data: Any = None, **placed: Any) -> ImageOutput:
    data = np.zeros((6, 8), np.float32) if data is None else data
    content = viewer.add_image(data, name="content", contrast_limits=(0, 1), **placed)
    return ImageOutput(viewer, resolve_in(viewer, content), content="content", styles=["style"])


def test_the_first_preview_makes_the_layer(viewer):
    made = output(viewer)
    assert made.layer is None
    made.show(shown(0.25))
    assert made.layer is viewer.layers["content × style"]
    assert made.layer.rgb
    assert made.present


def test_later_previews_are_written_in_place_and_drawn(viewer):
    made = output(viewer)
    first = shown(0.25)
    made.show(first)
    data, drawn = made.layer.data, []
    made.layer.events.set_data.connect(lambda event: drawn.append(made.layer.data.max()))
    made.show(shown(0.5))
    assert made.layer.data is data
    assert drawn == [128]
    assert first.max() == 64


def test_the_result_is_not_tied_to_the_arrays_it_came_from(viewer):
    made = output(viewer)
    image = grey(0.75)
    made.finish(image, history=(1.0,))
    image[:] = 0
    assert made.layer.data.min() == 191


@pytest.mark.parametrize("shape", [(6, 8), (3, 4), (12, 16), (5, 7)])
def test_any_size_covers_the_content_exactly(viewer, shape):
    made = output(viewer, scale=(2, 0.5), translate=(7, -3), rotate=30)
    made.show(shown(0.5, shape))
    content = viewer.layers["content"]
    first, last = np.array([-0.5, -0.5]), np.array(shape) - 0.5
    np.testing.assert_allclose(made.layer.data_to_world(first), content.data_to_world((-0.5, -0.5)))
    np.testing.assert_allclose(made.layer.data_to_world(last), content.data_to_world((5.5, 7.5)))


def test_a_plane_of_a_transposed_stack_is_filled_in_the_layers_own_order(viewer):
    stack = np.zeros((4, 6, 8), np.float32)
    content = viewer.add_image(stack, name="content", contrast_limits=(0, 1))
    viewer.dims.order = (1, 2, 0)
    place = resolve_in(viewer, content)
    assert place.shape == (8, 4)
    made = ImageOutput(viewer, place, content="content", styles=["style"])
    image = np.random.default_rng(0).integers(0, 255, (8, 4, 3), np.uint8)
    made.show(np.zeros_like(image))
    made.show(image)
    assert made.layer.data.shape == (4, 1, 8, 3)
    np.testing.assert_array_equal(made.layer.data[:, 0].swapaxes(0, 1), image)


def test_a_deleted_layer_is_not_put_back_before_the_result(viewer):
    made = output(viewer)
    made.show(shown(0.25))
    viewer.layers.remove(made.layer)
    made.show(shown(0.5))
    assert len(viewer.layers) == 1
    assert not made.present
    made.finish(grey(0.75), history=(3.0, 2.0))
    assert viewer.layers["content × style"].data.max() == 191
    assert viewer.layers["content × style"].metadata[KEY]["history"] == [3.0, 2.0]


def test_a_result_without_any_preview_makes_the_layer(viewer):
    made = output(viewer)
    made.finish(grey(0.75), history=(1.0,))
    assert made.layer.metadata[KEY]["history"] == [1.0]


def test_the_users_own_metadata_stays(viewer):
    made = output(viewer)
    made.show(shown(0.25))
    made.layer.metadata = {**made.layer.metadata, "note": "mine"}
    made.finish(grey(0.75), history=(1.0,))
    assert made.layer.metadata["note"] == "mine"
    assert made.layer.metadata[KEY]["history"] == [1.0]


def test_other_data_put_into_the_layer_are_left_to_the_user(viewer):
    made = output(viewer)
    made.show(shown(0.25))
    theirs = made.layer
    theirs.data = np.zeros((20, 20, 3), np.uint8)
    made.finish(grey(0.75))
    assert theirs.data.shape == (20, 20, 3)
    assert theirs.data.max() == 0
    assert made.layer is not theirs
    assert made.layer.data.max() == 191


@pytest.mark.parametrize("dtype", ["bool", "u1", "u2", "f4"])
def test_whatever_the_content_is_its_result_in_colour_has_8_bits(viewer, dtype):
    made = output(viewer, np.ones((6, 8), dtype))
    made.finish(grey(0.75))
    assert made.layer.rgb
    assert made.layer.data.dtype == np.uint8
    np.testing.assert_array_equal(made.layer.data, 191)


def test_transparency_is_kept(viewer):
    made = output(viewer)
    made.alpha = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    made.show(shown(0.5))
    made.finish(grey(1.0))
    assert made.layer.data.dtype == np.uint8
    np.testing.assert_array_equal(made.layer.data[..., :3], 255)
    np.testing.assert_array_equal(made.layer.data[..., 3], np.rint(made.alpha * 255))


sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))


@given(size=sizes, wanted=sizes, seed=st.integers(0, 9))
def test_fitting_keeps_values_between_the_extremes(size, wanted, seed):
    image = np.random.default_rng(seed).random((*size, 3), np.float32)
    result = resize(image, wanted, F32)
    assert result.shape == (*wanted, 3)
    assert result.dtype == np.float32
    assert result.min() >= image.min() - 1e-6
    assert result.max() <= image.max() + 1e-6


def test_fitting_follows_a_ramp_and_keeps_the_fitting_size():
    ramp = np.repeat(np.linspace(0, 1, 8, dtype=np.float32)[None, :, None], 4, axis=0).repeat(3, axis=2)
    assert resize(ramp, (4, 8), F32) is ramp
    wide = resize(ramp, (8, 16), F32)
    # Pixel centres, not corners: the pair of new pixels inside an old one lies symmetrically around it.
    np.testing.assert_allclose((wide[:, 2:14:2] + wide[:, 3:15:2]) / 2, ramp[:1, 1:7].repeat(8, axis=0), atol=1e-6)


def test_bytes_are_rounded_not_cut():
    image = np.array([[[0.0, 0.999, 1.0]]], np.float32)
    np.testing.assert_array_equal(as_dtype(image, U8), [[[0, 255, 255]]])
