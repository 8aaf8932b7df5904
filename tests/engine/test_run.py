"""A run tells its story in order, ends with the best image, and fails only with an error that helps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ended import end
from safetensors.torch import save_file
from torch import Tensor

from napari_styletransfer.config import PRESETS, Color, Mode, Network, Start, StyleConfig
from napari_styletransfer.engine.run import iter_stylize, plan
from napari_styletransfer.errors import (
    ConfigError,
    DeviceError,
    DivergedError,
    ImageError,
    OutOfMemoryError,
    StyleTransferError,
)
from napari_styletransfer.events import Event, Fetching, Finished, Preview, Reason, Started, Step
from napari_styletransfer.images.laplacian import finest_octave
from napari_styletransfer.images.resize import resize
from napari_styletransfer.losses.objective import Objective
from napari_styletransfer.networks import weights
from napari_styletransfer.networks.architectures import backbone
from napari_styletransfer.planning import planner

Image = npt.NDArray[np.float32]
WeightsOf = Callable[[Network], dict[str, Tensor]]

QUICK: dict[str, Any] = {
    "network": "compact",
    "device": "cpu",
    "precision": "float32",
    "size": 48,
    "iterations": 4,
    "scales": 1,
    "coarse_iterations": 1.0,
}
SHALLOW: dict[str, Any] = {"style_layers": {"relu1_1": 1.0, "relu2_1": 1.0}, "content_layers": {"relu2_1": 1.0}}


def settings(**fields: Any) -> StyleConfig:
    return StyleConfig(**{**QUICK, **fields})


def run(content: Any, styles: Sequence[Any], options: dict[str, Any] | None = None, **fields: Any) -> list[Event]:
    """All events of a quick run."""
    return list(iter_stylize(content, styles, settings(**fields), **(options or {})))


def steps(events: Sequence[Event]) -> list[Step]:
    return [event for event in events if isinstance(event, Step)]


def as_tensor(image: Image) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()


def images(events: Sequence[Event]) -> list[Image]:
    return [event.image for event in events if isinstance(event, (Preview, Finished))]


def assert_shown(image: Image, shape: tuple[int, int]) -> None:
    assert image.shape == (*shape, 3)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1


# The order of events


def test_a_run_starts_shows_steps_and_finishes(content_image: Image, style_image: Image) -> None:
    events = run(content_image, [style_image], {"preview_interval": 0.0}, iterations=5)

    kinds = [type(event) for event in events]
    assert kinds == [Started, Preview, *[Step, Preview] * 5, Finished]


def test_previews_come_no_faster_than_asked_for(content_image: Image, style_image: Image) -> None:
    events = run(content_image, [style_image], {"preview_interval": 1e9}, iterations=5)

    assert sum(isinstance(event, Preview) for event in events) == 1


def test_every_scale_begins_with_a_preview(content_image: Image, style_image: Image) -> None:
    events = run(content_image, [style_image], {"preview_interval": 1e9}, scales=2)

    shown = [event for event in events if isinstance(event, Preview)]
    assert [(event.scale, event.image.shape) for event in shown] == [(0, (18, 24, 3)), (1, (36, 48, 3))]


def test_a_finer_scale_begins_with_detail_that_coarse_ones_lack(content_image: Image, style_image: Image) -> None:
    """What is enlarged lacks the finest octave; the content has it, and the style says how strong it is to be."""
    events = run(content_image, [style_image], {"preview_interval": 0.0}, scales=2, iterations=3)

    *_, coarse = (event.image for event in events if isinstance(event, Preview) and event.scale == 0)
    begun = next(event.image for event in events if isinstance(event, Preview) and event.scale == 1)

    enlarged, fine, style = (as_tensor(image) for image in (coarse, begun, style_image))
    added = fine - resize(enlarged, *fine.shape[2:])
    content = resize(as_tensor(content_image), *fine.shape[2:])
    assert finest_octave(fine).std() > 0.7 * finest_octave(style).std()
    assert torch.corrcoef(torch.stack([added.flatten(), finest_octave(content).flatten()]))[0, 1] > 0.3


def test_the_steps_count_up_over_all_scales(content_image: Image, style_image: Image) -> None:
    events = run(content_image, [style_image], scales=2, tolerance=0, iterations=5)

    told = steps(events)
    assert [step.iteration for step in told] == list(range(1, 11))
    assert [step.scale for step in told] == [0] * 5 + [1] * 5
    assert {step.total for step in told} == {10}
    assert all(one.evaluation < other.evaluation for one, other in pairwise(told))
    assert all(one.seconds <= other.seconds for one, other in pairwise(told))


def test_a_coarser_scale_takes_a_multiple_of_the_steps(content_image: Image, style_image: Image) -> None:
    events = run(
        content_image, [style_image], size=None, scales=3, tolerance=0, iterations=4, coarse_iterations=1.5, **SHALLOW
    )

    told = steps(events)
    assert [step.scale for step in told] == [0] * 9 + [1] * 6 + [2] * 4
    assert {step.total for step in told} == {19}


def test_a_scale_that_stops_early_lowers_the_total(content_image: Image, style_image: Image) -> None:
    events = run(content_image, [style_image], scales=2, iterations=20, tolerance=0.9, window=2)

    told = steps(events)
    first = [step for step in told if step.scale == 0]
    second = [step for step in told if step.scale == 1]
    assert len(first) < 20
    assert {step.total for step in first} == {40}
    assert {step.total for step in second} == {20 + len(first)}
    assert second[0].iteration == len(first) + 1


def test_every_step_tells_its_terms(content_image: Image, style_image: Image) -> None:
    for step in steps(run(content_image, [style_image], tv_weight=0.1)):
        assert step.losses.keys() == {"content", "style", "tv", "range", "total"}
        assert step.losses["total"] == pytest.approx(sum(step.losses.values()) - step.losses["total"])
        assert {"style/rgb", "style/relu5_1", "content/relu2_2", "content/relu3_1"} <= step.layers.keys()


def test_the_end_sums_up_the_steps(content_image: Image, style_image: Image) -> None:
    events = run(content_image, [style_image], scales=2, tolerance=0)

    told, finished = steps(events), end(events)
    assert finished.reason is Reason.ITERATIONS
    assert finished.iterations == len(told)
    assert finished.history == tuple(step.losses["total"] for step in told)
    assert finished.losses == told[-1].losses
    assert finished.evaluations == told[-1].evaluation
    assert finished.seconds >= told[-1].seconds


def test_the_plan_is_the_one_told_beforehand_with_the_checksum_of_the_weights(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "MAX_AUTO_SECONDS", 0.0)
    config = settings(memory_limit=2.0, scales=None, network="auto")
    told = plan(content_image, [style_image], config)
    assert told.config.network is Network.COMPACT
    assert told.config.weights_sha256 is None

    events = list(iter_stylize(content_image, [style_image], config))

    started = events[0]
    assert isinstance(started, Started)
    assert started.plan == dataclasses.replace(told, config=told.config.changed(weights_sha256=weights.EMBEDDED_SHA256))
    assert started.plan.why_network == told.why_network != ""
    assert end(events).config == started.plan.config


def test_the_recipe_of_a_result_makes_the_same_result(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "MAX_AUTO_SECONDS", 0.0)
    first = end(run(content_image, [style_image], network="auto", precision="auto", start="auto"))

    recipe = StyleConfig.from_recipe(first.config.recipe())
    again = end(list(iter_stylize(content_image, [style_image], recipe)))

    np.testing.assert_array_equal(again.image, first.image)


def test_weights_are_fetched_before_anything_else(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch, compact_weights: dict[str, Tensor]
) -> None:
    def fetch(network: Network, expected: Any, *_: Any) -> Iterator[Fetching]:
        yield Fetching(network, 1, 2)
        yield Fetching(network, 2, 2)
        return weights.Weights({key: compact_weights[key] for key in expected}, "0" * 64)

    monkeypatch.setattr(weights, "fetch", fetch)

    events = run(content_image, [style_image])

    assert [type(event) for event in events[:4]] == [Fetching, Fetching, Started, Preview]


# What a run makes


def test_the_loss_falls(content_image: Image, style_image: Image) -> None:
    finished = end(run(content_image, [style_image], iterations=20, tolerance=0))

    assert finished.history[-1] < 0.7 * finished.history[0]
    assert list(finished.history) == sorted(finished.history, reverse=True)


def test_the_result_comes_closer_to_the_style_than_the_content_is(content_image: Image, style_image: Image) -> None:
    begun = _loss_of(content_image, content_image, style_image)["style"]
    image = end(run(content_image, [style_image], size=64, iterations=30)).image

    assert _loss_of(image, content_image, style_image)["style"] < 0.3 * begun


@pytest.mark.parametrize("start", [start for start in Start if start is not Start.AUTO])
@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.COLORS])
def test_every_start_works_in_every_mode_it_makes_sense_in(
    mode: Mode, start: Start, content_image: Image, style_image: Image
) -> None:
    if mode is Mode.CONTENT and start in (Start.RETEXTURED, Start.RECOLORED, Start.STYLE_STATISTICS):
        with pytest.raises(ConfigError, match="needs a style"):
            settings(mode=mode, start=start)
        return
    init = style_image[::-1]

    events = run(
        content_image, [style_image], {"init": init, "preview_interval": 0.0}, mode=mode, start=start, iterations=3
    )

    for image in images(events):
        assert_shown(image, (36, 48))
    assert end(events).history[-1] < end(events).history[0]
    assert end(events).config.start is start


@pytest.mark.parametrize("color", Color)
@pytest.mark.parametrize("mode", Mode)
def test_every_colour_setting_works_in_every_mode(
    mode: Mode, color: Color, content_image: Image, style_image: Image
) -> None:
    events = run(content_image, [style_image], {"preview_interval": 0.0}, mode=mode, color=color)

    for image in images(events):
        assert_shown(image, (36, 48))


def test_a_texture_needs_no_content(style_image: Image) -> None:
    events = run(None, [style_image], mode="style-reconstruction")

    assert_shown(end(events).image, (36, 48))
    assert "content" not in end(events).losses


def test_a_texture_of_pixel_statistics_alone_needs_no_network(style_image: Image) -> None:
    finished = end(run(None, [style_image], mode="style-reconstruction", style_layers={"rgb": 1}, start="white-noise"))

    assert finished.history[-1] < finished.history[0]


def test_the_content_reconstruction_becomes_the_content(content_image: Image) -> None:
    events = run(
        content_image, [], {"preview_interval": 0.0}, mode="content-reconstruction", content_layers={"relu1_1": 1},
        size=64, iterations=40, tv_weight=0,
    )  # fmt: skip

    start, finish = images(events)[0], images(events)[-1]
    assert np.abs(finish - content_image).mean() < 0.2 * np.abs(start - content_image).mean()


def test_with_the_content_colours_only_lightness_changes(content_image: Image, style_image: Image) -> None:
    finished = end(run(content_image, [style_image], color="content", size=64))

    # Along the grey axis nothing tells of hue; elsewhere the strongest channel stays the strongest.
    spread = content_image.max(axis=2) - content_image.min(axis=2) > 0.3
    kept = finished.image.argmax(axis=2) == content_image.argmax(axis=2)
    assert kept[spread].mean() > 0.95
    assert np.abs(finished.image - content_image).max() > 0.02


def test_grey_content_comes_back_in_colour(content_image: Image, style_image: Image) -> None:
    finished = end(run(content_image.mean(axis=2), [style_image]))

    assert_shown(finished.image, (36, 48))
    assert np.ptp(finished.image, axis=2).max() > 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_give_what_floats_give(dtype: Any, content_image: Image, style_image: Image) -> None:
    top = np.iinfo(dtype).max
    content, style = (np.round(image * top).astype(dtype) for image in (content_image, style_image))
    # The whole range is used, which uint16 is stretched from.
    content[0, 0], content[0, 1], style[0, 0], style[0, 1] = 0, top, 0, top

    whole = end(run(content, [style]))
    floats = end(run(content / np.float32(top), [style / np.float32(top)]))

    np.testing.assert_allclose(whole.image, floats.image, atol=0.02)


def test_a_transparent_picture_is_stylised_by_its_colours(content_image: Image, style_image: Image) -> None:
    alpha = np.zeros_like(content_image[..., :1])

    with_alpha = end(run(np.concatenate([content_image, alpha], axis=2), [style_image]))

    np.testing.assert_array_equal(with_alpha.image, end(run(content_image, [style_image])).image)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("which", ["content", "style", "both"])
@pytest.mark.parametrize("normalization", ["relative", "gatys", "notebook"])
def test_flat_pictures_give_finite_images(
    value: float, which: str, normalization: str, content_image: Image, style_image: Image
) -> None:
    flat = np.full((48, 64, 3), value, np.float32)
    content = content_image if which == "style" else flat
    style = style_image if which == "content" else flat

    events = run(content, [style], {"preview_interval": 0.0}, normalization=normalization, iterations=3)

    for image in images(events):
        assert_shown(image, (36, 48))


def test_a_style_without_weight_counts_as_if_it_were_not_there(content_image: Image, style_image: Image) -> None:
    other = np.ascontiguousarray(style_image[:, ::-1, ::-1])

    blended = end(run(content_image, [style_image, other], style_weights=(2, 0)))
    alone = end(run(content_image, [style_image]))

    np.testing.assert_array_equal(blended.image, alone.image)
    assert blended.history == alone.history


def test_the_blend_follows_the_weights(content_image: Image, style_image: Image) -> None:
    red = np.zeros((40, 40, 3), np.float32) + np.float32([0.8, 0.2, 0.2])

    shares = [
        end(run(content_image, [red, style_image], style_weights=(weight, 1 - weight), iterations=8)).image
        for weight in (0.1, 0.5, 0.9)
    ]

    redness = [float((image[..., 0] - image[..., 2]).mean()) for image in shares]
    assert redness == sorted(redness)
    assert redness[2] > redness[0] + 0.1


def test_styles_of_different_sizes_and_dtypes_blend(content_image: Image, style_image: Image) -> None:
    small = (style_image[:20, :30, 0] * 255).astype(np.uint8)

    events = run(content_image, [style_image, small, style_image.astype(np.float64)], style_weights=(1, 2, 3))

    assert_shown(end(events).image, (36, 48))


def test_the_balance_leads_from_the_content_to_the_style(content_image: Image, style_image: Image) -> None:
    losses = []
    for balance in (0.1, 0.5, 0.9):
        image = end(run(content_image, [style_image], size=64, balance=balance, start="content", iterations=40)).image
        losses.append(_loss_of(image, content_image, style_image))

    assert [entry["style"] for entry in losses] == sorted((entry["style"] for entry in losses), reverse=True)
    assert [entry["content"] for entry in losses] == sorted(entry["content"] for entry in losses)


def test_smoothness_gives_smoother_pictures(content_image: Image, style_image: Image) -> None:
    rough, smooth = (end(run(content_image, [style_image], tv_weight=weight)).image for weight in (0.0, 20.0))

    assert np.abs(np.diff(smooth, axis=1)).mean() < 0.8 * np.abs(np.diff(rough, axis=1)).mean()


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_both_optimisers_lower_the_loss_in_either_metric(
    optimizer: str, exponent: float, content_image: Image, style_image: Image
) -> None:
    finished = end(
        run(content_image, [style_image], optimizer=optimizer, spectral_exponent=exponent, iterations=15, tolerance=0)
    )

    assert min(finished.history) < 0.8 * finished.history[0]


@pytest.mark.parametrize("search", ["none", "backtracking", "wolfe"])
def test_every_line_search_lowers_the_loss(search: str, content_image: Image, style_image: Image) -> None:
    finished = end(run(content_image, [style_image], line_search=search, iterations=12, tolerance=0))

    assert finished.history[-1] < 0.8 * finished.history[0]


@pytest.mark.parametrize("start", ["retextured", "recolored", "white-noise", "median-noise", "style-statistics"])
def test_the_same_seed_gives_the_same_pixels(start: str, content_image: Image, style_image: Image) -> None:
    one, other = (
        end(run(content_image, [style_image], start=start, scales=2, precision="auto", seed=3)) for _ in range(2)
    )

    np.testing.assert_array_equal(one.image, other.image)
    assert one.history == other.history


def test_another_seed_gives_other_noise(content_image: Image, style_image: Image) -> None:
    one, other = (end(run(content_image, [style_image], start="white-noise", seed=seed)).image for seed in (1, 2))

    assert np.abs(one - other).mean() > 0.01


def test_the_pictures_handed_in_are_left_as_they_were(content_image: Image, style_image: Image) -> None:
    before = content_image.copy(), style_image.copy()

    run(content_image, [style_image])

    np.testing.assert_array_equal(content_image, before[0])
    np.testing.assert_array_equal(style_image, before[1])


def test_an_image_once_shown_does_not_change(content_image: Image, style_image: Image) -> None:
    shown: list[tuple[Image, Image]] = []
    for event in iter_stylize(content_image, [style_image], settings(), preview_interval=0.0):
        if isinstance(event, Preview):
            shown.append((event.image, event.image.copy()))
            event.image[:1] = 1.0
            shown[-1] = (event.image, event.image.copy())

    for image, copy in shown:
        np.testing.assert_array_equal(image, copy)


def test_writing_on_a_preview_does_not_disturb_the_run(content_image: Image, style_image: Image) -> None:
    for event in iter_stylize(content_image, [style_image], settings(), preview_interval=0.0):
        if isinstance(event, Preview):
            event.image[...] = 0.0
        elif isinstance(event, Finished):
            scribbled = event.image

    np.testing.assert_array_equal(scribbled, end(run(content_image, [style_image])).image)


def test_a_small_picture_is_not_enlarged(content_image: Image, style_image: Image) -> None:
    assert end(run(content_image[:20, :30], [style_image], size=512)).image.shape == (20, 30, 3)


@pytest.mark.parametrize("size", [(16, 16), (17, 41), (37, 23)])
def test_odd_and_smallest_sizes_work(size: tuple[int, int], content_image: Image, style_image: Image) -> None:
    events = run(content_image[: size[0], : size[1]], [style_image[:9, :5]])

    assert_shown(end(events).image, size)


@pytest.mark.parametrize("fit", ["cover", "whole"])
@pytest.mark.parametrize("scale", [0.3, 2.5])
def test_every_style_fit_and_scale_works(fit: str, scale: float, content_image: Image, style_image: Image) -> None:
    assert_shown(end(run(content_image, [style_image], style_fit=fit, style_scale=scale)).image, (36, 48))


@pytest.mark.parametrize("pooling", ["average", "max", "native"])
@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
def test_every_pooling_and_padding_lowers_the_loss(
    pooling: str, padding: str, content_image: Image, style_image: Image
) -> None:
    finished = end(run(content_image, [style_image], pooling=pooling, padding=padding))

    assert finished.history[-1] < finished.history[0]


@pytest.fixture(scope="module")
def weights_files(tmp_path_factory: pytest.TempPathFactory, weights_of: WeightsOf) -> Callable[[Network], Path | None]:
    folder = tmp_path_factory.mktemp("weights")

    def file(network: Network) -> Path | None:
        path = folder / f"{network}.safetensors"
        if network is Network.COMPACT:
            return None
        if not path.exists():
            save_file(weights_of(network), path)
        return path

    return file


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(
    preset: str,
    content_image: Image,
    style_image: Image,
    weights_files: Callable[[Network], Path | None],
) -> None:
    network = PRESETS[preset].get("network", Network.COMPACT)
    config = StyleConfig.from_preset(
        preset,
        network=network,
        weights=weights_files(network),
        size=32,
        iterations=2,
        device="cpu",
        precision="float32",
    )

    events = list(iter_stylize(content_image, [style_image], config))

    assert end(events).history[-1] < end(events).history[0]
    assert_shown(end(events).image, (24, 32))


@pytest.mark.parametrize("network", [Network.SQUEEZENET, Network.VGG16])
def test_the_other_networks_run_with_their_own_layers(
    network: Network,
    content_image: Image,
    style_image: Image,
    weights_files: Callable[[Network], Path | None],
) -> None:
    finished = end(
        run(content_image, [style_image], network=network, weights=weights_files(network), size=48, iterations=2)
    )

    assert finished.history[-1] < finished.history[0]
    assert finished.config.style_layers == backbone(network).style_layers


def test_bfloat16_loses_next_to_nothing(content_image: Image, style_image: Image) -> None:
    losses = [
        _loss_of(
            end(run(content_image, [style_image], size=64, iterations=40, tolerance=0, precision=precision)).image,
            content_image,
            style_image,
        )["total"]
        for precision in ("float32", "bfloat16")
    ]

    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_long_run_in_bfloat16_does_not_end_in_refused_steps(content_image: Image, style_image: Image) -> None:
    small = content_image[::2, ::2]  # the fewer pixels, the less their errors cancel

    finished = end(run(small, [style_image], precision="bfloat16", iterations=120, tolerance=0))

    assert finished.iterations == 120
    assert finished.evaluations < 1.25 * finished.iterations


def _loss_of(image: Image, content: Image, style: Image, **fields: Any) -> dict[str, float]:
    """The terms at an image, in float32: the start of a run that moves it by next to nothing."""
    (step,) = steps(
        run(
            content, [style], {"init": image}, size=64, start="image", optimizer="adam", learning_rate=1e-9,
            iterations=1, spectral_exponent=0, **fields,
        )
    )  # fmt: skip
    return step.losses


# How a run ends


def test_a_run_that_no_longer_gains_ends(content_image: Image, style_image: Image) -> None:
    finished = end(run(content_image, [style_image], iterations=500, tolerance=0.2, window=4))

    assert finished.reason is Reason.CONVERGED
    assert finished.iterations < 500
    assert finished.history[-5] - finished.history[-1] < 0.2 * finished.history[-5]


def test_without_tolerance_a_run_takes_all_its_steps(content_image: Image, style_image: Image) -> None:
    finished = end(run(content_image, [style_image], iterations=12, tolerance=0, window=2))

    assert finished.reason is Reason.ITERATIONS
    assert finished.iterations == 12


def test_a_run_that_starts_at_its_minimum_ends_at_once(content_image: Image) -> None:
    finished = end(
        run(content_image, [], mode="content-reconstruction", start="content", tv_weight=0, spectral_exponent=0)
    )

    assert finished.reason is Reason.CONVERGED
    assert finished.iterations == 0
    assert finished.history == ()


def test_the_time_limit_ends_a_run_with_an_image(content_image: Image, style_image: Image) -> None:
    finished = end(run(content_image, [style_image], scales=2, iterations=100_000, tolerance=0, max_seconds=1e-3))

    assert finished.reason is Reason.TIME
    assert finished.evaluations <= 2
    assert_shown(finished.image, (36, 48))


class Evaluations:
    """Counts the evaluations of the loss that ran to their end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        call = Objective.__call__

        def counted(objective: Objective, image: Tensor) -> Any:
            evaluation = call(objective, image)
            self.count += 1
            return evaluation

        monkeypatch.setattr(Objective, "__call__", counted)


