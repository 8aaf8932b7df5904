"""Labels and shapes mark the pixels they cover on the canvas."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Labels, Points, Shapes

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.read import resolve, resolve_in
from napari_styletransfer.layers.regions import resolve_labels, resolve_shapes

from .conftest import Lazy, placed_in

CELLS = np.zeros((12, 16), int)
CELLS[2:7, 3:9] = 1
CELLS[6:11, 8:15] = 7


def labels_in(source, layer):
    return resolve_labels(source, layer).read()


def shapes_mask(source, layer):
    return resolve_shapes(source, layer).read()


def at_pixels(source, layer):
    """Look up labels pixel by pixel through napari's own conversions."""
    found = np.zeros(source.shape, int)
    for row, column in np.ndindex(source.shape):
        index = np.round(layer.world_to_data(source.grid.matrix @ [row, column, 1])).astype(int)
        if (index >= 0).all() and (index < layer.data.shape).all():
            found[row, column] = layer.data[tuple(index)]
    return found


def test_labels_on_the_same_pixels_are_the_labels(place):
    source = resolve(Image(np.zeros(CELLS.shape), **place))
    np.testing.assert_array_equal(labels_in(source, Labels(CELLS, **place)), CELLS)


def test_labels_come_over_through_the_world_whatever_the_places(place):
    source = resolve(Image(np.zeros((20, 15)), scale=(0.51, 0.87), translate=(1.03, -2.01), rotate=7))
    layer = Labels(CELLS, **{**place, "units": None, "axis_labels": None})
    np.testing.assert_array_equal(labels_in(source, layer), at_pixels(source, layer))


def test_labels_are_sampled_at_the_scale_of_the_content():
    source = resolve(Image(np.zeros((24, 32)), scale=(0.5, 0.5), translate=(-0.25, -0.25)))
    np.testing.assert_array_equal(labels_in(source, Labels(CELLS)), CELLS.repeat(2, 0).repeat(2, 1))
    finer = Labels(CELLS.repeat(3, 0).repeat(3, 1), scale=(1 / 3, 1 / 3), translate=(-1 / 3, -1 / 3))
    np.testing.assert_array_equal(labels_in(resolve(Image(np.zeros(CELLS.shape))), finer), CELLS)


def test_labels_in_other_units_are_converted():
    source = resolve(Image(np.zeros(CELLS.shape), units=("um", "um")))
    layer = Labels(CELLS, scale=(0.001, 0.001), units=("mm", "mm"))
    np.testing.assert_array_equal(labels_in(source, layer), CELLS)


@pytest.mark.parametrize("turned", [False, True])
def test_labels_of_the_plane_shown_count(viewer, place, turned):
    stack = np.stack([CELLS * 0, CELLS, CELLS[::-1]])
    content = viewer.add_image(np.zeros(stack.shape), **placed_in(3, place))
    labels = viewer.add_labels(stack, **placed_in(3, place))
    viewer.dims.set_current_step(0, 2)
    if turned:
        viewer.dims.order = (0, 2, 1)
    expected = stack[2].T if turned else stack[2]
    np.testing.assert_array_equal(labels_in(resolve_in(viewer, content), labels), expected)


def test_labels_of_fewer_axes_hold_for_every_plane(viewer):
    content = viewer.add_image(np.zeros((4, *CELLS.shape)), scale=(3, 1, 1))
    np.testing.assert_array_equal(labels_in(resolve_in(viewer, content), Labels(CELLS)), CELLS)


def test_labels_of_more_axes_are_taken_where_the_viewer_stands(viewer):
    labels = viewer.add_labels(np.stack([CELLS * 0, CELLS]), scale=(5, 1, 1))
    flat = viewer.add_image(np.zeros(CELLS.shape))
    for step, expected in ((0, CELLS * 0), (1, CELLS)):
        viewer.dims.set_current_step(0, step)
        np.testing.assert_array_equal(labels_in(resolve_in(viewer, flat), labels), expected)


def test_labels_elsewhere_leave_no_region():
    source = resolve(Image(np.zeros((6, 6))))
    for far in ((100, 0), (0, -100)):
        assert not labels_in(source, Labels(CELLS + 1, translate=far)).any()


def test_a_coarse_plane_reads_the_labels_at_its_own_resolution():
    levels = [CELLS.repeat(4, 0).repeat(4, 1), CELLS.repeat(2, 0).repeat(2, 1), CELLS]
    content = [np.zeros((48, 64)), np.zeros((24, 32)), np.zeros((12, 16))]
    labels = Labels(levels, multiscale=True)
    for level in range(3):
        region = resolve_labels(resolve(Image(content, multiscale=True), level=level), labels)
        assert region.data.shape == levels[level].shape
        np.testing.assert_array_equal(region.read(), levels[level])


def test_only_the_labels_under_the_plane_are_read():
    data = Lazy(np.stack([CELLS] * 5))
    layer = Labels(data, multiscale=False)
    data.reads.clear()
    region = resolve_labels(resolve(Image(np.zeros((3, 4)), translate=(2, 3)), point_world=(4, 0, 0)), layer)
    assert data.reads == []
    np.testing.assert_array_equal(region.read(), CELLS[2:5, 3:7])
    assert data.reads == [12]


