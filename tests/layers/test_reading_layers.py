"""A layer is read as the viewer shows it, whatever its kind, place and dtype."""

from __future__ import annotations

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from napari.layers import Image, Labels, Points
from napari.utils.colormaps import Colormap

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.read import in_units_of, resolve, resolve_in

from .conftest import Lazy, placed_in

DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i8", "f2", "f4", "f8"]


def ramp(shape, dtype="u2"):
    """Distinct values where the dtype has them."""
    values = np.arange(np.prod(shape))
    return (values % 2 if dtype == "?" else values % 251).reshape(shape).astype(dtype)


def grey(image):
    return image[..., 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["grey", "rgb", "rgba", "zyx", "tzyx", "tczyx", "z-rgb"])
def test_every_kind_and_dtype_is_read_as_finite_rgb(kind, dtype):
    shape = {
        "grey": (7, 9),
        "rgb": (7, 9, 3),
        "rgba": (7, 9, 4),
        "zyx": (3, 7, 9),
        "tzyx": (2, 3, 7, 9),
        "tczyx": (2, 2, 3, 7, 9),
        "z-rgb": (3, 7, 9, 3),
    }[kind]
    snapshot = resolve(Image(ramp(shape, dtype), rgb="rgb" in kind))
    picture = snapshot.read()
    assert snapshot.shape == (7, 9)
    assert snapshot.kind == {"z-rgb": "rgb"}.get(kind, kind if "rgb" in kind else "grey")
    assert picture.shape == (7, 9, 3)
    assert picture.dtype == np.float32
    assert picture.flags.c_contiguous
    assert np.isfinite(picture).all()
    assert 0 <= picture.min() < picture.max() <= 1


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(dtype) for dtype in DTYPES]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)
    ),
    st.floats(0.2, 2),
)
@settings(max_examples=60)
def test_a_layer_of_any_values_is_read_within_0_and_1_or_refused_clearly(values, gamma):
    layer = Image(values, contrast_limits=(0, 1), gamma=gamma, colormap="viridis")
    if not np.isfinite(values).any():
        with pytest.raises(ImageError, match="NaN or infinite"):
            resolve(layer).read()
        return
    for as_displayed in (True, False):
        picture = resolve(layer, as_displayed=as_displayed).read()
        assert np.isfinite(picture).all()
        assert picture.min() >= 0
        assert picture.max() <= 1


def test_contrast_limits_gamma_and_colormap_are_applied_as_the_canvas_does():
    values = np.array([[0, 100, 150, 200, 400]], np.uint16)
    layer = Image(values, contrast_limits=(100, 200), gamma=2, colormap="green")
    expected = np.zeros((1, 5, 3))
    expected[0, :, 1] = [0, 0, 0.25, 1, 1]
    np.testing.assert_allclose(resolve(layer).read(), expected, atol=1e-6)


def test_what_is_done_to_the_layer_later_does_not_show():
    layer = Image(np.array([[0.0, 1.0]]), contrast_limits=(0, 1), colormap=Colormap([[0, 0, 0], [1, 0, 0]]))
    snapshot = resolve(layer)
    layer.colormap.colors = [[0, 0, 0], [0, 1, 0]]
    layer.gamma, layer.contrast_limits = 2, (0, 0.5)
    np.testing.assert_allclose(snapshot.read(), [[[0, 0, 0], [1, 0, 0]]], atol=1e-6)


def test_read_in_grey_leaves_out_the_colormap_alone():
    layer = Image(np.array([[0, 5, 10]]), contrast_limits=(0, 10), gamma=0.5, colormap="magenta")
    picture = resolve(layer, colored=False).read()
    np.testing.assert_allclose(picture, np.sqrt([[[0] * 3, [0.5] * 3, [1] * 3]]), rtol=1e-6)


def test_read_raw_leaves_out_contrast_limits_gamma_and_colormap():
    layer = Image(np.array([[0, 5, 20]]), contrast_limits=(4, 6), gamma=3, colormap="magenta")
    np.testing.assert_allclose(grey(resolve(layer, as_displayed=False).read()), [[0, 0.25, 1]])


