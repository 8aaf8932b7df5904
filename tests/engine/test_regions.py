"""Labels guide a run: inside them each style counts where it is wanted, outside them nothing changes at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from napari_styletransfer.config import Color, Normalization, StyleConfig
from napari_styletransfer.engine.run import iter_stylize, plan
from napari_styletransfer.errors import ConfigError, ImageError
from napari_styletransfer.events import Finished, Preview
from napari_styletransfer.images import resize
from napari_styletransfer.images.pixels import decode
from napari_styletransfer.losses.objective import Objective
from napari_styletransfer.losses.regions import RegionMap, region_masks
from napari_styletransfer.losses.terms import LossWeights, Region, StyleTarget
from napari_styletransfer.networks import weights
from napari_styletransfer.networks.architectures import RGB, Backbone, ReceptiveField, receptive_fields
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.tiling.tiled_network import TiledNetwork
from napari_styletransfer.tiling.tiles import Halo, tile_layout

Image = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Tensors = dict[str, Tensor]
ImageOf = Callable[..., Tensor]

CONTENT = {"relu1_2": 1.0}
STYLE = {RGB: 2.0, "relu1_1": 1.0, "relu2_2": 1.5}
SIZE = (37, 48)
QUICK: dict[str, Any] = {
    "network": "compact",
    "device": "cpu",
    "precision": "float32",
    "size": 64,
    "iterations": 3,
    "scales": 1,
    "coarse_iterations": 1.0,
    "content_layers": {"relu2_1": 1.0},
    "style_layers": {RGB: 1.0, "relu1_1": 1.0, "relu2_1": 1.0},
}


def settings(**fields: Any) -> StyleConfig:
    return StyleConfig(**{**QUICK, **fields})


def halves(shape: tuple[int, int] = (48, 64)) -> Labels:
    """Label 1 at the left, 2 at the right, nothing between."""
    labels = np.zeros(shape, np.int64)
    labels[:, : shape[1] // 3] = 1
    labels[:, -shape[1] // 3 :] = 2
    return labels


def result(content: Any, styles: Sequence[Any], labels: Any, **fields: Any) -> Image:
    *_, last = iter_stylize(content, styles, settings(**fields), labels=labels)
    assert isinstance(last, Finished)
    return last.image


def eight_bits(image: Image) -> npt.NDArray[np.uint8]:
    return np.rint(image * 255).astype(np.uint8)


# What changes and what does not


@pytest.mark.parametrize("color", Color)
@pytest.mark.parametrize("feather", [0.0, 6.0])
def test_outside_every_bit_stays_and_inside_pixels_change(
    content_image: Image, style_image: Image, color: Color, feather: float
) -> None:
    content, labels = eight_bits(content_image), halves()
    outside = labels == 0

    stylised = result(content, [style_image], labels, color=color, feather=feather)

    before = decode(content)[0]
    np.testing.assert_array_equal(stylised[outside], before[outside])
    assert np.abs(stylised - before)[~outside].mean() > 0.02


def test_previews_leave_the_outside_alone_too(content_image: Image, style_image: Image) -> None:
    labels = halves()
    events = iter_stylize(content_image, [style_image], settings(scales=2), labels=labels, preview_interval=0)

    shown = [event.image for event in events if isinstance(event, Preview) and event.image.shape[:2] == labels.shape]

    assert len(shown) > 2
    for image in shown:
        np.testing.assert_array_equal(image[labels == 0], content_image[labels == 0])


def test_a_boolean_mask_is_the_simplest_case(content_image: Image, style_image: Image) -> None:
    mask = halves() == 1

    stylised = result(content_image, [style_image], mask)

    changed = (stylised != content_image).any(axis=2)
    np.testing.assert_array_equal(changed, mask & changed)
    assert changed[mask].mean() > 0.95


def test_at_a_reduced_size_the_outside_is_the_reduced_content(content_image: Image, style_image: Image) -> None:
    labels = halves()
    whole = np.ones_like(labels)

    stylised = result(content_image, [style_image], labels, size=32)
    *_, start = (
        event.image
        for event in iter_stylize(content_image, [style_image], settings(size=32, start="content"), labels=whole)
        if isinstance(event, Preview) and event.iteration == 0
    )

    outside = labels[1::2, 1::2] == 0
    np.testing.assert_allclose(stylised[outside], start[outside], atol=1e-6)


def test_each_label_takes_its_own_style(content_image: Image) -> None:
    red, blue = np.full((2, 40, 40, 3), 0.1, np.float32)
    red[..., 0] = blue[..., 2] = 0.9
    labels = halves()

    stylised = result(content_image, [red, blue], labels, regions={1: 0, 2: 1}, balance=1.0, iterations=8)

    left, right = stylised[labels == 1].mean(0), stylised[labels == 2].mean(0)
    assert left[0] > left[2] + 0.4
    assert right[2] > right[0] + 0.4


@pytest.mark.parametrize("regions", [{1: 0, 2: None}, {1: 0}])
def test_a_label_given_no_style_or_not_named_is_left_alone(
    content_image: Image, style_image: Image, regions: dict[int, int | None]
) -> None:
    labels = halves()

    stylised = result(content_image, [style_image], labels, regions=regions)

    np.testing.assert_array_equal(stylised[labels != 1], content_image[labels != 1])
    assert (stylised[labels == 1] != content_image[labels == 1]).any()


def test_the_background_takes_part_only_when_it_is_named(content_image: Image, style_image: Image) -> None:
    labels = halves()

    unnamed = result(content_image, [style_image], labels)
    named = result(content_image, [style_image], labels, regions={0: 0})

    np.testing.assert_array_equal(unnamed[labels == 0], content_image[labels == 0])
    np.testing.assert_array_equal(named[labels != 0], content_image[labels != 0])
    assert (named[labels == 0] != content_image[labels == 0]).any(axis=1).mean() > 0.95


def test_all_styles_blend_where_no_label_names_one(content_image: Image) -> None:
    red, blue = np.full((2, 40, 40, 3), 0.1, np.float32)
    red[..., 0] = blue[..., 2] = 0.9
    labels = halves()
    options: dict[str, Any] = {"balance": 1.0, "iterations": 8}

    mostly_red = result(content_image, [red, blue], labels, style_weights=(9, 1), **options)
    mostly_blue = result(content_image, [red, blue], labels, style_weights=(1, 9), **options)

    assert (mostly_red - mostly_blue)[labels > 0][:, 0].mean() > 0.3


def test_only_styles_that_a_label_names_are_measured(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Tensor] = []
    gram_means = TiledNetwork.gram_means

    def noted(tiled: TiledNetwork, image: Tensor, *args: Any) -> Tensors:
        measured.append(image)
        return gram_means(tiled, image, *args)

    monkeypatch.setattr(TiledNetwork, "gram_means", noted)
    grey = np.full((40, 40, 3), 0.5, np.float32)

    alone = result(content_image, [style_image], halves(), regions={1: 0})
    among_others = result(content_image, [grey, style_image, grey], halves(), regions={1: 1})

    assert len(measured) == 2
    assert torch.equal(measured[0], measured[1])
    np.testing.assert_array_equal(among_others, alone)


@pytest.mark.parametrize("fields", [{"feather": 6.0}, {"color": "content"}])
def test_what_lies_under_the_image_is_made_once_a_scale(
    content_image: Image, style_image: Image, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(image: Any, *args: Any) -> Any:
            done = function(image, *args)
            made.extend([name] if done is not image else [])
            return done

        return call

    monkeypatch.setattr("napari_styletransfer.planning.inputs.resize", noted("resize", resize.resize))
    monkeypatch.setattr(RegionMap, "_inside", noted("labels", RegionMap._inside))
    counts = []
    for iterations in (1, 5):
        made.clear()
        config = settings(size=40, scales=2, iterations=iterations, tolerance=0, **fields)
        labels = halves() if "feather" in fields else None
        shown = [
            event
            for event in iter_stylize(content_image, [style_image], config, labels=labels, preview_interval=0)
            if isinstance(event, Preview)
        ]
        assert len(shown) == 2 + 2 * iterations
        counts.append({name: made.count(name) for name in ("resize", "labels")})

    assert counts[0] == counts[1]
    assert counts[0]["resize"] > 0


# Feather


def test_a_feather_is_a_straight_ramp_from_the_boundary_inwards() -> None:
    labels = np.zeros((10, 40), np.int64)
    labels[:, 10:] = 1

    covered = RegionMap(labels, {1: None}, feather=8.0).alpha(10, 40)

    assert covered.shape == (1, 1, 10, 40)
    assert covered.dtype is torch.float32
    row = covered[0, 0, 5].numpy()
    expected = np.clip((np.arange(40) - 9.5) / 8, 0, 1)
    np.testing.assert_allclose(row, expected, atol=1e-6)
    np.testing.assert_array_equal(covered[0, 0], np.broadcast_to(row, (10, 40)))


def test_a_feather_keeps_its_share_of_the_picture_at_every_size() -> None:
    labels = np.zeros((40, 80), np.int64)
    labels[:, 40:] = 1
    guide = RegionMap(labels, {1: None}, feather=16.0)

    small, large = guide.alpha(20, 40)[0, 0, 10], guide.alpha(40, 80)[0, 0, 20]

    np.testing.assert_allclose(small, (large[::2] + large[1::2]) / 2, atol=1e-6)


@pytest.mark.parametrize("feather", [0.0, 6.0])
def test_where_all_is_stylised_there_is_no_boundary_to_fade_in_from(feather: float) -> None:
    covered = RegionMap(halves(), {0: None, 1: None, 2: None}, feather=feather).alpha(20, 30)

    assert torch.equal(covered, torch.ones(1, 1, 20, 30))


def test_without_a_feather_the_boundary_is_sharp() -> None:
    covered = RegionMap(halves(), {2: 0}, feather=0.0).alpha(48, 64)[0, 0].numpy()

    np.testing.assert_array_equal(covered, halves() == 2)


# Labels that cannot work


@pytest.mark.parametrize(
    ("labels", "fields", "error", "told"),
    [
        (np.ones((48, 64), np.float32), {}, ImageError, "whole numbers.*float32"),
        (np.ones((48, 63), int), {}, ImageError, "48 x 63"),
        (np.ones((48, 64, 1), int), {}, ImageError, "48 x 64 x 1"),
        (np.ones((48, 64), int), {"regions": {1: 1}}, ConfigError, "style 1"),
        (np.ones((48, 64), int), {"regions": {1: -2}}, ConfigError, "regions.1"),
        (np.ones((48, 64), int), {"regions": {2: 0}}, ImageError, "No label.* one of the labels: 1"),
        (np.ones((48, 64), int), {"regions": {1: None}}, ImageError, "No label"),
        (np.zeros((48, 64), int), {}, ImageError, "No region lies on"),
        (None, {"regions": {1: 0}}, ConfigError, "labels"),
    ],
)
def test_labels_that_cannot_work_are_told_before_weights_are_fetched(
    content_image: Image,
    style_image: Image,
    monkeypatch: pytest.MonkeyPatch,
    labels: Any,
    fields: dict[str, Any],
    error: type[Exception],
    told: str,
) -> None:
    monkeypatch.setattr(weights, "fetch", lambda *args: pytest.fail("weights were fetched"))

    with pytest.raises(error, match=told):
        next(iter_stylize(content_image, [style_image], settings(**fields), labels=labels))


def test_a_texture_has_no_place_for_labels(style_image: Image) -> None:
    with pytest.raises(ImageError, match="Labels"):
        next(iter_stylize(None, [style_image], settings(mode="style-reconstruction"), labels=halves()))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, ">i8"])
def test_labels_may_be_of_any_whole_numbers(content_image: Image, style_image: Image, dtype: Any) -> None:
    first, second = (1, 0) if dtype is bool else (3, 2)
    if dtype is np.uint64:
        first, second = 2**64 - 1, 2**64 - 2  # as floats they are the same
    labels = np.where(halves() == 1, first, np.array(second, dtype)).astype(dtype)

    found = result(content_image, [style_image], labels, regions={first: 0})

    np.testing.assert_array_equal(found, result(content_image, [style_image], halves(), regions={1: 0}))


def test_a_label_that_is_named_and_absent_does_no_harm(content_image: Image, style_image: Image) -> None:
    labels = halves()

    both = result(content_image, [style_image], labels, regions={1: 0, 7: 0})
    one = result(content_image, [style_image], labels, regions={1: 0})

    np.testing.assert_array_equal(both, one)


def test_many_large_labels_are_told_apart() -> None:
    labels = np.uint64(2**63) + np.arange(100, dtype=np.uint64)[:, None] * np.uint64(2**40) + np.uint64([0, 1])
    labels[0] = 1, 2  # among large ones

    covered = RegionMap(labels, {int(label): None for label in labels[:, 0]}, feather=0).alpha(*labels.shape)

    np.testing.assert_array_equal(covered[0, 0].numpy(), [[1, 0]] * 100)


def test_some_labels_take_all_styles_and_others_one(content_image: Image, style_image: Image) -> None:
    labels, styles = halves(), [style_image, content_image[::-1]]

    blended = result(content_image, styles, labels)
    spelled_out = result(content_image, styles, labels, regions={1: -1, 2: -1})
    mixed = result(content_image, styles, labels, regions={1: -1, 2: 1})

    np.testing.assert_array_equal(spelled_out, blended)
    assert (mixed[labels == 2] != blended[labels == 2]).any()


def test_a_run_without_regions_is_planned_as_before(content_image: Image, style_image: Image) -> None:
    assert plan(content_image, [style_image], settings()).sizes == ((48, 64),)


# Masks at the layers


def test_masks_are_one_inside_zero_outside_and_between_at_the_boundary(compact: Backbone) -> None:
    cut = compact.truncated({"relu3_1"})
    reach = receptive_fields(cut)["relu3_1"]
    mask = np.zeros((48, 96), np.float32)
    mask[:, 48:] = 1

    region = region_masks(mask, {"relu3_1": reach}, {"relu3_1": (12, 24)}, "cpu")

    np.testing.assert_array_equal(region.masks[RGB], mask)
    row = region.masks["relu3_1"][6]
    assert row.shape == (24,)
    assert not row[:8].any()
    assert (row[16:] == 1).all()
    assert (row.diff() >= 0).all()
    assert float(row[11:13].mean()) == pytest.approx(0.5, abs=0.1)


# The masked loss


@dataclass
class Guided:
    """An objective in float64 whose two halves follow two styles."""

    net: FrozenNetwork
    reach: dict[str, ReceptiveField]
    styles: tuple[Tensor, Tensor]
    masks: tuple[Image, Image]

    def regions(self) -> list[Region]:
        sizes = self.net.layer_sizes(*SIZE)
        regions = [region_masks(mask, self.reach, sizes, "cpu") for mask in self.masks]
        return [Region({name: mask.double() for name, mask in region.masks.items()}) for region in regions]

    def objective(
        self, normalization: Normalization = Normalization.RELATIVE, core: int | None = None, **given: Any
    ) -> Objective:
        halo = Halo.for_layers(self.reach.values())
        regions = self.regions()
        targets = [
            StyleTarget(self.grams(picture), weight, region)
            for picture, weight, region in zip(self.styles, (0.6, 0.3), regions, strict=True)
        ]
        return Objective(
            self.net,
            self.reach,
            LossWeights(
                CONTENT, STYLE, given.get("content_weight", 0.7), 1.3, given.get("tv_weight", 0.4), normalization
            ),
            SIZE,
            tile_layout(*SIZE, core, halo),
            styles=targets[: given.get("count", 2)],
            content=given.get("content"),
        )

    def grams(self, picture: Tensor) -> Tensors:
        shape = (picture.shape[2], picture.shape[3])
        blocks = tile_layout(*shape, None, Halo.for_layers(self.reach.values()))
        return TiledNetwork(self.net, self.reach, shape, blocks).gram_means(picture, STYLE)

    def features(self, image: Tensor) -> dict[str, npt.NDArray[np.float64]]:
        maps: dict[str, npt.NDArray[np.float64]] = {}
        self.net.forward(image, lambda name, row, f: maps.update({name: f[0].flatten(1).numpy().copy()}))
        pixels = image[0].flatten(1).numpy()
        maps[RGB] = np.concatenate([pixels, np.ones_like(pixels[:1])])
        return maps


@pytest.fixture
def guided(compact: Backbone, compact_weights: Tensors, random_image: ImageOf) -> Guided:
    cut = compact.truncated({*CONTENT, *STYLE})
    net = FrozenNetwork(cut, compact_weights, {*CONTENT, *STYLE} - {RGB}, dtype=torch.float64)
    left = np.zeros(SIZE, np.float32)
    left[5:, :14] = 1
    right = np.zeros(SIZE, np.float32)
    right[:, 20:31] = 1
    reach = {name: receptive_fields(cut)[name] for name in net.layers}
    return Guided(net, reach, (random_image(18, 30, seed=3), random_image(25, 17, seed=4) ** 2), (left, right))


def masked_term(
    f: npt.NDArray[np.float64], a: npt.NDArray[np.float64], mask: Tensor, normalization: Normalization
) -> float:
    """Equations 8 and 9 of arXiv 1611.07865: the mask on the features, its square as the number of positions."""
    t = mask.numpy().ravel()
    channels = len(f)
    g = np.einsum("ik,jk,k,k->ij", f, f, t, t) / np.einsum("k,k->", t, t)
    target = np.einsum("ik,jk->ij", a, a) / a.shape[1]
    error = float(np.sum((g - target) ** 2))
    if normalization is Normalization.RELATIVE:
        return error / float(np.sum(target**2))
    return error / (4 * channels**2) if normalization is Normalization.GATYS else error * 1e12 / channels**4


@pytest.mark.parametrize("normalization", Normalization)
def test_the_masked_loss_is_the_formula(guided: Guided, random_image: ImageOf, normalization: Normalization) -> None:
    image = random_image(*SIZE, seed=2)
    f = guided.features(image)

    evaluation = guided.objective(normalization)(image)

    for name in STYLE:
        by_hand = sum(
            weight * masked_term(f[name], guided.features(picture)[name], region.masks[name], normalization)
            for picture, weight, region in zip(guided.styles, (0.6, 0.3), guided.regions(), strict=True)
        )
        assert evaluation.layers[f"style/{name}"] == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize("normalization", Normalization)
def test_the_masked_gradient_is_that_of_finite_differences(
    guided: Guided, random_image: ImageOf, normalization: Normalization
) -> None:
    objective = guided.objective(normalization, content=random_image(*SIZE, seed=1))
    image = random_image(*SIZE, seed=2)
    gradient = objective(image).gradient

    for seed in range(4):
        direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=image.dtype)
        ahead, behind = (objective(image + sign * 1e-7 * direction).losses["total"] for sign in (1, -1))
        assert float((gradient * direction).sum()) == pytest.approx((ahead - behind) / 2e-7, rel=1e-5)


@pytest.mark.parametrize("core", [8, 16, 24])
def test_blocks_change_nothing_for_regions(guided: Guided, random_image: ImageOf, core: int) -> None:
    image, content = random_image(*SIZE, seed=2), random_image(*SIZE, seed=1)
    whole = guided.objective(content=content)(image)

    found = guided.objective(content=content, core=core)(image)

    assert found.losses == pytest.approx(whole.losses, rel=1e-10)
    assert found.layers == pytest.approx(whole.layers, rel=1e-10)
    torch.testing.assert_close(found.gradient, whole.gradient, rtol=1e-9, atol=1e-14)


def test_far_outside_its_region_a_style_pulls_at_nothing(guided: Guided, random_image: ImageOf) -> None:
    gradient = guided.objective(tv_weight=0, count=1)(random_image(*SIZE, seed=2)).gradient

    seen = max(reach.before + reach.after + 1 for reach in guided.reach.values())
    # A feature counts while the middle half of what it sees touches the region, and sees as far again.
    bound = 14 + seen
    assert bound < SIZE[1] - 8
    assert not gradient[..., bound:].any()
    assert bool((gradient[:, :, 6:, :12] != 0).all())


def test_the_pixels_alone_are_pulled_only_inside(guided: Guided, random_image: ImageOf) -> None:
    objective = Objective(
        guided.net,
        guided.reach,
        LossWeights({}, {RGB: 1.0}, 0, 1, 0, Normalization.RELATIVE),
        SIZE,
        tile_layout(*SIZE, None, Halo.for_layers(guided.reach.values())),
        styles=[StyleTarget(guided.grams(guided.styles[0]), 1.0, guided.regions()[0])],
    )

    gradient = objective(random_image(*SIZE, seed=2)).gradient

    inside = torch.from_numpy(guided.masks[0] > 0)
    assert not gradient[..., ~inside].any()
    assert bool((gradient[..., inside] != 0).all())
