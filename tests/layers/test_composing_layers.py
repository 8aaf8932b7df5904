"""Visible layers become the picture the canvas shows."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.compose import compose, compose_in, groups_in
from napari_styletransfer.layers.read import resolve
from napari_styletransfer.layers.write import image_kwargs

from .conftest import placed_in


def flat(color, *, alpha=None, shape=(4, 5), **options):
    """A layer of one colour."""
    values = [*color] if alpha is None else [*color, alpha]
    return Image(
        np.broadcast_to(np.float32(values), (*shape, len(values))), rgb=True, contrast_limits=(0, 1), **options
    )


def seen(*layers):
    return compose([resolve(layer) for layer in layers]).read()[2, 3]


def visible(viewer):
    """Compose the only group of visible layers."""
    (group,) = groups_in(viewer, [layer for layer in viewer.layers if isinstance(layer, Image)])
    return compose_in(viewer, group)


BELOW = (0.2, 0.4, 0.6)
ABOVE = (0.9, 0.3, 0.5)


@pytest.mark.parametrize(
    ("blending", "expected"),
    [
        ("translucent", 0.5 * np.array(BELOW) + 0.5 * np.array(ABOVE)),
        ("translucent_no_depth", 0.5 * np.array(BELOW) + 0.5 * np.array(ABOVE)),
        ("additive", np.array(BELOW) + 0.5 * np.array(ABOVE)),
        ("minimum", np.minimum(BELOW, ABOVE)),
        ("opaque", np.array(ABOVE)),
        ("multiplicative", np.array(BELOW) * np.array(ABOVE)),
    ],
)
def test_each_blending_mixes_by_its_rule(blending, expected):
    np.testing.assert_allclose(seen(flat(BELOW), flat(ABOVE, opacity=0.5, blending=blending)), expected, rtol=1e-5)


@pytest.mark.parametrize("blending", ["translucent", "additive", "opaque", "multiplicative"])
def test_the_lowest_layer_lies_on_black(blending):
    np.testing.assert_allclose(seen(flat(ABOVE, opacity=0.5, blending=blending)), 0.5 * np.array(ABOVE), rtol=1e-5)


def test_the_lowest_layer_is_not_darkened_by_minimum():
    np.testing.assert_allclose(seen(flat(ABOVE, blending="minimum")), ABOVE, rtol=1e-5)


def test_transparent_pixels_let_the_layer_below_through():
    layer = flat(ABOVE, alpha=0.25)
    np.testing.assert_allclose(seen(flat(BELOW), layer), 0.75 * np.array(BELOW) + 0.25 * np.array(ABOVE), rtol=1e-5)
    hole = Image(np.array([[np.nan, 1]]), contrast_limits=(0, 1))
    below = Image(np.array([[1.0, 1.0]]), contrast_limits=(0, 1), colormap="red")
    np.testing.assert_allclose(compose([resolve(below), resolve(hole)]).read(), [[[1, 0, 0], [1, 1, 1]]])


def test_sums_beyond_white_are_white():
    np.testing.assert_allclose(seen(flat((0.8, 0, 0)), flat((0.8, 0.1, 0), blending="additive")), [1, 0.1, 0])


def test_channels_are_seen_through_their_colormaps_and_limits(viewer):
    data = np.array([[[0, 50, 100]], [[100, 0, 50]]], np.uint16)
    layers = viewer.add_image(data, channel_axis=0, colormap=["green", "magenta"], contrast_limits=[(0, 100)] * 2)
    layers[0].gamma = 2
    expected = [[[1, 0, 1], [0, 0.25, 0], [0.5, 1, 0.5]]]
    picture = visible(viewer)
    assert picture.name == " + ".join(layer.name for layer in layers)
    np.testing.assert_allclose(picture.read(), expected, atol=1e-6)


def test_hidden_and_transparent_layers_are_not_seen(viewer):
    red, blue = (viewer.add_layer(flat(color, blending="additive")) for color in ((1, 0, 0), (0, 0, 1)))
    viewer.add_layer(flat((0, 1, 0), blending="additive", visible=False))
    viewer.add_layer(flat((0, 1, 0), blending="additive", opacity=0))
    assert groups_in(viewer, viewer.layers) == [(red, blue)]


def test_a_single_picture_is_no_group_and_what_it_covers_is_not_seen(viewer):
    below, above = viewer.add_layer(flat(BELOW)), viewer.add_layer(flat(ABOVE))
    assert groups_in(viewer, viewer.layers) == []
    above.opacity = 0.5
    assert groups_in(viewer, viewer.layers) == [(below, above)]
    top = viewer.add_layer(flat(ABOVE, blending="additive"))
    above.opacity = 1
    assert groups_in(viewer, viewer.layers) == [(above, top)]


def test_pictures_of_several_grids_are_several_groups(viewer):
    small = [viewer.add_layer(flat(BELOW, blending="additive")) for _ in range(2)]
    large = [viewer.add_layer(flat(BELOW, blending="additive", shape=(9, 9))) for _ in range(2)]
    alone = viewer.add_layer(flat(BELOW, blending="additive", shape=(7, 7)))
    assert groups_in(viewer, [small[0], large[0], small[1], alone, large[1]]) == [tuple(small), tuple(large)]


def test_planes_of_a_stack_are_composed_where_the_viewer_stands(viewer, place):
    stack = np.random.default_rng(0).random((3, 6, 8)).astype(np.float32)
    viewer.add_image(stack, contrast_limits=(0, 1), colormap="red", **placed_in(3, place))
    viewer.add_image(stack[1], contrast_limits=(0, 1), colormap="blue", blending="additive", **place)
    viewer.dims.set_current_step(0, 2)
    composite = visible(viewer)
    np.testing.assert_allclose(composite.read()[..., 0], stack[2], atol=1e-6)
    np.testing.assert_allclose(composite.read()[..., 2], stack[1], atol=1e-6)
    result = viewer.add_image(**image_kwargs(composite.read(), composite.grid))
    np.testing.assert_allclose(result.data_to_world((0, 2, 3)), viewer.layers[0].data_to_world((2, 2, 3)))


def test_a_layer_without_a_plane_here_is_not_seen(viewer):
    viewer.add_image(np.ones((5, 4, 4)), contrast_limits=(0, 2), colormap="red")
    viewer.add_image(np.ones((2, 4, 4)), contrast_limits=(0, 1), colormap="green", blending="additive")
    viewer.dims.set_current_step(0, 1)
    np.testing.assert_allclose(visible(viewer).read()[0, 0], [0.5, 1, 0])
    viewer.dims.set_current_step(0, 4)
    assert groups_in(viewer, viewer.layers) == []


@pytest.mark.parametrize(
    "options",
    [{"scale": (1.1, 1)}, {"translate": (0, 1)}, {"rotate": 10}, {"shape": (5, 5)}, {"affine": np.diag([1, 2, 1])}],
)
def test_layers_of_other_pixels_make_no_one_picture(options):
    with pytest.raises(ImageError, match=r"'moved' .* do not lie on those of 'fixed'.*Hide one"):
        compose([resolve(flat(BELOW, name="fixed")), resolve(flat(ABOVE, name="moved", **options))])


def test_layers_in_other_units_share_pixels_where_they_lie_on_each_other():
    one = flat(BELOW, scale=(1, 1), units=("um", "um"), name="one")
    same = flat(ABOVE, scale=(0.001, 0.001), units=("mm", "mm"))
    np.testing.assert_allclose(seen(one, same), ABOVE, rtol=1e-5)
    with pytest.raises(ImageError, match="do not lie on"):
        seen(one, flat(ABOVE, scale=(1, 1), units=("mm", "mm")))


def test_nothing_to_compose_is_told():
    with pytest.raises(ImageError, match="no picture to compose"):
        compose([])


def levels(value, sizes=(16, 8, 4)):
    return [np.full((size, size), value, np.float32) for size in sizes]


def test_pyramids_are_composed_at_one_level(viewer):
    red = viewer.add_image(levels(1), multiscale=True, contrast_limits=(0, 1), colormap="red")
    green = viewer.add_image(levels(1), multiscale=True, contrast_limits=(0, 2), colormap="green", blending="additive")
    chosen = compose_in(viewer, [red, green], level=1)
    assert chosen.shape == (8, 8)
    np.testing.assert_allclose(chosen.read()[2, 3], [1, 0.5, 0])
    assert [snapshot.level for snapshot in compose_in(viewer, [red, green], max_pixels=20).snapshots] == [2, 2]


def test_a_pyramid_and_a_plain_picture_are_composed_at_full_resolution(viewer):
    red = viewer.add_image(levels(1), multiscale=True, contrast_limits=(0, 1), colormap="red")
    green = viewer.add_image(levels(1)[0], contrast_limits=(0, 2), colormap="green", blending="additive")
    composite = compose_in(viewer, [red, green], max_pixels=20)
    assert composite.shape == (16, 16)
    np.testing.assert_allclose(composite.read()[2, 3], [1, 0.5, 0])
    assert compose_in(viewer, [red, green], level=1).shape == (16, 16)