def test_rgb_layers_are_seen_through_their_contrast_limits_and_gamma_too():
    layer = Image(np.full((2, 2, 3), 100, np.uint8), rgb=True, contrast_limits=(50, 150), gamma=2)
    np.testing.assert_allclose(resolve(layer).read(), 0.25, rtol=1e-6)


def test_colors_above_and_below_the_limits_and_for_nan_come_from_the_colormap():
    colormap = Colormap([[0, 0, 0], [1, 1, 1]], low_color="blue", high_color="red", nan_color=[0, 1, 0, 0.5])
    layer = Image(np.array([[-1, 0.5, 2, np.nan]]), contrast_limits=(0, 1), colormap=colormap)
    expected = [[[0, 0, 1], [0.5] * 3, [1, 0, 0], [0, 0.5, 0]]]
    np.testing.assert_allclose(resolve(layer).read(), expected, atol=1e-6)


def test_infinities_are_the_ends_and_nan_is_black_in_rgb_layers():
    values = np.array([[[np.inf, -np.inf, np.nan], [0.5, 0.5, 0.5], [np.nan] * 3]])
    picture = resolve(Image(values, rgb=True, contrast_limits=(0, 1))).picture()
    np.testing.assert_allclose(picture.rgb, [[[1, 0, 0], [0.5] * 3, [0] * 3]])
    assert picture.alpha is None


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "f4"])
def test_large_layers_are_shown_like_their_parts(dtype):
    values = np.random.default_rng(0).integers(0, 127, (300, 400)).astype(dtype)
    colormap = Colormap([[0, 0, 0, 0], [1, 0.5, 0, 1]])
    look = {"contrast_limits": (20, 100), "gamma": 0.7, "colormap": colormap}
    whole = resolve(Image(values, **look)).picture()
    part = resolve(Image(values[-90:, :99], **look)).picture()
    np.testing.assert_array_equal(whole.rgb[-90:, :99], part.rgb)
    np.testing.assert_array_equal(whole.alpha[-90:, :99], part.alpha)


@pytest.mark.parametrize("value", [0, 7, -2.5])
def test_a_constant_layer_works(value):
    layer = Image(np.full((4, 4), value))
    for as_displayed in (True, False):
        assert len(np.unique(resolve(layer, as_displayed=as_displayed).read())) == 1


def test_equal_contrast_limits_part_what_is_above_from_the_rest(monkeypatch):
    layer = Image(np.array([[1.0, 2.0, 3.0]]))
    monkeypatch.setattr(Image, "contrast_limits", property(lambda self: [2.0, 2.0]))
    np.testing.assert_array_equal(grey(resolve(layer).read()), [[0, 0, 1]])


def test_missing_contrast_limits_stretch_the_plane(monkeypatch):
    layer = Image(np.array([[1, 2, 3]]))
    monkeypatch.setattr(Image, "contrast_limits", property(lambda self: [None, None]))
    np.testing.assert_array_equal(grey(resolve(layer).read()), [[0, 0.5, 1]])


def test_extreme_contrast_limits_do_not_overflow():
    largest = float(np.finfo(np.float64).max)
    layer = Image(np.array([[-largest, 0, largest]]), contrast_limits=(0, 1))
    snapshot = resolve(layer)
    wide = type(snapshot)(**{**vars(snapshot), "contrast_limits": (-largest, largest)})
    np.testing.assert_allclose(grey(wide.read()), [[0, 0.5, 1]])


@pytest.mark.parametrize(("dtype", "full"), [("u1", 255), ("u2", 65535), ("f4", 1)])
@pytest.mark.parametrize("as_displayed", [True, False])
def test_alpha_is_kept_apart_from_the_colours(dtype, full, as_displayed):
    values = np.zeros((2, 2, 4), dtype)
    values[..., 0] = full
    values[0, 0] = full
    values[1, 1, 3] = full
    picture = resolve(Image(values, rgb=True, contrast_limits=(0, full)), as_displayed=as_displayed).picture()
    np.testing.assert_allclose(picture.alpha, [[1, 0], [0, 1]])
    np.testing.assert_allclose(picture.rgb[1, 1], [1, 0, 0])


