"""An objective over several sizes is the weighted mean of those at each, with its exact gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from napari_styletransfer.config import Normalization, StyleConfig
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.events import Finished, Started, Step
from napari_styletransfer.images.resize import resize
from napari_styletransfer.losses.multiscale import MultiscaleObjective
from napari_styletransfer.losses.objective import Objective
from napari_styletransfer.losses.terms import LossWeights, StyleTarget
from napari_styletransfer.networks.architectures import RGB, Backbone, ReceptiveField, receptive_fields
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.planning.planner import prepare
from napari_styletransfer.tiling.tiled_network import Stopped, TiledNetwork
from napari_styletransfer.tiling.tiles import Halo, Tile, tile_layout

Image = npt.NDArray[np.float32]
ImageOf = Callable[..., Tensor]
Size = tuple[int, int]

SIZES = ((10, 13), (21, 26), (41, 51))
"""Odd ones too: a half is rounded."""

CONTENT = {"relu1_2": 1.0, "relu2_2": 3.0}
STYLE = {RGB: 2.0, "relu1_1": 1.0, "relu2_2": 1.5}
QUICK: dict[str, Any] = {
    "network": "compact",
    "device": "cpu",
    "precision": "float32",
    "size": 64,
    "iterations": 3,
    "scales": 2,
    "coarse_iterations": 1.0,
    "tolerance": 0,
    "content_layers": {"relu2_1": 1.0},
    "style_layers": {RGB: 1.0, "relu1_1": 1.0, "relu2_1": 1.0},
}


class Parts:
    """Objectives in float64 at several sizes, with a content and two styles of each size."""

    def __init__(self, network: Backbone, tensors: dict[str, Tensor], random_image: ImageOf) -> None:
        cut = network.truncated({*CONTENT, *STYLE})
        self.net = FrozenNetwork(cut, tensors, {*CONTENT, *STYLE} - {RGB}, dtype=torch.float64)
        self.reach: dict[str, ReceptiveField] = {name: receptive_fields(cut)[name] for name in self.net.layers}
        self.random_image = random_image

    def blocks(self, size: Size, core: int | None) -> tuple[Tile, ...]:
        return tile_layout(*size, core, Halo.for_layers(self.reach.values()))

    def objective(self, size: Size, core: int | None = None, **given: Any) -> Objective:
        styles = [StyleTarget(self.grams(self.random_image(*size, seed=seed)), weight) for seed, weight in STYLES]
        return Objective(
            self.net,
            self.reach,
            LossWeights(CONTENT, STYLE, 0.7, 1.3, 0.4, Normalization.RELATIVE),
            size,
            self.blocks(size, core),
            styles=styles,
            content=self.random_image(*size, seed=1),
            **given,
        )

    def grams(self, picture: Tensor) -> dict[str, Tensor]:
        shape = (picture.shape[2], picture.shape[3])
        return TiledNetwork(self.net, self.reach, shape, self.blocks(shape, None)).gram_means(picture, STYLE)

    def image(self, seed: int = 2) -> Tensor:
        """An image of the last size, partly beyond [0, 1], so that the range term takes part."""
        return self.random_image(*SIZES[-1], seed=seed) * 1.4 - 0.2


STYLES = ((3, 0.75), (4, 0.25))


@pytest.fixture
def parts(compact: Backbone, compact_weights: dict[str, Tensor], random_image: ImageOf) -> Parts:
    return Parts(compact, compact_weights, random_image)


def test_one_size_alone_is_the_plain_objective(parts: Parts) -> None:
    plain = parts.objective(SIZES[-1])(parts.image())

    found = MultiscaleObjective([parts.objective(SIZES[-1])], 0.7)(parts.image())

    assert found.losses == plain.losses
    assert found.layers == plain.layers
    assert torch.equal(found.gradient, plain.gradient)


@pytest.mark.parametrize("weight", [0.25, 1.0, 3.0])
def test_all_numbers_are_weighted_means_over_the_sizes(parts: Parts, weight: float) -> None:
    image = parts.image()
    middle = resize(image, *SIZES[1])
    images = (resize(middle, *SIZES[0]), middle, image)
    alone = [parts.objective(size)(at_size) for size, at_size in zip(SIZES, images, strict=True)]

    found = MultiscaleObjective([parts.objective(size) for size in SIZES], weight)(image)

    weights = np.array([weight, weight, 1.0])
    for kind in ("losses", "layers"):
        values = [getattr(evaluation, kind) for evaluation in alone]
        assert getattr(found, kind) == pytest.approx(
            {name: np.average([value[name] for value in values], weights=weights) for name in values[0]}
        )
    total = found.losses["total"]
    assert total == pytest.approx(sum(value for name, value in found.losses.items() if name != "total"))


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_the_gradient_is_that_of_finite_differences(parts: Parts, weight: float) -> None:
    objective = MultiscaleObjective([parts.objective(size) for size in SIZES], weight)
    image = parts.image()
    gradient = objective(image).gradient

    assert gradient.shape == image.shape
    assert not gradient.requires_grad
    for seed in range(4):
        direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=image.dtype)
        ahead, behind = (objective(image + sign * 1e-7 * direction).losses["total"] for sign in (1, -1))
        assert float((gradient * direction).sum()) == pytest.approx((ahead - behind) / 2e-7, rel=1e-4)


def test_blocks_change_nothing_at_any_size(parts: Parts) -> None:
    whole = MultiscaleObjective([parts.objective(size) for size in SIZES], 1.0)
    pieces = MultiscaleObjective([parts.objective(size, core=16) for size in SIZES], 1.0)
    image = parts.image()
    expected = whole(image)

    whole.set_tiles(lambda size: parts.blocks(size, 8))

    for found in (pieces(image), whole(image)):
        assert found.losses == pytest.approx(expected.losses, rel=1e-10)
        assert found.layers == pytest.approx(expected.layers, rel=1e-10)
        torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-9, atol=1e-14)


def test_the_image_is_left_as_it_was(parts: Parts) -> None:
    objective = MultiscaleObjective([parts.objective(size) for size in SIZES], 1.0)
    image = parts.image()
    before = image.clone()

    objective(image)

    assert torch.equal(image, before)
    assert not image.requires_grad


@pytest.mark.parametrize("asked", [1, 2])
def test_a_request_to_stop_is_heard_between_the_sizes(parts: Parts, asked: int) -> None:
    times = iter(range(100))
    stop = False
    objectives = [parts.objective(size, should_stop=lambda: stop and next(times) >= asked) for size in SIZES]
    stop = True

    with pytest.raises(Stopped):
        MultiscaleObjective(objectives, 1.0)(parts.image())
    assert next(times) == asked + 1


# Runs


@pytest.fixture
def small_sizes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pictures of the tests' size be large ones."""
    monkeypatch.setattr("napari_styletransfer.planning.planner.COARSEST_LOSS", 24)