def test_labels_that_cannot_be_read_are_told():
    def fail(block):
        raise RuntimeError("disk gone")

    data = da.zeros((4, 4), dtype=int).map_blocks(fail, meta=np.empty((0, 0), int))
    layer = Labels(data, name="cells", visible=False)
    with pytest.raises(ImageError, match=r"'cells'.*disk gone"):
        labels_in(resolve(Image(np.zeros((4, 4)))), layer)


def test_large_planes_are_sampled_like_their_parts():
    labels = np.random.default_rng(0).integers(0, 9, (1500, 1000))
    source = resolve(Image(np.broadcast_to(np.uint8(0), labels.shape)))
    np.testing.assert_array_equal(labels_in(source, Labels(labels)), labels)


RECTANGLE = np.array([[2, 3], [2, 9], [6, 9], [6, 3]], float)
WIDE = np.array([[1.6, 2.6], [1.6, 9.4], [6.4, 9.4], [6.4, 2.6]])
INSIDE = np.zeros((12, 16), bool)
INSIDE[2:7, 3:10] = True


def test_a_rectangle_covers_the_pixels_whose_centres_it_holds():
    source = resolve(Image(np.zeros((12, 16))))
    np.testing.assert_array_equal(
        shapes_mask(source, Shapes([RECTANGLE + 0.01], shape_type="rectangle"))[3:6, 4:9], True
    )
    np.testing.assert_array_equal(shapes_mask(source, Shapes([WIDE], shape_type="rectangle")), INSIDE)


def test_shapes_come_over_through_the_world(place):
    source = resolve(Image(np.zeros((12, 16)), **place))
    np.testing.assert_array_equal(shapes_mask(source, Shapes([WIDE], shape_type="rectangle", **place)), INSIDE)
    half = resolve(Image([np.zeros((24, 32)), np.zeros((12, 16))], multiscale=True, **place), level=1)
    doubled = Shapes([WIDE * 2 + 0.5], shape_type="rectangle", **place)
    np.testing.assert_array_equal(shapes_mask(half, doubled), INSIDE)


def test_an_ellipse_is_round():
    box = np.array([[2, 4], [2, 24], [18, 24], [18, 4]], float)
    mask = shapes_mask(resolve(Image(np.zeros((22, 30)))), Shapes([box], shape_type="ellipse"))
    row, column = np.mgrid[:22, :30]
    distance = ((row - 10) / 8) ** 2 + ((column - 14) / 10) ** 2
    assert mask[distance < 0.97].all()
    assert not mask[distance > 1.01].any()


def test_a_polygon_may_be_hollow_and_shapes_add_up():
    corners = [[0, 0], [0, 10], [10, 10], [10, 8], [2, 8], [2, 0]]
    layer = Shapes(np.array(corners) + 0.25, shape_type="polygon")
    layer.add_rectangles(np.array([[7.5, 0.5], [7.5, 3.5], [9.5, 3.5], [9.5, 0.5]]))
    mask = shapes_mask(resolve(Image(np.zeros((12, 12)))), layer)
    assert mask[1, 1]
    assert mask[8, 9]
    assert mask[8, 2]
    assert not mask[5, 5]


def test_lines_and_paths_enclose_nothing():
    source = resolve(Image(np.zeros((12, 16))))
    layer = Shapes(name="drawn")
    layer.add_lines(np.array([[0, 0], [9, 9]]))
    layer.add_paths(np.array([[0, 0], [9, 0], [9, 9]]))
    with pytest.raises(ImageError, match="'drawn' has no closed shape"):
        resolve_shapes(source, layer)
    layer.add_rectangles(RECTANGLE)
    assert len(resolve_shapes(source, layer).outlines) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_shapes_of_the_plane_shown_count(viewer, place, turned):
    on_plane = [np.insert(WIDE, 0, plane, axis=1) for plane in (1, 3)]
    content = viewer.add_image(np.zeros((4, 12, 16)), **placed_in(3, place))
    shapes = viewer.add_shapes(on_plane, shape_type="polygon", **placed_in(3, place))
    if turned:
        viewer.dims.order = (0, 2, 1)
    for step, there in enumerate((False, True, False, True)):
        viewer.dims.set_current_step(0, step)
        expected = INSIDE & there
        np.testing.assert_array_equal(
            shapes_mask(resolve_in(viewer, content), shapes), expected.T if turned else expected
        )


def test_shapes_of_fewer_axes_hold_for_every_plane(viewer):
    content = viewer.add_image(np.zeros((4, 12, 16)), scale=(3, 1, 1))
    assert shapes_mask(resolve_in(viewer, content), Shapes([RECTANGLE], shape_type="polygon"))[4, 5]


def test_shapes_partly_or_wholly_outside_are_cut():
    source = resolve(Image(np.zeros((4, 5))))
    assert shapes_mask(source, Shapes([RECTANGLE - 3], shape_type="polygon")).any()
    assert not shapes_mask(source, Shapes([RECTANGLE + 50], shape_type="polygon")).any()


def test_regions_without_the_axes_of_the_plane_are_refused(viewer):
    content = viewer.add_image(np.zeros((5, 6, 7)))
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(ImageError, match="does not have"):
        shapes_mask(resolve_in(viewer, content), Shapes([RECTANGLE], shape_type="polygon"))


@pytest.mark.parametrize("find", [labels_in, shapes_mask])
def test_other_layers_are_no_regions(find):
    with pytest.raises(ImageError, match="'spots' is a Points layer"):
        find(resolve(Image(np.zeros((4, 4)))), Points(np.zeros((3, 2)), name="spots"))
