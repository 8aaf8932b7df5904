"""The objective is the weighted sum of the papers' terms, with its exact gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_styletransfer.config import Normalization
from napari_styletransfer.losses.objective import RANGE_WEIGHT, Objective
from napari_styletransfer.losses.terms import LossWeights, StyleTarget
from napari_styletransfer.networks.architectures import RGB, Backbone, receptive_fields
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.tiling.tiled_network import Stopped, TiledNetwork
from napari_styletransfer.tiling.tiles import Halo, tile_layout

Tensors = dict[str, Tensor]
ImageOf = Callable[..., Tensor]

SIZE = (21, 26)
CONTENT = {"relu1_2": 1.0, "relu2_2": 3.0}
STYLE = {RGB: 2.0, "relu1_1": 1.0, "relu2_1": 0.5, "relu2_2": 1.5}


@dataclass
class Setting:
    """An objective's parts in float64, and features of any image by name."""

    net: FrozenNetwork
    cut: Backbone

    def objective(
        self,
        normalization: Normalization = Normalization.RELATIVE,
        *,
        content: Tensor | None = None,
        styles: Sequence[tuple[Tensor, float]] = (),
        content_weight: float = 0.7,
        style_weight: float = 1.3,
        tv_weight: float = 0.4,
        core: int | None = None,
        should_stop: Callable[[], bool] = bool,
    ) -> Objective:
        reach = {name: receptive_fields(self.cut)[name] for name in self.net.layers}
        halo = Halo.for_layers(reach.values())
        targets = []
        for picture, weight in styles:
            shape = (picture.shape[2], picture.shape[3])
            tiled = TiledNetwork(self.net, reach, shape, tile_layout(*shape, None, halo))
            targets.append(StyleTarget(tiled.gram_means(picture, STYLE), weight))
        return Objective(
            self.net,
            reach,
            LossWeights(CONTENT, STYLE, content_weight, style_weight, tv_weight, normalization),
            SIZE,
            tile_layout(*SIZE, core, halo),
            styles=targets,
            content=content,
            should_stop=should_stop,
        )

    def features(self, image: Tensor) -> dict[str, np.ndarray]:
        """(channels, positions) by layer; for `rgb` the pixels and a constant."""
        maps: dict[str, np.ndarray] = {}
        self.net.forward(image, lambda name, row, f: maps.update({name: f[0].flatten(1).numpy().copy()}))
        pixels = image[0].flatten(1).numpy()
        maps[RGB] = np.concatenate([pixels, np.ones_like(pixels[:1])])
        return maps


@pytest.fixture
def setting(compact: Backbone, compact_weights: Tensors) -> Setting:
    cut = compact.truncated({*CONTENT, *STYLE})
    return Setting(FrozenNetwork(cut, compact_weights, {*CONTENT, *STYLE} - {RGB}, dtype=torch.float64), cut)


def style_term(f: np.ndarray, a: np.ndarray, normalization: Normalization) -> float:
    """A layer's style loss from features (N, M), by the formulas of the papers and of the lesson."""
    channels = len(f)
    g, t = (np.einsum("ik,jk->ij", x, x) / x.shape[1] for x in (f, a))
    if normalization is Normalization.RELATIVE:
        return float(((g - t) ** 2).sum() / (t**2).sum())
    if normalization is Normalization.GATYS:
        return float(((g - t) ** 2).sum() / (4 * channels**2))
    return float((((g - t) * 1e6 / channels) ** 2).mean())


def content_term(f: np.ndarray, p: np.ndarray, normalization: Normalization) -> float:
    error = ((f - p) ** 2).sum()
    if normalization is Normalization.RELATIVE:
        return float(error / (p**2).sum())
    return float(error / 2) if normalization is Normalization.GATYS else float(1e6 * error / p.size)


def averaged(terms: dict[str, float], weights: dict[str, float], normalization: Normalization) -> float:
    total = sum(weights[name] * terms[name] for name in weights)
    return total if normalization is Normalization.NOTEBOOK else total / sum(weights.values())