def settings(**fields: Any) -> StyleConfig:
    return StyleConfig(**{**QUICK, **fields})


def end(content: Image, style: Image, options: dict[str, Any] | None = None, **fields: Any) -> Finished:
    *_, last = iter_stylize(content, [style], settings(**fields), **(options or {}))
    assert isinstance(last, Finished)
    return last


def loss_of(image: Image, content: Image, style: Image, size: int) -> float:
    """The style loss of an image brought to a size, alone."""
    height, width = size * content.shape[0] // content.shape[1], size
    small = resize(torch.from_numpy(image).permute(2, 0, 1)[None].contiguous(), height, width)
    quick = {"scales": 1, "iterations": 1, "optimizer": "adam", "learning_rate": 1e-9, "spectral_exponent": 0}
    events = iter_stylize(
        content,
        [style],
        settings(size=size, start="image", coarse_weight=0, **quick),
        init=small[0].permute(1, 2, 0).clamp(0, 1).numpy(),
    )
    return next(event.losses["style"] for event in events if isinstance(event, Step))


def test_a_run_keeps_at_the_coarse_size_what_it_found_there(
    small_sizes_count: None, content_image: Image, style_image: Image
) -> None:
    content, style = np.tile(content_image, (2, 2, 1)), np.tile(style_image, (2, 2, 1))
    fields = {"iterations": 12, "tv_weight": 0.0}
    coarse = loss_of(end(content, style, size=48, scales=1, **fields).image, content, style, 48)

    alone, together = (
        loss_of(end(content, style, size=96, coarse_weight=weight, **fields).image, content, style, 48)
        for weight in (0, 1)
    )

    assert together < 3 * coarse
    assert alone > 3 * together


