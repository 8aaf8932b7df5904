"""A result lies on its content pixel by pixel, looks as asked for, and carries its recipe."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

import napari_styletransfer
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.geometry import to_layer_axes
from napari_styletransfer.layers.read import resolve, resolve_in
from napari_styletransfer.layers.write import (
    METADATA_KEY,
    channel_kwargs,
    image_kwargs,
    read_recipe,
    result_name,
    run_metadata,
)

from .conftest import placed_in


def picture(height, width):
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def assert_overlays(result, content, snapshot):
    """Corners and centres of the result's pixels lie where they should in the content's own pixels."""
    rows, columns = snapshot.grid.displayed
    factors = np.ones(content.ndim)
    for axis in (rows, columns):
        factors[axis] = content.level_shapes[0][axis] / result.data.shape[axis]
    plane = np.array([0 if at is None else at for at in snapshot.plane])
    hidden = [axis for axis in range(content.ndim) if axis not in (rows, columns)]
    far_corner = np.array(result.data.shape)[[rows, columns]] - 0.5
    for place in [(-0.5, -0.5), (0, 0), (2, 1), far_corner]:
        index = np.zeros(content.ndim)
        index[[rows, columns]] = place
        # Edges stay edges: the first pixel of a coarser grid begins half a pixel before 0, as the finer's does.
        expected = np.where(np.isin(np.arange(content.ndim), hidden), plane, factors * (index + 0.5) - 0.5)
        np.testing.assert_allclose(content.world_to_data(result.data_to_world(index)), expected, atol=1e-9)
        np.testing.assert_allclose(result.world_to_data(content.data_to_world(expected)), index, atol=1e-9)


@pytest.mark.parametrize("ndim", [2, 3, 5])
@pytest.mark.parametrize("turned", [False, True])
def test_a_result_of_any_size_overlays_its_content(viewer, place, ndim, turned):
    shape = (2, 3, 4, 24, 36)[-ndim:]
    content = viewer.add_image(np.zeros(shape), **placed_in(ndim, place))
    for axis in range(ndim - 2):
        viewer.dims.set_current_step(axis, 1)
    if turned:
        viewer.dims.order = (*range(ndim - 2), ndim - 1, ndim - 2)
    snapshot = resolve_in(viewer, content)
    for size in [snapshot.shape, (12, 18), (7, 11), (50, 30)]:
        result = viewer.add_image(**image_kwargs(picture(*size), snapshot.grid))
        assert result.rgb
        assert_overlays(result, content, snapshot)
        assert result.units == content.units
        assert result.axis_labels == content.axis_labels
        np.testing.assert_allclose(resolve_in(viewer, result).read(), picture(*size), atol=1e-6)


def test_a_result_of_a_coarser_level_overlays_the_finest(viewer, place):
    levels = [np.zeros((5, 60, 90)), np.zeros((3, 30, 45)), np.zeros((2, 15, 23))]
    content = viewer.add_image(levels, multiscale=True, **placed_in(3, place))
    viewer.dims.set_current_step(0, 3)
    for level in range(3):
        snapshot = resolve_in(viewer, content, level=level)
        for size in [snapshot.shape, (9, 13)]:
            result = viewer.add_image(**image_kwargs(picture(*size), snapshot.grid))
            assert_overlays(result, content, snapshot)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0)])
def test_a_result_overlays_planes_cut_along_other_axes(viewer, order):
    content = viewer.add_image(np.zeros((8, 10, 12)), scale=(3, 1, 0.5), translate=(1, 2, 3))
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 2)
    snapshot = resolve_in(viewer, content)
    result = viewer.add_image(**image_kwargs(picture(*snapshot.shape), snapshot.grid))
    assert_overlays(result, content, snapshot)
    np.testing.assert_allclose(resolve_in(viewer, result).read(), picture(*snapshot.shape), atol=1e-6)


def test_a_result_shows_on_its_plane_alone_and_does_not_move_the_viewer(viewer, place):
    content = viewer.add_image(np.zeros((5, 8, 9)), **placed_in(3, place))
    viewer.dims.set_current_step(0, 3)
    before = viewer.dims.point, viewer.dims.range
    result = viewer.add_image(**image_kwargs(picture(4, 4), resolve_in(viewer, content).grid))
    assert viewer.dims.point[0] == before[0][0]
    assert viewer.dims.range[0] == before[1][0]
    for step in (2, 4):
        viewer.dims.set_current_step(0, step)
        with pytest.raises(ImageError, match="no plane where the viewer stands"):
            resolve_in(viewer, result)


def test_the_layer_shows_what_is_written_into_the_result():
    result = np.zeros((6, 8, 3), np.float32)
    layer = Image(**image_kwargs(result, resolve(Image(np.zeros((3, 8, 6))), displayed=(2, 1)).grid))
    result[1, 2] = 0.5
    assert layer.data.shape == (1, 8, 6, 3)
    assert (layer.data[0, 2, 1] == 0.5).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
def test_results_are_shown_in_their_full_range(dtype):
    values = (picture(5, 5) * 0.3 * (255 if dtype == np.uint8 else 1)).astype(dtype)
    kwargs = image_kwargs(values, resolve(Image(np.zeros((5, 5)))).grid)
    assert kwargs["data"].dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    assert kwargs["contrast_limits"] == ((0, 255) if dtype == np.uint8 else (0, 1))
    np.testing.assert_allclose(resolve(Image(**kwargs)).read(), picture(5, 5) * 0.3, atol=5e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_alpha_of_the_content_comes_back_at_the_size_of_the_result(dtype):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, 4:, 3] = 255
    snapshot = resolve(Image(pixels, rgb=True))
    result = (picture(4, 4) * (255 if dtype == np.uint8 else 1)).astype(dtype)
    layer = Image(**image_kwargs(result, snapshot.grid, alpha=snapshot.picture().alpha))
    assert layer.data.shape == (4, 4, 4)
    np.testing.assert_allclose(layer.data[..., :3], result, atol=1e-6)
    np.testing.assert_allclose(resolve(layer).picture().alpha, [[0, 0, 1, 1]] * 4)


def test_the_recipe_and_the_course_of_the_run_travel_with_the_layer(viewer):
    config = StyleConfig(iterations=7, network="compact", style_layers={"relu1_1": 1.0})
    layer = viewer.add_image(
        **image_kwargs(picture(4, 4), resolve(Image(np.zeros((4, 4)))).grid),
        metadata=run_metadata(
            content="cells",
            styles=["swirls", "glass"],
            recipe=config.recipe(),
            history=np.array([2, 1], np.float32),
            losses={"total": np.float32(1)},
            seconds=3.5,
        ),
    )
    assert StyleConfig.from_recipe(read_recipe(layer)) == config
    made = layer.metadata[METADATA_KEY]
    assert made["version"] == napari_styletransfer.__version__
    assert made["content"] == "cells"
    assert made["styles"] == ["swirls", "glass"]
    assert made["history"] == [2.0, 1.0]
    assert made["losses"] == {"total": 1.0}
    assert made["seconds"] == 3.5


@pytest.mark.parametrize("metadata", [{}, {METADATA_KEY: None}, {METADATA_KEY: {"recipe": None}}, {METADATA_KEY: [1]}])
def test_other_layers_have_no_recipe(metadata):
    assert read_recipe(Image(np.zeros((4, 4)), metadata=metadata)) is None


def test_results_are_named_after_content_and_styles():
    assert result_name("cells", ["waves"]) == "cells × waves"
    assert result_name("cells", ["swirls", "glass"]) == "cells × swirls + glass"
    assert result_name("cells") == "cells (content alone)"
    assert result_name(None, ["waves"]) == "waves (style alone)"


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (np.zeros((4, 4)), r"\(4, 4\)"),
        (np.zeros((4, 4, 4)), r"\(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
    ],
)
def test_only_rgb_becomes_a_result(result, says):
    with pytest.raises(ImageError, match=says):
        image_kwargs(result, resolve(Image(np.zeros((4, 4)))).grid)


def test_a_channel_looks_like_its_content_and_overlays_it(viewer, place):
    content = viewer.add_image(
        np.random.default_rng(0).integers(0, 4000, (3, 20, 30), dtype=np.uint16),
        contrast_limits=(100, 3000),
        gamma=0.8,
        colormap="magenta",
        blending="additive",
        opacity=0.7,
        **placed_in(3, place),
    )
    snapshot = resolve_in(viewer, content, colored=False)
    values = snapshot.pixels()[:10, :15]
    result = viewer.add_image(**channel_kwargs(values, snapshot))
    assert not result.rgb
    assert result.dtype == np.uint16
    assert result.data.shape == (1, 10, 15)
    assert np.shares_memory(result.data, values)
    for look in ("contrast_limits", "gamma", "blending", "opacity"):
        assert getattr(result, look) == getattr(content, look)
    assert result.colormap.name == "magenta"
    assert_overlays(result, content, snapshot)


def test_a_colour_layer_cannot_stay_a_channel():
    with pytest.raises(ImageError, match="'photo' is a colour layer"):
        channel_kwargs(np.zeros((4, 4)), resolve(Image(picture(4, 4), rgb=True, name="photo")))


def test_a_lifted_picture_is_a_view():
    grid = resolve(Image(np.zeros((2, 3, 5, 6))), displayed=(3, 1)).grid
    image = np.arange(18.0).reshape(6, 3)
    lifted = to_layer_axes(image, grid)
    assert lifted.shape == (1, 3, 1, 6)
    assert np.shares_memory(lifted, image)
    assert lifted[0, 2, 0, 4] == image[4, 2]