@pytest.mark.parametrize("normalization", Normalization)
def test_the_losses_are_the_weighted_formulas(
    normalization: Normalization, setting: Setting, random_image: ImageOf
) -> None:
    content, image = random_image(*SIZE, seed=1), random_image(*SIZE, seed=2)
    styles = [(random_image(18, 30, seed=3), 0.75), (random_image(25, 17, seed=4) ** 2, 0.25)]
    f, p = setting.features(image), setting.features(content)

    evaluation = setting.objective(normalization, content=content, styles=styles)(image)

    by_layer = {
        name: sum(w * style_term(f[name], setting.features(picture)[name], normalization) for picture, w in styles)
        for name in STYLE
    }
    of_content = {name: content_term(f[name], p[name], normalization) for name in CONTENT}
    assert {name: evaluation.layers[f"style/{name}"] for name in STYLE} == pytest.approx(by_layer)
    assert {name: evaluation.layers[f"content/{name}"] for name in CONTENT} == pytest.approx(of_content)
    assert evaluation.losses["style"] == pytest.approx(1.3 * averaged(by_layer, STYLE, normalization))
    assert evaluation.losses["content"] == pytest.approx(0.7 * averaged(of_content, CONTENT, normalization))
    pixels = image.numpy()
    rough = ((np.diff(pixels, axis=2) ** 2).sum() + (np.diff(pixels, axis=3) ** 2).sum()) / pixels.size
    assert evaluation.losses["tv"] == pytest.approx(0.4 * rough)
    assert evaluation.losses["range"] == 0
    assert evaluation.losses["total"] == pytest.approx(
        sum(value for name, value in evaluation.losses.items() if name != "total")
    )


@pytest.mark.parametrize("normalization", Normalization)
def test_the_gradient_is_that_of_finite_differences(
    normalization: Normalization, setting: Setting, random_image: ImageOf
) -> None:
    objective = setting.objective(
        normalization,
        content=random_image(*SIZE, seed=1),
        styles=[(random_image(18, 30, seed=3), 0.75), (random_image(25, 17, seed=4), 0.25)],
    )
    # Partly beyond [0, 1], so that the range term takes part.
    image = random_image(*SIZE, seed=2) * 1.4 - 0.2
    gradient = objective(image).gradient

    for seed in range(5):
        direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=image.dtype)
        step = 1e-6
        ahead, behind = (objective(image + sign * step * direction).losses["total"] for sign in (1, -1))
        assert float((gradient * direction).sum()) == pytest.approx((ahead - behind) / (2 * step), rel=1e-4)


def test_the_gradient_of_single_pixels_is_that_of_finite_differences(setting: Setting, random_image: ImageOf) -> None:
    objective = setting.objective(content=random_image(*SIZE, seed=1), styles=[(random_image(*SIZE, seed=3), 1.0)])
    image = random_image(*SIZE, seed=2)
    gradient = objective(image).gradient

    for channel, row, column in ((0, 0, 0), (1, 20, 25), (2, 10, 13), (0, 20, 0)):
        nudge = torch.zeros_like(image)
        nudge[0, channel, row, column] = 1e-6
        slope = (objective(image + nudge).losses["total"] - objective(image - nudge).losses["total"]) / 2e-6
        assert float(gradient[0, channel, row, column]) == pytest.approx(slope, rel=1e-3, abs=1e-9)


def test_at_the_content_itself_its_loss_is_zero(setting: Setting, random_image: ImageOf) -> None:
    content = random_image(*SIZE)

    evaluation = setting.objective(content=content, tv_weight=0)(content)

    assert evaluation.losses == {"content": 0, "range": 0, "total": 0}
    assert not evaluation.gradient.any()


def test_at_the_style_itself_its_loss_is_zero(setting: Setting, random_image: ImageOf) -> None:
    style = random_image(*SIZE)

    evaluation = setting.objective(styles=[(style, 1.0)], tv_weight=0)(style)

    assert evaluation.losses["total"] == pytest.approx(0, abs=1e-20)
    assert "content" not in evaluation.losses


@pytest.mark.parametrize("normalization", Normalization)
def test_a_style_of_another_size_with_the_same_statistics_costs_nothing(
    normalization: Normalization, setting: Setting
) -> None:
    flat = torch.full((1, 3, *SIZE), 0.4, dtype=torch.float64)

    evaluation = setting.objective(normalization, styles=[(flat[:, :, :16, :16], 1.0)], tv_weight=0)(flat)

    assert evaluation.losses["total"] == pytest.approx(0, abs=1e-6)