@pytest.mark.parametrize("judged_from", [24, 48])
def test_coarser_sizes_count_at_the_finest_scale_alone_too_if_they_are_large_enough(
    judged_from: int, content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_styletransfer.planning.planner.COARSEST_LOSS", judged_from)

    without, counting = (
        end(content_image, style_image, scales=1, iterations=1, coarse_weight=weight).losses["style"]
        for weight in (0.0, 1.0)
    )

    if judged_from == 48:
        assert counting == without
    else:
        assert counting != pytest.approx(without, rel=0.02)


def test_each_size_is_measured_once(content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Size] = []
    init = Objective.__init__

    def noted(objective: Objective, network: Any, reach: Any, terms: Any, size: Size, *args: Any, **given: Any) -> None:
        made.append(size)
        init(objective, network, reach, terms, size, *args, **given)

    monkeypatch.setattr(Objective, "__init__", noted)

    for weight in (0.0, 1.0):
        made.clear()
        end(content_image, style_image, scales=3, coarse_weight=weight)
        assert made == [(12, 16), (24, 32), (48, 64)]


def test_the_sizes_that_count_do_not_depend_on_where_a_run_begins() -> None:
    picture = np.zeros((384, 512, 3), np.float32)
    for size, judged in ((256, [0]), (380, [0]), (384, [1, 0]), (512, [1, 0])):
        for scales in (1, 2, 5, None):
            config = StyleConfig(network="compact", device="cpu", size=size, scales=scales)
            prepared = prepare(RunInputs.from_arrays(picture, [picture], config, None), config)
            height, width = prepared.plan.sizes[-1]
            assert prepared.coarse_sizes == tuple((height // 2**level, width // 2**level) for level in judged)
    assert not prepare(
        RunInputs.from_arrays(picture, [picture], config, None), config.changed(coarse_weight=0)
    ).coarse_sizes


@pytest.mark.parametrize("fields", [{}, {"color": "content"}, {"color": "match"}, {"block_size": 64, "size": 160}])
@pytest.mark.parametrize("regions", [False, True])
def test_a_run_goes_on_with_the_same_loss_whatever_takes_part(
    regions: bool,
    fields: dict[str, Any],
    small_sizes_count: None,
    content_image: Image,
    style_image: Image,
) -> None:
    content = np.tile(content_image, (3, 3, 1))
    labels = np.zeros(content.shape[:2], int)
    labels[:, : content.shape[1] // 2] = 1
    labels[20:90, 100:] = 2
    options: dict[str, Any] = {"labels": labels} if regions else {}
    styles = [style_image, np.ascontiguousarray(style_image[::-1, :, ::-1])]
    config = settings(feather=5.0, regions={1: 0, 2: -1} if regions else None, **fields)

    # At the second scale the first half carries the coarse objective on; the second half makes it anew.
    started, *_, half = iter_stylize(content, styles, config, **options)
    *_, rest = iter_stylize(content, styles, config, resume=getattr(half, "state", None), **options)

    assert isinstance(started, Started)
    assert isinstance(half, Finished)
    assert isinstance(rest, Finished)
    assert (started.plan.blocks > 1) == ("block_size" in fields)
    assert list(half.history[3:]) == sorted(half.history[3:], reverse=True)
    # Steps of a line search only ever lower the loss that was there before.
    assert 0.7 * half.history[-1] < rest.history[6] <= half.history[-1] * (1 + 1e-5)


def test_numbers_are_brought_to_the_host_once_in_an_evaluation(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = MultiscaleObjective([parts.objective(size) for size in SIZES], 1.0)
    image, brought = parts.image(), []
    tolist = Tensor.tolist

    def counted(tensor: Tensor) -> Any:
        brought.append(tensor.shape)
        return tolist(tensor)

    def never(tensor: Tensor) -> float:
        pytest.fail("a number was waited for")

    monkeypatch.setattr(Tensor, "tolist", counted)
    for name in ("__float__", "__int__", "__bool__", "item"):
        monkeypatch.setattr(Tensor, name, never)
    objective(image)

    assert len(brought) == 1