def test_rgb_is_decided_by_the_layer_not_by_its_shape():
    layer = Image(ramp((40, 40, 3)), rgb=False)
    assert resolve(layer).shape == (40, 3)


@pytest.mark.parametrize("ndim", [2, 3, 4, 5])
@pytest.mark.parametrize("turned", [False, True])
def test_the_plane_read_is_the_one_the_viewer_shows(viewer, place, ndim, turned):
    shape = (2, 4, 5, 6, 7)[-ndim:]
    layer = viewer.add_image(ramp(shape), **placed_in(ndim, place))
    if turned:
        viewer.dims.order = (*range(ndim - 2), ndim - 1, ndim - 2)
    for axis in range(ndim - 2):
        viewer.dims.set_current_step(axis, shape[axis] - 1 - axis % 2)
    snapshot = resolve_in(viewer, layer)
    pixels = snapshot.pixels()
    assert pixels.shape == snapshot.shape
    for row, column in [(0, 0), (1, 3), (3, 2)]:
        world = snapshot.grid.matrix @ [row, column, 1]
        seen = layer.get_value(world, view_direction=None, dims_displayed=list(viewer.dims.displayed), world=True)
        assert seen == pixels[row, column]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0), (0, 2, 1), (1, 2, 0)])
def test_any_two_axes_can_be_displayed_in_any_order(viewer, order):
    data = ramp((4, 5, 6))
    layer = viewer.add_image(data, scale=(3, 1, 0.5), translate=(1, 2, 3))
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 1)
    snapshot = resolve_in(viewer, layer)
    assert snapshot.grid.displayed == order[1:]
    assert snapshot.plane == tuple(1 if axis == order[0] else None for axis in range(3))
    np.testing.assert_array_equal(snapshot.pixels(), data.take(1, axis=order[0]).transpose(np.argsort(order[1:])))


def test_a_layer_of_fewer_axes_shares_the_last_axes_of_the_viewer(viewer):
    viewer.add_image(ramp((3, 5, 6)))
    data = ramp((5, 6))
    flat = viewer.add_image(data)
    viewer.dims.set_current_step(0, 2)
    np.testing.assert_array_equal(resolve_in(viewer, flat).pixels(), data)
    viewer.dims.order = (0, 2, 1)
    np.testing.assert_array_equal(resolve_in(viewer, flat).pixels(), data.T)


def test_the_slider_between_planes_rounds_as_the_viewer_does(viewer):
    layer = viewer.add_image(ramp((5, 4, 4)), scale=(2, 1, 1))
    for at in (0.9, 1.1, 2.9, 3.1, 6.0):
        viewer.dims.set_point(0, at)
        seen = layer.get_value((at, 1, 1), view_direction=None, dims_displayed=[1, 2], world=True)
        assert resolve_in(viewer, layer).pixels()[1, 1] == seen


@pytest.mark.filterwarnings("ignore:Non-orthogonal")
@pytest.mark.parametrize("entry", [(0, 1), (1, 0)])
def test_a_stack_sheared_out_of_its_planes_is_read_as_shown(viewer, entry):
    affine = np.eye(4)
    affine[entry] = 0.5
    layer = viewer.add_image(ramp((8, 6, 6)), affine=affine)
    for at in (0, 3, 5):
        viewer.dims.set_point(0, at)
        seen = layer.get_value((at, 0, 1), view_direction=None, dims_displayed=[1, 2], world=False)
        assert resolve_in(viewer, layer).pixels()[0, 1] == seen