def test_terms_without_weight_are_left_out(setting: Setting, random_image: ImageOf) -> None:
    content, style = random_image(*SIZE, seed=1), random_image(*SIZE, seed=2)

    only_style = setting.objective(content=content, styles=[(style, 1.0)], content_weight=0, tv_weight=0)
    only_content = setting.objective(content=content, styles=[(style, 1.0)], style_weight=0, tv_weight=0)

    assert only_style(style).losses.keys() == {"style", "range", "total"}
    assert only_content(content).losses.keys() == {"content", "range", "total"}


def test_two_styles_of_half_the_weight_are_one(setting: Setting, random_image: ImageOf) -> None:
    style, image = random_image(*SIZE, seed=1), random_image(*SIZE, seed=2)

    halves = setting.objective(styles=[(style, 0.5), (style, 0.5)])(image)
    whole = setting.objective(styles=[(style, 1.0)])(image)

    assert halves.losses == pytest.approx(whole.losses)
    torch.testing.assert_close(halves.gradient, whole.gradient)


def test_values_beyond_the_range_are_seen_as_they_are_shown(setting: Setting, random_image: ImageOf) -> None:
    image = random_image(*SIZE, seed=2) * 1.4 - 0.2
    objective = setting.objective(content=random_image(*SIZE, seed=1), styles=[(random_image(*SIZE), 1.0)], tv_weight=0)

    beyond, shown = objective(image), objective(image.clamp(0, 1))

    assert beyond.layers == pytest.approx(shown.layers)
    assert beyond.losses["range"] > shown.losses["range"] == 0
    # Nothing but the term of the range pulls at them, back to what is shown.
    outside = image != image.clamp(0, 1)
    assert bool(outside.any())
    pull = beyond.gradient[outside] / (image - image.clamp(0, 1))[outside]
    torch.testing.assert_close(pull, torch.full_like(pull, float(pull[0])))
    assert float(pull[0]) > 0
    torch.testing.assert_close(beyond.gradient[~outside], shown.gradient[~outside])


def test_values_beyond_the_range_cost_in_units_of_the_whole_loss(setting: Setting, random_image: ImageOf) -> None:
    # The unit is the loss of an image without any of the targets' features: 1 for a relative style loss.
    style = random_image(*SIZE)
    image = torch.full_like(style, 1.5)

    evaluation = setting.objective(styles=[(style, 1.0)], style_weight=2.0, tv_weight=0)(image)

    assert evaluation.losses["range"] == pytest.approx(RANGE_WEIGHT * 2.0 * 0.25)


@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_flat_targets_give_finite_losses_and_gradients(
    normalization: Normalization, value: float, setting: Setting, random_image: ImageOf
) -> None:
    flat = torch.full((1, 3, *SIZE), value, dtype=torch.float64)
    objective = setting.objective(normalization, content=flat, styles=[(flat, 1.0)])

    for image in (flat, random_image(*SIZE)):
        evaluation = objective(image)
        assert np.isfinite(evaluation.losses["total"])
        assert bool(torch.isfinite(evaluation.gradient).all())


def test_the_image_is_left_as_it_was(setting: Setting, random_image: ImageOf) -> None:
    objective = setting.objective(content=random_image(*SIZE, seed=1), styles=[(random_image(*SIZE, seed=3), 1.0)])
    image = random_image(*SIZE, seed=2) * 2 - 0.5
    before = image.clone()

    first = objective(image)
    second = objective(image)

    assert torch.equal(image, before)
    assert first.losses == second.losses
    assert torch.equal(first.gradient, second.gradient)


def test_a_request_to_stop_is_heard_before_every_block(setting: Setting, random_image: ImageOf) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    objective = setting.objective(styles=[(random_image(*SIZE), 1.0)], core=8, should_stop=should_stop)

    with pytest.raises(Stopped):
        objective(random_image(*SIZE))
    assert asked == 4


def test_a_float32_evaluation_agrees_with_the_exact_one(
    setting: Setting, compact_weights: Tensors, random_image: ImageOf
) -> None:
    narrow = Setting(FrozenNetwork(setting.cut, compact_weights, setting.net.layers), setting.cut)
    content, style, image = (random_image(*SIZE, seed=seed) for seed in range(3))
    exact = setting.objective(content=content, styles=[(style, 1.0)])(image)

    found = narrow.objective(content=content.float(), styles=[(style.float(), 1.0)])(image.float())

    assert found.losses == pytest.approx(exact.losses, rel=1e-4)
    assert found.gradient.dtype is torch.float32
    assert float((found.gradient - exact.gradient).norm() / exact.gradient.norm()) < 1e-4