@pytest.mark.parametrize("fields", [{}, {"size": 160, "block_size": 64, **SHALLOW}])
def test_a_request_to_stop_is_honoured_before_another_evaluation(
    fields: dict[str, Any], content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = np.tile(content_image, (2, 2, 1))
    evaluations = Evaluations(monkeypatch)
    requests: list[int] = []
    config = settings(iterations=100, **fields)
    for event in iter_stylize(content, [style_image], config, should_stop=lambda: bool(requests)):
        if isinstance(event, Step) and event.iteration == 3:
            requests.append(evaluations.count)

    assert isinstance(event, Finished)
    assert event.reason is Reason.STOPPED
    assert [evaluations.count] == requests
    assert event.iterations == 3


def test_a_run_stopped_before_its_first_step_gives_the_start_image(content_image: Image, style_image: Image) -> None:
    events = run(content_image, [style_image], {"should_stop": lambda: True}, start="content")

    assert [type(event) for event in events] == [Started, Preview, Finished]
    assert end(events).reason is Reason.STOPPED
    assert end(events).iterations == 0
    assert end(events).history == ()
    np.testing.assert_allclose(end(events).image, images(events)[0], atol=1e-5)


def test_a_run_stopped_at_a_coarse_scale_gives_an_image_of_full_size(content_image: Image, style_image: Image) -> None:
    seen: list[Step] = []
    config = settings(scales=2, iterations=50)
    for event in iter_stylize(content_image, [style_image], config, should_stop=lambda: len(seen) >= 2):
        if isinstance(event, Step):
            seen.append(event)

    assert isinstance(event, Finished)
    assert seen[-1].scale == 0
    assert_shown(event.image, (36, 48))


def test_the_image_of_a_stopped_run_is_the_last_one_accepted(content_image: Image, style_image: Image) -> None:
    stopped = end(run(content_image, [style_image], {"should_stop": _after(30)}, iterations=100, tolerance=0))
    shorter = end(run(content_image, [style_image], iterations=stopped.iterations, tolerance=0))

    np.testing.assert_array_equal(stopped.image, shorter.image)


def test_without_line_search_the_image_is_the_best_one_too(content_image: Image, style_image: Image) -> None:
    fields = {
        "line_search": "none",
        "size": 64,
        "spectral_exponent": 0,
        "value_scaling": False,
        "tv_weight": 0,
        "tolerance": 0,
    }
    # The deepest layer alone is hard to descend on.
    fields |= {"start": "white-noise", "history": 3, "style_layers": {"relu5_1": 1.0}}
    events = run(content_image, [style_image], {"preview_interval": 0.0}, iterations=80, **fields)

    finished = end(events)
    assert list(finished.history) != sorted(finished.history, reverse=True), "some step rose"
    reached = _loss_of(finished.image, content_image, style_image, style_layers={"relu5_1": 1.0})
    assert reached["style"] <= 1.5 * min(step.losses["style"] for step in steps(events))


def _after(asked: int) -> Callable[[], bool]:
    """Say yes from the given time on."""
    times = iter(range(1_000_000))
    return lambda: next(times) >= asked


@pytest.mark.parametrize("after", range(8))
def test_a_run_can_be_closed_at_any_point(after: int, content_image: Image, style_image: Image) -> None:
    generator = iter_stylize(content_image, [style_image], settings(scales=2), preview_interval=0.0)
    for _ in range(after):
        next(generator)

    generator.close()

    with pytest.raises(StopIteration):
        next(generator)


# Blocks and memory


def test_a_run_in_blocks_gives_the_image_of_a_whole_run(content_image: Image, style_image: Image) -> None:
    content = np.tile(content_image, (2, 2, 1))
    # Learned scales magnify the rounding of single values.
    fields = {**SHALLOW, "size": 128, "tolerance": 0, "iterations": 3, "value_scaling": False}

    whole = end(run(content, [style_image], **fields))
    events = run(content, [style_image], block_size=64, **fields)

    started = events[0]
    assert isinstance(started, Started)
    assert started.plan.blocks > 1
    assert end(events).history == pytest.approx(whole.history, rel=1e-3)
    np.testing.assert_allclose(end(events).image, whole.image, atol=5e-3)


# Non-finite losses


def test_a_passing_non_finite_loss_is_recovered_from(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, lambda number: 4 <= number < 7)

    finished = end(run(content_image, [style_image], iterations=8, tolerance=0))

    assert finished.iterations == 8
    assert np.isfinite(finished.history).all()
    assert finished.history[-1] < finished.history[0]


def test_a_loss_that_stays_non_finite_ends_in_a_clear_error(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, lambda number: number >= 4)

    shown: list[Image] = []

    def watch() -> None:
        for event in iter_stylize(content_image, [style_image], settings(iterations=8), preview_interval=0.0):
            shown.extend([event.image] if isinstance(event, Preview) else [])

    with pytest.raises(DivergedError, match="float32"):
        watch()
    assert shown
    for image in shown:
        assert_shown(image, (36, 48))


def _spoil(monkeypatch: pytest.MonkeyPatch, spoiled: Callable[[int], bool]) -> None:
    """Make the evaluations of those numbers, counted from 1, come out as NaN."""
    call, numbers = Objective.__call__, iter(range(1, 1_000_000))

    def sometimes_nan(objective: Objective, image: Tensor) -> Any:
        evaluation = call(objective, image)
        if not spoiled(next(numbers)):
            return evaluation
        losses = dict.fromkeys(evaluation.losses, float("nan"))
        return dataclasses.replace(evaluation, losses=losses, gradient=evaluation.gradient * float("nan"))

    monkeypatch.setattr(Objective, "__call__", sometimes_nan)


# What is refused, before any weights are asked for


PICTURE = np.full((48, 64, 3), 0.5, np.float32)


@pytest.mark.parametrize(
    ("content", "styles", "fields", "error", "message"),
    [
        (PICTURE[:15], [PICTURE], {}, ImageError, "at least 16"),
        (
            np.zeros((30, 3000), np.uint8),
            [PICTURE],
            {"size": 64},
            ImageError,
            "a length of at most 120, .* at least 1600",
        ),
        (PICTURE, [], {}, ConfigError, "at least one style"),
        (None, [PICTURE], {}, ConfigError, "needs a content"),
        (PICTURE, [PICTURE], {"style_weights": (1, 1)}, ConfigError, "1 style pictures but 2 blend weights"),
        (PICTURE, [PICTURE], {"style_layers": {"relu9_9": 1}}, ConfigError, "relu9_9.*relu1_1"),
        (PICTURE, [PICTURE], {"content_layers": {"fire2": 1}}, ConfigError, "fire2"),
        (PICTURE, [PICTURE], {"start": "image"}, ConfigError, "init"),
        (PICTURE, [PICTURE], {"device": "cuda:99"}, DeviceError, "cuda:99.*cpu"),
        (PICTURE, [PICTURE], {"memory_limit": 1e-6}, OutOfMemoryError, "MiB"),
        (PICTURE * np.nan, [PICTURE], {}, ImageError, "content picture.*NaN"),
        (PICTURE, [PICTURE * np.nan], {}, ImageError, "style 1 picture.*NaN"),
        (PICTURE, [PICTURE, PICTURE[..., :2]], {}, ImageError, "style 2 picture"),
    ],
)
def test_what_cannot_work_is_refused_before_weights_are_fetched(
    content: Any,
    styles: Any,
    fields: dict[str, Any],
    error: type[StyleTransferError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fetch(*args: Any) -> None:
        raise AssertionError("weights were fetched")

    monkeypatch.setattr(weights, "fetch", fetch)

    with pytest.raises(error, match=message):
        next(iter_stylize(content, styles, settings(**fields)))


def test_defaults_serve_without_settings(content_image: Image, style_image: Image) -> None:
    generator = iter_stylize(content_image, [style_image])

    started = next(generator)
    generator.close()

    assert isinstance(started, Started)
    assert started.plan.sizes[-1] == (48, 64)


def test_one_step_of_adam_is_a_step(content_image: Image, style_image: Image) -> None:
    events = run(content_image, [style_image], iterations=1, optimizer="adam", learning_rate=0.02, start="content")

    finished = end(events)
    assert finished.iterations == 1
    assert finished.evaluations == 2
    assert [type(event) for event in events].count(Step) == 1
