"""Bright and dark stay where the content has them, and what has no colours gets none."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

import napari_styletransfer as st
from napari_styletransfer.config import CHANNEL_STRUCTURE, StyleConfig
from napari_styletransfer.events import Finished
from napari_styletransfer.images.pixels import LUMINANCE
from napari_styletransfer.losses.structure import (
    AreaAverage,
    StructureLoss,
    coarse_luminance,
    coarse_size,
    match_tones,
)
from napari_styletransfer.optim.preconditioner import SpectralMetric
from napari_styletransfer.planning.inputs import RunInputs

ImageOf = Callable[..., Tensor]


def cells(size: int = 96) -> np.ndarray:
    """A channel of 16 bits: bright cells on a dark ground with noise, (H, W)."""
    rng = np.random.default_rng(3)
    seeds = np.zeros((size, size))
    seeds[tuple(rng.integers(4, size - 4, (2, 14)))] = 1
    blobs = scipy.ndimage.gaussian_filter(seeds, 4)
    return (300 + rng.normal(0, 40, (size, size)).clip(-200, 200) + 8000 * (blobs / blobs.max()) ** 0.7).astype(
        np.uint16
    )


def waves(size: int = 96, *, grey: bool = False) -> np.ndarray:
    """A painting of strong bright and dark bands, uint8 (H, W, 3)."""
    y, x = np.mgrid[:size, :size]
    wave = 0.5 + 0.5 * np.sin(0.35 * x + 0.2 * y + 2 * np.sin(0.1 * y))
    colors = np.array([[30, 60, 160], [250, 220, 90]], float)
    if grey:
        colors[:] = colors.mean(1, keepdims=True)
    return (colors[0] + wave[..., None] * (colors[1] - colors[0])).astype(np.uint8)


def finished(content: np.ndarray, style: np.ndarray, **fields: object) -> Finished:
    config = StyleConfig(network="compact", size=96, **fields)
    *_, last = st.iter_stylize(content, [style], config)
    assert isinstance(last, Finished)
    return last


@pytest.mark.parametrize("size", [(40, 64), (100, 131), (96, 256), (17, 9)])
def test_averages_are_means_and_the_adjoint_is_exact(size: tuple[int, int], random_image: ImageOf) -> None:
    image = random_image(*size, seed=1)
    averaging = AreaAverage(size, coarse_size(size), image)
    torch.testing.assert_close(averaging(torch.full_like(image, 0.3)), torch.full(coarse_size(size), 0.3).double())
    averages = torch.rand(coarse_size(size), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradient = torch.zeros_like(image)
    half = size[0] // 2
    for rows in (slice(0, half), slice(half, size[0])):
        averaging.add_adjoint(gradient[:, :, rows], averages, rows)
    torch.testing.assert_close((averaging(image) * averages).sum(), (gradient * image).sum())


def test_the_loss_is_relative_and_its_gradient_is_that_of_finite_differences(random_image: ImageOf) -> None:
    size = (70, 90)
    image, content = random_image(*size, seed=1), random_image(*size, seed=2)
    target = coarse_luminance(content, coarse_size(size))
    loss = StructureLoss(target, size)
    even = torch.full_like(image, float(target.mean()))
    # A content flatter than a variance of 1e-3 counts as one of that.
    assert float(loss.measure(even)[0]) == pytest.approx(min(float(target.var(correction=0)) / 1e-3, 1), rel=1e-6)
    assert float(loss.measure(content)[0]) == pytest.approx(0, abs=1e-12)
    _, averages = loss.measure(image)
    gradient = torch.zeros_like(image)
    loss.add_gradient(gradient, averages, slice(None))
    direction = torch.randn(image.shape, dtype=image.dtype, generator=torch.Generator().manual_seed(3))
    step = 1e-4
    up, down = (float(loss.measure(image + sign * step * direction)[0]) for sign in (1, -1))
    assert (up - down) / (2 * step) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_tones_are_those_of_the_style_and_keep_the_order() -> None:
    content = torch.rand(20, 30, generator=torch.Generator().manual_seed(1)) ** 6
    style = 0.3 + 0.2 * torch.rand(20, 30, generator=torch.Generator().manual_seed(2))
    toned = match_tones(content, style)
    assert float(toned.mean()) == pytest.approx(float(style.mean()), abs=1e-5)
    assert 0 <= float(toned.min()) < float(toned.max()) <= 1
    assert float(torch.corrcoef(torch.stack([toned.flatten(), content.flatten()]))[0, 1]) == pytest.approx(1, abs=1e-5)


def test_single_channels_keep_their_structure_unless_told_otherwise() -> None:
    channel, style = cells(), waves()
    asked = {None: CHANNEL_STRUCTURE, 0.0: 0.0, 0.2: 0.2}
    for given, expected in asked.items():
        config = StyleConfig(network="compact", size=96, structure_weight=given)
        assert st.plan(channel, [style], config).config.structure_weight == expected
    colored = np.dstack([channel, channel // 2, channel]).astype(np.uint16)
    assert st.plan(colored, [style], StyleConfig(network="compact", size=96)).config.structure_weight == 0


def test_bright_and_dark_stay_at_any_balance() -> None:
    channel, style = cells(), waves()
    for balance in (0.5, 1.0):
        free, held = (finished(channel, style, balance=balance, structure_weight=weight) for weight in (0.0, None))
        assert held.structure is not None
        assert free.structure is not None
        assert held.structure > 0.95
        assert held.structure > free.structure
        assert held.losses["structure"] > 0
        assert "structure" not in free.losses
        luminance = held.image @ np.float32(LUMINANCE)
        seen = (scipy.ndimage.gaussian_filter(plane, 1.5).ravel() for plane in (luminance, channel * 1.0))
        assert np.corrcoef(*seen)[0, 1] > 0.9


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize(("color", "grey"), [("style", True), ("match", False), ("content", False)])
def test_without_colours_in_the_pictures_there_are_none_in_the_result(optimizer: str, color: str, grey: bool) -> None:
    image = finished(cells(), waves(grey=grey), optimizer=optimizer, color=color, balance=0.8).image
    assert float(np.ptp(image, axis=2).max()) == 0
    assert image.std() > 0.05


def test_a_grey_run_learns_its_metric_from_brightness_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    step = torch.randn(1, 1, 64, 64, generator=generator).expand(1, 3, 64, 64).contiguous()
    change = step + 0.8 * torch.roll(step, 1, 3)  # coarse waves are curved more than fine ones
    learned = SpectralMetric(64, 64, None).learned([(step.flatten(), change.flatten())])
    assert not learned.is_identity
    gradient = torch.randn(1, 1, 64, 64, generator=generator).expand(1, 3, 64, 64).contiguous()
    image = torch.zeros(1, 3, 64, 64)
    learned.add_to(image, learned.latent_gradient_(gradient.clone()))
    assert float((image[:, 0] - image[:, 1]).abs().max()) < 1e-4 * float(image.abs().max())
    assert float((image - gradient).abs().max()) > 0.1


@pytest.mark.parametrize("which", ["content", "style"])
def test_one_picture_with_colours_is_enough(which: str) -> None:
    content, style = (waves(grey=which != name) for name in ("content", "style"))
    config = StyleConfig(network="compact", size=96)
    assert not RunInputs.from_arrays(content, [style], config, None).achromatic
    assert RunInputs.from_arrays(content[..., 0], [waves(grey=True)], config, None).achromatic


@pytest.mark.parametrize(
    ("fields", "achromatic"),
    [
        ({"regions": {1: 0}}, True),
        ({"regions": {1: 0, 2: 1}}, False),
        ({"regions": {1: -1}}, False),
        ({"regions": {1: -1}, "style_weights": (1, 0)}, True),
        ({"style_weights": (1, 0)}, True),
        ({"style_weights": (1, 0), "regions": {2: 1}}, False),
    ],
)
def test_colours_of_a_style_that_is_used_nowhere_do_not_count(fields: dict[str, Any], achromatic: bool) -> None:
    labels = None
    if "regions" in fields:
        labels = np.ones(waves(grey=True).shape[:2], int)
        labels[:, 40:] = 2
    config = StyleConfig(network="compact", size=96, **fields)
    found = RunInputs.from_arrays(waves(grey=True), [waves(grey=True), waves(grey=False)], config, None, labels)
    assert found.achromatic is achromatic


def test_moves_across_the_gap_are_rare_in_a_channel() -> None:
    from napari.layers import Image

    from napari_styletransfer.layers.read import resolve
    from napari_styletransfer.layers.rendering import Rendering

    channel = cells()
    layer = Image(channel, contrast_limits=(300, 9000))
    place = resolve(layer, colored=False)
    shown = Rendering(place, channel=True)
    dark, bright = channel < 800, channel > 3000
    for balance, style in itertools.product((0.3, 1.0), (waves(), 255 - waves())):
        image = finished(place.read(), style, balance=balance, color="match", structure_weight=0.5).image
        result = shown(image, image.shape[:2])
        assert result.dtype == np.uint16
        assert (result[dark] > 3000).mean() < 0.0025
        assert (result[bright] < 800).mean() < 0.0025
        assert (result != channel).mean() > 0.5