def test_a_slab_is_projected_as_the_viewer_does(viewer):
    data = np.random.default_rng(0).integers(0, 255, (9, 4, 5), dtype=np.uint8)
    layer = viewer.add_image(data, projection_mode="max", scale=(2, 1, 1))
    viewer.dims.set_point(0, 8)
    viewer.dims.margin_left = (4, 0, 0)
    viewer.dims.margin_right = (2, 0, 0)
    snapshot = resolve_in(viewer, layer)
    np.testing.assert_array_equal(snapshot.pixels(), data[2:6].max(axis=0))
    seen = layer.get_value((8, 2, 3), view_direction=None, dims_displayed=[1, 2], world=True)
    assert snapshot.pixels()[2, 3] == seen
    layer.projection_mode = "none"
    np.testing.assert_array_equal(resolve_in(viewer, layer).pixels(), data[4])


def test_the_slider_counts_in_the_units_of_the_viewer(viewer):
    viewer.add_image(ramp((9, 4, 4)), scale=(0.001, 1, 1), units=("mm", "mm", "mm"))
    layer = viewer.add_image(ramp((9, 4, 4)), units=("um", "um", "um"))
    shown = set()
    for step in range(9):
        viewer.dims.set_current_step(0, step)
        seen = layer.get_value((0, 1, 1), view_direction=None, dims_displayed=[1, 2], world=False)
        assert resolve_in(viewer, layer).pixels()[1, 1] == seen
        shown.add(seen)
    assert len(shown) == 9


def pyramid(levels=3, shape=(8, 64, 96)):
    finest = np.random.default_rng(0).integers(0, 1000, shape, dtype=np.uint16)
    return [finest[..., :: 2**n, :: 2**n] for n in range(levels)]


def test_the_finest_level_that_fits_is_read():
    layer = Image(pyramid(), multiscale=True)
    assert resolve(layer).level == 0
    assert resolve(layer, max_pixels=64 * 96).level == 0
    assert resolve(layer, max_pixels=64 * 96 - 1).level == 1
    assert resolve(layer, max_pixels=10).level == 2
    assert resolve(layer, max_pixels=10, level=1).level == 1
    assert resolve(layer, level=-1).shape == (16, 24)


def test_a_level_is_read_at_the_plane_shown(viewer):
    levels = [level[:: 2**n] for n, level in enumerate(pyramid())]
    layer = viewer.add_image(levels, multiscale=True)
    viewer.dims.set_current_step(0, 6)
    for number, index in enumerate((6, 3, 1)):
        snapshot = resolve_in(viewer, layer, level=number)
        assert snapshot.plane == (6, None, None)
        np.testing.assert_array_equal(snapshot.pixels(), levels[number][index])


def test_only_the_plane_is_read_of_lazy_data_and_only_when_asked_for():
    data = Lazy(ramp((6, 5, 40, 50)))
    layer = Image(data, rgb=False, contrast_limits=(0, 250), multiscale=False)
    data.reads.clear()
    snapshot = resolve(layer, point_world=(4, 2, 0, 0))
    assert data.reads == []
    np.testing.assert_array_equal(snapshot.pixels(), data.array[4, 2])
    assert data.reads == [40 * 50]


def test_dask_computes_only_the_chunk_of_the_plane():
    computed = []

    def load(block_info=None):
        computed.append(block_info[None]["chunk-location"][0])
        return np.full((1, 8, 8), block_info[None]["chunk-location"][0], np.uint8)

    data = da.map_blocks(load, chunks=((1,) * 6, (8,), (8,)), dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8))
    layer = Image(data, contrast_limits=(0, 5))
    computed.clear()
    picture = resolve(layer, point_world=(3, 0, 0)).read()
    assert computed == [3]
    np.testing.assert_allclose(picture, 3 / 5, rtol=1e-6)


def test_what_lazy_data_raises_is_told_with_the_layer():
    def fail(block):
        raise RuntimeError("disk gone")

    data = da.zeros((8, 8)).map_blocks(fail, meta=np.empty((0, 0)))
    layer = Image(data, name="plate", contrast_limits=(0, 1), visible=False)
    with pytest.raises(ImageError, match=r"'plate'.*disk gone"):
        resolve(layer).read()


