"""Layers of every kind, place and dtype that hypothesis can think of: what is read, and where results lie."""

from __future__ import annotations

import dask.array as da
import numpy as np
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image

from napari_styletransfer.layers.read import resolve
from napari_styletransfer.layers.rendering import Rendering
from napari_styletransfer.layers.stack import stack_of
from napari_styletransfer.layers.write import channel_kwargs, image_kwargs, stack_kwargs

searching = settings(max_examples=60)

DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "i8", "f2", "f4", "f8", ">u2", ">f4"]
COLORS = {"gray": (1, 1, 1), "green": (0, 1, 0), "magenta": (1, 0, 1)}
STORES = {
    "numpy": np.asarray,
    "dask": lambda values: da.from_array(values, chunks=(1,) * (values.ndim - 2) + values.shape[-2:]),
    "zarr": lambda values: zarr.array(values, chunks=values.shape),
}


@st.composite
def pixels(draw, shape):
    """Values of any dtype: whole ranges, constants, negative ones, and in floats what is no number."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    constant = draw(st.none() | st.integers(-100, 120))
    values = rng.integers(-100, 120, shape) if constant is None else np.full(shape, constant)
    values = (values > 0 if dtype.kind == "b" else np.maximum(values, 0) if dtype.kind == "u" else values).astype(dtype)
    if dtype.kind == "f":
        values += (rng.random(shape) - 0.5).astype(dtype)
        for special in draw(st.sets(st.sampled_from([np.nan, np.inf, -np.inf]))):
            # Never all of a plane: one that has no number is refused.
            values.reshape(-1)[draw(st.integers(0, 8)) :: 9] = special
    return values


@st.composite
def looks(draw):
    low = draw(st.floats(-120, 100, width=16))
    return {
        "contrast_limits": (low, low + draw(st.floats(0.5, 200, width=16))),
        "gamma": draw(st.sampled_from([1.0, 0.5, 1.7])),
    }


@st.composite
def stored_layers(draw):
    """Return an image layer, the values of each of its levels, and whether they are colours."""
    channels = draw(st.sampled_from([(), (), (3,), (4,)]))
    leading = draw(st.lists(st.integers(1, 3), max_size=3))
    shape = (*leading, draw(st.integers(4, 9)), draw(st.integers(4, 9)), *channels)
    values = draw(pixels(shape))
    rows = len(leading)
    levels = [values]
    if draw(st.booleans()):
        levels.append(values[(slice(None),) * rows + (slice(None, None, 2), slice(None, None, 2))])
    store = STORES[draw(st.sampled_from(list(STORES)))]
    colormap = {} if channels else {"colormap": draw(st.sampled_from(list(COLORS)))}
    data = [store(level) for level in levels]
    layer = Image(
        data if len(levels) > 1 else data[0],
        multiscale=len(levels) > 1,
        rgb=bool(channels),
        scale=[draw(st.sampled_from([1.0, 0.3, 4.0])) for _ in range(len(leading) + 2)],
        **draw(looks()),
        **colormap,
    )
    return layer, levels


def shown(values, layer):
    """What the canvas shows of values: a line through the contrast limits, then gamma, then the colour."""
    low, high = layer.contrast_limits
    unit = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) ** layer.gamma
    unit = np.where(np.isnan(unit), 0, unit)
    return unit if layer.rgb else unit[..., None] * COLORS[layer.colormap.name]


@given(stored_layers(), st.data())
@searching
def test_any_plane_of_any_layer_is_read_as_the_canvas_shows_it(stored, data):
    layer, levels = stored
    level = data.draw(st.integers(0, len(levels) - 1))
    index = [data.draw(st.integers(0, size - 1)) for size in layer.level_shapes[0]]
    turned = data.draw(st.booleans())
    axes = (layer.ndim - 1, layer.ndim - 2) if turned else (layer.ndim - 2, layer.ndim - 1)
    snapshot = resolve(layer, point_world=layer.data_to_world(index), displayed=axes, level=level)
    plane = levels[level][tuple(index[:-2])]
    plane = plane.swapaxes(0, 1) if turned else plane
    picture = snapshot.picture()
    assert snapshot.shape == plane.shape[:2]
    assert snapshot.plane[:-2] == tuple(index[:-2])
    assert picture.rgb.dtype == np.float32
    assert picture.rgb.shape == (*plane.shape[:2], 3)
    assert np.isfinite(picture.rgb).all()
    assert picture.rgb.min() >= 0
    assert picture.rgb.max() <= 1
    np.testing.assert_allclose(picture.rgb, shown(plane[..., :3] if layer.rgb else plane, layer), atol=1e-5)
    np.testing.assert_array_equal(snapshot.pixels(), plane)


@given(stored_layers(), st.data())
@searching
def test_any_two_axes_of_any_layer_are_read_in_the_order_they_are_shown(stored, data):
    layer, (values, *_) = stored
    index = [data.draw(st.integers(0, size - 1)) for size in values.shape[: layer.ndim]]
    axes = data.draw(st.permutations(range(layer.ndim)))[:2]
    snapshot = resolve(layer, point_world=layer.data_to_world(index), displayed=axes, level=0)
    where = tuple(slice(None) if axis in axes else at for axis, at in enumerate(index))
    plane = values[where].swapaxes(0, 1) if axes[0] > axes[1] else values[where]
    np.testing.assert_array_equal(snapshot.pixels(), plane)
    if np.isfinite(plane).any():
        np.testing.assert_allclose(
            snapshot.picture().rgb, shown(plane[..., :3] if layer.rgb else plane, layer), atol=1e-5
        )


@given(stored_layers())
@searching
def test_any_layer_read_raw_is_finite_and_within_0_and_1(stored):
    layer, _ = stored
    picture = resolve(layer, as_displayed=False).read()
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 1


@given(st.data())
@searching
def test_any_channel_keeps_every_bit_outside_any_region(data):
    shape = data.draw(st.tuples(st.integers(2, 9), st.integers(2, 9)))
    values = data.draw(pixels(shape))
    if not np.isfinite(values).any():
        values[...] = 1
    content = resolve(Image(values, **data.draw(looks())), colored=False)
    labels = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 3, shape)
    regions = data.draw(st.none() | st.dictionaries(st.integers(0, 3), st.none() | st.integers(-1, 1)))
    working = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    image = np.random.default_rng(0).random((*working, 3), np.float32)

    class Marks:
        def read(self):
            return labels

    result = Rendering(content, channel=True, labels=Marks(), regions=regions)(image, working)
    styled = {1, 2} if regions is None else {label for label, style in regions.items() if style is not None}
    outside = ~np.isin(labels, list(styled))
    assert result.dtype == values.dtype
    assert result[outside].tobytes() == values[outside].tobytes()
    assert np.isfinite(result[~outside]).all()


@st.composite
def places(draw, ndim):
    """A place in the world: rows and columns scaled, mirrored, sheared, turned and mapped, other axes scaled."""
    side = st.floats(0.05, 20)
    scale = [draw(side) for _ in range(ndim)]
    scale[-2:] = [draw(side) * draw(st.sampled_from([1, -1])) for _ in range(2)]
    angle, shear = draw(st.floats(-np.pi, np.pi)), np.eye(ndim)
    shear[-2, -1] = draw(st.floats(-2, 2))
    rotate, affine = np.eye(ndim), np.eye(ndim + 1)
    rotate[-2:, -2:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    if draw(st.booleans()):
        affine[-3:-1, -3:-1] = [[draw(st.floats(0.5, 2)), draw(st.floats(-0.4, 0.4))], [0.1, draw(st.floats(0.5, 2))]]
        affine[:-1, -1] = draw(st.floats(-50, 50))
    return {
        "scale": scale,
        "translate": [draw(st.floats(-1000, 1000)) for _ in range(ndim)],
        "rotate": rotate,
        "shear": shear,
        "affine": affine,
        "units": ("um",) * ndim,
    }


@given(st.data())
@searching
def test_corners_and_centre_of_any_result_lie_on_the_right_pixels_of_its_content(data):
    leading = data.draw(st.lists(st.integers(1, 4), max_size=2))
    shape = (*leading, data.draw(st.integers(2, 40)), data.draw(st.integers(2, 40)))
    ndim = len(shape)
    levels = [np.zeros(shape, np.uint16), np.zeros((*leading, -(-shape[-2] // 2), -(-shape[-1] // 2)), np.uint16)]
    content = Image(levels, multiscale=True, contrast_limits=(0, 1), **data.draw(places(ndim)))
    index = [data.draw(st.integers(0, size - 1)) for size in leading]
    turned = data.draw(st.booleans())
    axes = (ndim - 1, ndim - 2) if turned else (ndim - 2, ndim - 1)
    point = content.data_to_world((*index, 0, 0))
    snapshot = resolve(content, point_world=point, displayed=axes, level=data.draw(st.integers(0, 1)))
    assert snapshot.plane[:-2] == tuple(index)
    height, width = data.draw(st.just(snapshot.shape) | st.tuples(st.integers(1, 50), st.integers(1, 50)))
    stack = stack_of(snapshot)
    picture = np.zeros((height, width, 3), np.float32)
    results = [
        (Image(**image_kwargs(picture, snapshot.grid)), [0] * len(leading)),
        (Image(**channel_kwargs(picture[..., 0], snapshot)), [0] * len(leading)),
        (Image(**stack_kwargs(stack.empty((height, width)), stack)), index),
    ]
    size = np.array([width, height] if turned else [height, width])
    factors = np.array(shape[-2:]) / size
    for result, plane in results:
        assert result.data.shape[ndim - 2 : ndim] == tuple(size)
        for place in ([-0.5, -0.5], [0, 0], size - 1, size - 0.5, (size - 1) / 2, [0, size[1] - 1]):
            expected = (*index, *((np.asarray(place) + 0.5) * factors - 0.5))
            # Layers far from the origin lose some digits on the way through the world.
            found = content.world_to_data(result.data_to_world((*plane, *place)))
            np.testing.assert_allclose(found, expected, atol=1e-6 * max(1, *shape) / 0.05)
