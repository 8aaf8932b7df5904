"""Every plane of a stack is read in turn and put where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.compose import compose
from napari_styletransfer.layers.read import resolve, resolve_in
from napari_styletransfer.layers.rendering import Rendering
from napari_styletransfer.layers.stack import stack_of
from napari_styletransfer.layers.write import stack_kwargs

from .conftest import Lazy, placed_in

DATA = np.random.default_rng(0).integers(0, 255, (2, 3, 8, 10), dtype=np.uint8)


def base(**options):
    return resolve(Image(DATA, contrast_limits=(0, 255)), point_world=(1, 2, 0, 0), **options)


def test_all_planes_come_in_order_with_the_last_axis_fastest():
    stack = stack_of(base())
    assert len(stack) == 6
    assert [snapshot.plane[:2] for snapshot in stack] == [(t, z) for t in range(2) for z in range(3)]
    for snapshot, plane in zip(stack, DATA.reshape(6, 8, 10), strict=True):
        np.testing.assert_array_equal(snapshot.pixels(), plane)


def test_the_order_of_the_axes_can_be_chosen():
    assert [snapshot.plane[:2] for snapshot in stack_of(base(), (1, 0))] == [(t, z) for z in range(3) for t in range(2)]


def test_axes_left_out_stay_where_the_viewer_stands():
    assert [snapshot.plane[:2] for snapshot in stack_of(base(), [-4])] == [(0, 2), (1, 2)]


def test_a_stack_can_be_cut_and_counted_from_its_end():
    stack = stack_of(base())
    assert [snapshot.plane for snapshot in stack[4:]] == [stack[4].plane, stack[-1].plane]
    with pytest.raises(IndexError, match="plane 6 of 6"):
        stack[6]


def test_a_single_plane_is_a_stack_of_one():
    stack = stack_of(resolve(Image(DATA[0, 0])))
    assert len(stack) == 1
    np.testing.assert_array_equal(stack[0].pixels(), DATA[0, 0])


@pytest.mark.parametrize("displayed", [(2, 3), (3, 2), (1, 3)])
@pytest.mark.parametrize("axes", [None, (0,)])
def test_results_put_back_unchanged_give_the_data_again(displayed, axes):
    stack = stack_of(base(displayed=displayed), axes)
    output = stack.empty(stack.base.shape, channels=1)
    for number, snapshot in enumerate(stack):
        render = Rendering(snapshot, channel=True)
        stack.put(output, number, render(snapshot.read(), snapshot.shape))
    expected = DATA
    for axis in set(range(4)) - set(displayed) - set(stack.axes):
        expected = expected.take([stack.base.plane[axis]], axis=axis)
    np.testing.assert_array_equal(output, expected)


def test_planes_fill_the_layer_as_they_are_put():
    stack = stack_of(base())
    output = stack.empty((4, 5))
    layer = Image(**stack_kwargs(output, stack))
    assert layer.rgb
    assert layer.data.shape == (2, 3, 4, 5, 3)
    stack.put(output, 4, np.full((4, 5, 3), 9, np.uint8))
    assert (layer.data[1, 1] == 9).all()
    assert layer.data.sum() == 9 * 60


def test_a_plane_of_another_size_is_refused():
    stack = stack_of(base())
    with pytest.raises(ImageError, match="plane 3 has shape"):
        stack.put(stack.empty((4, 5)), 3, np.zeros((5, 4, 3), np.uint8))


def test_a_channel_stack_looks_like_its_content():
    stack = stack_of(base())
    layer = Image(**stack_kwargs(stack.empty((8, 10), channels=1), stack))
    assert not layer.rgb
    assert layer.contrast_limits == [0, 255]
    assert layer.dtype == np.uint8


@pytest.mark.parametrize("axes", [None, (0,), (1,)])
def test_the_output_overlays_the_stack(viewer, place, axes):
    levels = [np.zeros((2, 6, 40, 50)), np.zeros((2, 3, 20, 25))]
    content = viewer.add_image(levels, multiscale=True, **placed_in(4, place))
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, 4)
    for level, step in ((0, 1), (1, 2)):
        stack = stack_of(resolve_in(viewer, content, level=level), axes)
        result = viewer.add_image(**stack_kwargs(stack.empty((10, 10)), stack))
        # The output is 4 and 5 times coarser in the plane; an axis that is not run through stays at its index.
        start = np.array([1 if axes == (1,) else 0, 4 if axes == (0,) else 0, 0, 0])
        factors = np.array([1, 1 if axes == (0,) else step, 4, 5])
        for planes in np.ndindex(result.data.shape[:2]):
            index = np.array([*planes, 3, 4])
            expected = start + factors * (index + 0.5) - 0.5
            np.testing.assert_allclose(content.world_to_data(result.data_to_world(index)), expected, atol=1e-9)
        for number, snapshot in enumerate(stack):
            index = np.zeros(4)
            index[list(stack.axes)] = stack.unravel(number)
            in_content = content.world_to_data(result.data_to_world(index))
            np.testing.assert_allclose(snapshot.grid.position[:2], in_content[:2], atol=1e-9)


def test_a_stack_reads_one_plane_at_a_time():
    data = Lazy(DATA)
    stack = stack_of(resolve(Image(data, contrast_limits=(0, 255), multiscale=False)))
    data.reads.clear()
    planes = stack[1:3]
    assert data.reads == []
    planes[0].read()
    assert data.reads == [80]


@pytest.mark.parametrize("axes", [(2,), (0, 0), (4,), (-5,), (0, -1)])
def test_axes_that_are_no_stack_are_refused(axes):
    with pytest.raises(ImageError, match=r"Choose from its axes that are not displayed: \(0, 1\)"):
        stack_of(base(), axes)


def test_thick_slices_are_refused():
    layer = Image(DATA, projection_mode="max")
    with pytest.raises(ImageError, match="thick slice"):
        stack_of(resolve(layer, point_world=(1, 1, 0, 0), margins=((0, 1, 0, 0), (0, 1, 0, 0))))


def channel(data, **options):
    layer = Image(data, contrast_limits=(0, 255), blending="additive", **options)
    return resolve(layer, point_world=(1, 2, 0, 0))


def test_layers_seen_as_one_picture_go_through_their_planes_together():
    green, red = channel(DATA, colormap="green", name="green"), channel(255 - DATA, colormap="red", name="red")
    # One plane for all, and some for every time.
    still = channel(np.full((8, 10), 51, np.uint8), colormap="blue", name="still")
    deep = channel(DATA[0] // 2, colormap="blue", name="deep")
    stack = stack_of(compose([green, red, still, deep]))
    assert (len(stack), stack.counts, stack.bottom) == (6, (2, 3), green)
    for number, plane in enumerate(stack):
        t, z = divmod(number, 3)
        picture = plane.read() * 255
        np.testing.assert_allclose(picture[..., 1], DATA[t, z], atol=0.5)
        np.testing.assert_allclose(picture[..., 0], 255 - DATA[t, z], atol=0.5)
        np.testing.assert_allclose(picture[..., 2], 51.0 + DATA[0, z] // 2, atol=0.5)
    output = stack.empty((8, 10))
    assert output.shape == (2, 3, 8, 10, 3)
    placed = stack_kwargs(output, stack)
    assert stack.base.name.startswith("green + red + still + deep")
    np.testing.assert_array_equal(placed["scale"], (1, 1, 1, 1))


@pytest.mark.parametrize(
    ("shape", "place"),
    [((2, 4, 8, 10), {}), ((2, 3, 8, 10), {"scale": (1, 2, 1, 1)}), ((2, 3, 8, 10), {"translate": (0, 0.5, 0, 0)})],
)
def test_layers_whose_planes_do_not_lie_on_each_other_make_no_movie(shape, place):
    other = channel(np.zeros(shape, np.uint8), name="other", **place)
    both = compose([channel(DATA, name="first"), other])
    with pytest.raises(ImageError, match="planes of layer 'other' do not lie on the 3 of 'first'"):
        stack_of(both)
    # Along the other axis they do.
    assert len(stack_of(both, (0,))) == 2
