"""Whatever resolution level is read, what is made of it lies on the finest one, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from napari_styletransfer.layers.read import levels_in, resolve_in
from napari_styletransfer.layers.regions import resolve_labels, resolve_shapes
from napari_styletransfer.layers.rendering import Rendering
from napari_styletransfer.layers.stack import stack_of
from napari_styletransfer.layers.write import channel_kwargs, image_kwargs, stack_kwargs

from .conftest import placed_in

FULL = (8, 24, 32)
SLOPES = np.array([3.0, 40.0, 1.0])
TOP = 2000.0


def height_at(index):
    """Return the value of the finest level at an index, as it would be between pixels too."""
    return np.asarray(index) @ SLOPES[-np.shape(index)[-1] :]


def halved(data):
    """Return the next coarser level: the mean of each block of two along every axis."""
    for axis in range(data.ndim):
        data = (data.take(range(0, data.shape[axis], 2), axis) + data.take(range(1, data.shape[axis], 2), axis)) / 2
    return data


def slope(ndim):
    """Return three levels of a slope: at any level, a pixel's value tells where in the finest one it lies."""
    finest = height_at(np.stack(np.indices(FULL[-ndim:]), axis=-1)).astype(np.float32)
    return [finest, halved(finest), halved(halved(finest))]


def add_slope(viewer, ndim, place):
    return viewer.add_image(
        slope(ndim), multiscale=True, contrast_limits=(0, TOP), name="slope", **placed_in(ndim, place)
    )


def as_channel(snapshot):
    """Return the result of a run that changed nothing, as a channel."""
    return Rendering(snapshot, channel=True)(snapshot.read(), snapshot.shape)


def some(shape, count=25):
    """Return indices of both ends and of pixels between them."""
    between = np.random.default_rng(0).integers(0, shape, (count, len(shape)))
    return [(0,) * len(shape), *map(tuple, between), tuple(size - 1 for size in shape)]


def assert_lies_on(result, values, layer):
    """Check that pixels of a result have the values that its source has at the same places of the world."""
    for index in some(values.shape):
        there = layer.world_to_data(result.data_to_world(index))
        assert values[index] == pytest.approx(height_at(there), abs=0.01 * TOP), index


@pytest.mark.parametrize("level", [1, 2])
def test_a_result_of_a_level_lies_on_the_finest(viewer, place, level):
    layer = add_slope(viewer, 2, place)
    snapshot = resolve_in(viewer, layer, level=level)
    result = viewer.add_image(**image_kwargs(snapshot.read(), snapshot.grid))
    assert result.data.shape[:2] == tuple(layer.level_shapes[level])
    assert_lies_on(result, result.data[..., 0] * TOP, layer)


@pytest.mark.parametrize("level", [1, 2])
def test_a_result_of_a_level_in_another_size_lies_on_the_finest(viewer, place, level):
    layer = add_slope(viewer, 2, place)
    snapshot = resolve_in(viewer, layer, level=level)
    result = viewer.add_image(**image_kwargs(halved(snapshot.read()[..., 0])[..., None].repeat(3, -1), snapshot.grid))
    assert_lies_on(result, result.data[..., 0] * TOP, layer)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_a_channel_of_a_level_lies_on_the_finest_where_the_slider_stands(viewer, place, order):
    layer = add_slope(viewer, 3, place)
    viewer.dims.order = order
    viewer.dims.set_current_step(0, 5)
    snapshot = resolve_in(viewer, layer, level=1)
    result = viewer.add_image(**channel_kwargs(as_channel(snapshot), snapshot))
    assert result.data.shape == (1, 12, 16)
    assert result.contrast_limits == [0, TOP]
    for index in some(result.data.shape):
        there = layer.world_to_data(result.data_to_world(index))
        assert there[0] == pytest.approx(5)
        # The plane read stands for the two of the finest level that it was made of.
        assert result.data[index] == pytest.approx(height_at([4.5, *there[1:]]), abs=0.01 * TOP)


@pytest.mark.parametrize("level", [1, 2])
def test_a_stack_of_a_level_lies_on_the_finest(viewer, place, level):
    layer = add_slope(viewer, 3, place)
    stack = stack_of(resolve_in(viewer, layer, level=level))
    output = stack.empty(stack.base.shape, channels=1, dtype=np.float32)
    for number, snapshot in enumerate(stack):
        stack.put(output, number, as_channel(snapshot))
    result = viewer.add_image(**stack_kwargs(output, stack))
    assert result.data.shape == tuple(layer.level_shapes[level])
    assert_lies_on(result, result.data, layer)


@pytest.mark.parametrize("level", [1, 2])
def test_labels_are_found_under_the_pixels_of_a_level(viewer, place, level):
    layer = add_slope(viewer, 2, place)
    data = np.random.default_rng(0).integers(0, 9, (50, 70))
    middle = np.array(layer.data_to_world((11.5, 15.5)))
    labels = viewer.add_labels(data, scale=(0.31, 0.43), translate=middle - (7.7, 14.9), units=layer.units)
    snapshot = resolve_in(viewer, layer, level=level)
    found = resolve_labels(snapshot, labels).read()
    result = viewer.add_image(**image_kwargs(snapshot.read(), snapshot.grid))
    for index in some(found.shape):
        there = np.round(labels.world_to_data(result.data_to_world(index))).astype(int)
        inside = (there >= 0).all() and (there < data.shape).all()
        assert found[index] == (data[tuple(there)] if inside else 0)
    assert len(np.unique(found)) > 2


@pytest.mark.parametrize("level", [1, 2])
def test_labels_that_are_a_pyramid_too_are_those_of_the_same_level(viewer, place, level):
    layer = add_slope(viewer, 2, place)
    coarsest = np.random.default_rng(0).integers(0, 9, (6, 8))
    data = [coarsest.repeat(4 // 2**n, 0).repeat(4 // 2**n, 1) for n in range(3)]
    labels = viewer.add_layer(Labels(data, multiscale=True, **placed_in(2, place)))
    region = resolve_labels(resolve_in(viewer, layer, level=level), labels)
    np.testing.assert_array_equal(region.read(), data[level])


@pytest.mark.parametrize("level", [1, 2])
def test_shapes_are_found_under_the_pixels_of_a_level(viewer, place, level):
    layer = add_slope(viewer, 2, place)
    # Drawn in indices of the finest level: columns 8 to 23 of rows 4 to 11, between pixel edges.
    box = np.array([[3.5, 7.5], [3.5, 23.5], [11.5, 23.5], [11.5, 7.5]])
    shapes = viewer.add_shapes([box], shape_type="polygon", **placed_in(2, place))
    mask = resolve_shapes(resolve_in(viewer, layer, level=level), shapes).read()
    factor = 2**level
    expected = np.zeros((24 // factor, 32 // factor), bool)
    expected[4 // factor : 12 // factor, 8 // factor : 24 // factor] = True
    np.testing.assert_array_equal(mask, expected)


def test_the_sizes_of_levels_are_told_as_the_viewer_turns_them(viewer):
    layer = add_slope(viewer, 3, {})
    assert levels_in(viewer, layer) == [(24, 32), (12, 16), (6, 8)]
    viewer.dims.order = (1, 2, 0)
    assert levels_in(viewer, layer) == [(32, 8), (16, 4), (8, 2)]
    plain = viewer.add_image(np.zeros((5, 7)))
    viewer.dims.order = (0, 2, 1)
    assert levels_in(viewer, plain) == [(7, 5)]
