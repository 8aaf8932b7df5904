"""The procedural paintings of the tools: drawn as they should be, and the samples in the package are theirs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tools.paintings", reason="the tools lie beside the package in a checkout only")

from napari_styletransfer import samples
from tools.paintings import PAINTINGS
from tools.paintings.canvas import Canvas, Noise
from tools.paintings.cells import channels, expose, fluorescence
from tools.paintings.strokes import rasterize, trace

QUICK = {"mosaic", "riso-dots"}
"""What is painted at full size within two seconds."""


def in_blocks(picture: np.ndarray, side: int) -> np.ndarray:
    """Average a picture over squares."""
    h, w = (n // side for n in picture.shape[:2])
    return picture.astype(float).reshape(h, side, w, side, -1).mean(axis=(1, 3))


def test_every_sample_style_has_its_painting():
    assert list(PAINTINGS) == list(samples.STYLES)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PAINTINGS])
def test_a_sample_style_is_the_painting_within_its_rounding(name):
    apart = np.abs(samples.style(name).astype(int) - PAINTINGS[name]((512, 512)))
    # Another processor may round the edge of a stroke otherwise.
    assert np.quantile(apart, 0.999) <= 2


@pytest.mark.parametrize("name", PAINTINGS)
def test_a_painting_has_the_same_composition_at_another_size(name):
    small = PAINTINGS[name]((96, 96))
    assert small.dtype == np.uint8
    coarse = [in_blocks(picture, side).ravel() for picture, side in ((small, 6), (samples.style(name), 32))]
    assert np.corrcoef(*coarse)[0, 1] > 0.75


def test_the_sample_cells_are_those_computed():
    nuclei, cytoplasm, labels = channels((512, 512))
    (read_nuclei, *_), (read_cytoplasm, *_), (read_labels, *_), _ = samples.fluorescence_channels()
    assert read_labels.dtype == labels.dtype
    assert (read_labels == labels).mean() > 0.999
    for read, made in (
        (read_nuclei, nuclei),
        (read_cytoplasm, cytoplasm),
        (samples.content("fluorescence"), fluorescence((512, 512))),
    ):
        # In units of the shot noise, which another version of numpy may draw otherwise.
        roots = [in_blocks(np.sqrt((counts.astype(float) - 110) / 12), 8) for counts in (read, made)]
        assert np.abs(roots[0] - roots[1]).max() < 0.5


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