def test_a_snapshot_does_not_change_with_the_layer():
    layer = Image(ramp((3, 5, 6)), name="before", colormap=Colormap([[0, 0, 0], [0, 1, 0]]))
    snapshot = resolve(layer, point_world=(1, 0, 0))
    before = snapshot.read()
    layer.data = np.zeros((3, 5, 6))
    layer.colormap.colors = np.ones((2, 4))
    layer.colormap = "red"
    layer.contrast_limits = (0, 3)
    layer.scale = (1, 7, 7)
    layer.name = "after"
    assert snapshot.name == "before"
    np.testing.assert_array_equal(snapshot.read(), before)
    np.testing.assert_array_equal(snapshot.grid.geometry.scale, 1)


def test_without_a_viewer_the_middle_plane_is_taken():
    assert resolve(Image(ramp((5, 4, 6)), translate=(100, 0, 0))).plane == (2, None, None)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (Labels(np.zeros((4, 4), int), name="cells"), "'cells' is a Labels layer. Choose an Image layer"),
        (Points(np.zeros((4, 2)), name="spots"), "'spots' is a Points layer"),
    ],
)
def test_layers_that_hold_no_picture_are_refused(layer, says):
    with pytest.raises(ImageError, match=says):
        resolve(layer)


def test_values_that_are_no_real_numbers_are_refused(monkeypatch):
    layer = Image(np.ones((4, 4)), name="wave")
    monkeypatch.setattr(Image, "dtype", np.dtype(complex))
    with pytest.raises(ImageError, match=r"'wave'.*complex128.*real numbers"):
        resolve(layer)


def test_a_volume_on_show_is_refused_with_a_way_on(viewer):
    layer = viewer.add_image(ramp((3, 4, 5)), name="embryo")
    flat = viewer.add_image(ramp((4, 5)))
    viewer.dims.ndisplay = 3
    with pytest.raises(ImageError, match=r"'embryo' as a volume.*2D"):
        resolve_in(viewer, layer)
    assert resolve_in(viewer, flat).shape == (4, 5)


def test_a_slider_beside_the_layer_is_refused(viewer):
    viewer.add_image(ramp((9, 4, 4)))
    layer = viewer.add_image(ramp((3, 4, 4)), name="short")
    viewer.dims.set_current_step(0, 7)
    with pytest.raises(ImageError, match=r"'short'.*index 7.*0 to 2"):
        resolve_in(viewer, layer)


@pytest.mark.parametrize("options", [{"level": 3}, {"level": -4}])
def test_a_level_that_is_not_there_is_refused(options):
    with pytest.raises(ImageError, match=r"3 resolution level.*0 \(finest\) to 2"):
        resolve(Image(pyramid(), multiscale=True), **options)


@pytest.mark.parametrize("displayed", [(0,), (1, 1), (0, 3), (-1, 2), (0, 1, 2)])
def test_impossible_axes_are_refused(displayed):
    with pytest.raises(ImageError, match="two different axes of the 3"):
        resolve(Image(ramp((3, 4, 5))), displayed=displayed)


def test_a_plane_without_finite_pixels_is_refused():
    data = np.ones((2, 4, 4))
    data[1] = np.nan
    layer = Image(data, name="gap")
    assert resolve(layer, point_world=(0, 0, 0)).read().shape == (4, 4, 3)
    with pytest.raises(ImageError, match="'gap' is NaN or infinite"):
        resolve(layer, point_world=(1, 0, 0)).read()


@pytest.mark.parametrize(("axes", "expected"), [(1, [1000.0]), (2, [1000.0] * 2), (3, [1.0, 1000.0, 1000.0])])
def test_coordinates_are_converted_even_while_the_viewer_has_fewer_or_more_axes_than_units(axes, expected):
    layer = Image(np.zeros((4, 4)), units=("um", "um"))
    closing = SimpleNamespace(dims=SimpleNamespace(units=Image(np.zeros((4, 4)), units=("mm", "mm")).units))
    assert in_units_of(layer, closing, [1.0] * axes) == expected
