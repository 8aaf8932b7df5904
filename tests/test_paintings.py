"""The procedural paintings: repeatable, of any size, and rich enough to be learned from as a style."""

from __future__ import annotations

import numpy as np
import pytest

from napari_styletransfer.errors import ImageError
from napari_styletransfer.paintings import PAINTINGS
from napari_styletransfer.paintings.canvas import Canvas, Noise
from napari_styletransfer.paintings.cells import expose, fluorescence
from napari_styletransfer.paintings.strokes import rasterize, trace

NAMES = list(PAINTINGS)


@pytest.fixture(scope="module")
def sheets() -> dict[str, np.ndarray]:
    """Every painting once, at a size where a stroke is still a few pixels wide."""
    return {name: painting.function((192, 192), 0) for name, painting in PAINTINGS.items()}


def windows(grey: np.ndarray, side: int) -> np.ndarray:
    """Cut a picture into squares, one row each."""
    h, w = (n // side * side for n in grey.shape)
    blocks = grey[:h, :w].reshape(h // side, side, w // side, side)
    return blocks.swapaxes(1, 2).reshape(-1, side * side)


def test_there_are_at_least_six_paintings_and_each_says_what_it_is():
    assert len(PAINTINGS) >= 6
    assert len({painting.title for painting in PAINTINGS.values()}) == len(PAINTINGS)
    assert all(painting.description.endswith(".") for painting in PAINTINGS.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(61, 97), (16, 40)])
def test_any_size_works_and_a_seed_repeats(name, size):
    paint = PAINTINGS[name].function
    picture = paint(size, 3)
    assert picture.shape == (*size, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, paint(size, 3))
    assert np.abs(picture.astype(int) - paint(size, 4)).mean() > 5


@pytest.mark.parametrize("name", NAMES)
def test_a_painting_has_texture_everywhere_and_uses_the_whole_range(name, sheets):
    picture = sheets[name].astype(float)
    grey = picture.mean(axis=-1)
    low, high = np.percentile(grey, (1, 99))
    assert high - low > 110
    # A 12-pixel window here is a 32-pixel window of the picture at 512 pixels.
    assert (windows(grey, 12).std(axis=1) > 10).mean() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_the_quarters_of_a_painting_are_of_one_style(name, sheets):
    picture = sheets[name].astype(float)
    spread = picture.reshape(2, 96, 2, 96, 3).std(axis=(1, 3)).reshape(4, 3)
    assert spread.min() > 0.5 * spread.max(axis=0).min()


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_composition_at_another_size(name, sheets):
    half = PAINTINGS[name].function((96, 96), 0).astype(float)
    whole = sheets[name].astype(float).reshape(96, 2, 96, 2, 3).mean(axis=(1, 3))
    coarse = [p.reshape(24, 4, 24, 4, 3).mean(axis=(1, 3)).ravel() for p in (half, whole)]
    assert np.corrcoef(*coarse)[0, 1] > 0.75


@pytest.mark.parametrize("size", [(0, 64), (64, 15), (64.5, 64), (64,), "64", None])
def test_a_size_that_cannot_be_painted_is_refused(size):
    with pytest.raises(ImageError, match="height, width"):
        PAINTINGS["mosaic"].function(size, 0)


def test_the_fluorescence_picture_looks_like_a_camera_frame():
    picture = fluorescence((96, 130), seed=1)
    assert picture.shape == (96, 130)
    assert picture.dtype == np.uint16
    np.testing.assert_array_equal(picture, fluorescence((96, 130), seed=1))
    low, middle, high = np.percentile(picture, (1, 50, 99))
    assert 110 < low < middle < high < 65535
    assert high > 8 * low


def test_the_camera_has_shot_noise_read_noise_and_an_offset():
    rng = np.random.default_rng(0)
    dark, dim, bright = (expose(np.full((300, 300), level), rng).astype(float) for level in (0.0, 0.25, 1.0))
    assert dark.mean() == pytest.approx(110, abs=1)
    assert dark.std() > 20
    gain = (bright.mean() - dim.mean()) / (bright.var() - dim.var())
    # Photon counting: variance grows with the mean, by the counts that one photon makes.
    assert 1 / gain == pytest.approx(12, rel=0.05)


def test_noise_has_no_bias_and_unit_variance_and_reads_the_same_on_and_off_the_grid():
    canvas = Canvas.of((256, 256))
    noise = Noise(canvas, np.random.default_rng(0), 6, octaves=2)
    field = noise.on_grid()
    assert abs(field.mean()) < 0.1
    assert field.std() == pytest.approx(1, abs=0.1)
    y, x = canvas.grid
    np.testing.assert_allclose(noise.at(y[10:14], x[:, 40:46]), field[10:14, 40:46], atol=1e-4)


def test_traced_lines_follow_the_field_at_the_length_asked_for():
    start = np.array([[30.0, 50.0], [60.0, 50.0]], np.float32)

    def circle(y, x):
        r = np.hypot(y - 50, x - 50)
        return (x - 50) / r, -(y - 50) / r

    line = trace(start, circle, np.array([25.0, 10.0], np.float32), steps=8)
    assert line.shape == (2, 17, 2)
    radius = np.hypot(line[..., 0] - 50, line[..., 1] - 50)
    np.testing.assert_allclose(radius, np.array([[20.0], [10.0]]) * np.ones(17), rtol=0.01)
    np.testing.assert_allclose(np.linalg.norm(np.diff(line, axis=1), axis=-1).sum(axis=1), [25, 10], rtol=0.01)


def test_later_strokes_cover_earlier_ones_without_holes():
    canvas = Canvas(64, 64, 1)
    reach = canvas.extent[0]
    across = np.linspace(0.1, 0.9, 9, dtype=np.float32) * reach
    level = np.full(9, reach / 2, np.float32)
    lines = np.stack([np.stack([level, across], -1), np.stack([across, level], -1)])
    painted = rasterize(canvas, lines, np.full((2, 9), reach / 8, np.float32))
    assert (painted.stroke[24:40, 24:40] == 1).all()
    assert (painted.stroke[26:38, 10:22] == 0).all()
    assert (painted.stroke[:20, :20] == -1).all()
    assert painted.along[32, 32] == pytest.approx(0.5, abs=0.03)
    assert np.abs(painted.across[25:39, 32]).max() < 0.2


def test_a_hole_in_a_stroke_shows_what_lies_below():
    canvas = Canvas(64, 64, 1)
    reach = canvas.extent[0]
    across = np.linspace(0.1, 0.9, 9, dtype=np.float32) * reach
    line = np.stack([np.full(9, reach / 2, np.float32), across], -1)
    half = np.full((2, 9), reach / 8, np.float32)
    painted = rasterize(canvas, np.stack([line, line]), half, lambda stroke, along, _: (stroke == 1) & (along > 0.5))
    assert painted.stroke[32, 16] == 1
    assert painted.stroke[32, 48] == 0
