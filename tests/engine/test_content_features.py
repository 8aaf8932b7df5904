"""The content's features made again block by block are those that are kept, and so are loss and gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_styletransfer.config import Network, Normalization, StyleConfig
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.events import Finished
from napari_styletransfer.images.pixels import decode
from napari_styletransfer.losses.content_features import PackedImage
from napari_styletransfer.losses.objective import Objective
from napari_styletransfer.losses.terms import Evaluation, LossWeights, StyleTarget
from napari_styletransfer.networks.architectures import RGB, Backbone, receptive_fields
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.planning import planner
from napari_styletransfer.tiling.tiled_network import Stopped, TiledNetwork
from napari_styletransfer.tiling.tiles import Halo, tile_layout

ImageOf = Callable[..., Tensor]
CONTENT = {"relu2_2": 1.0, "relu3_1": 2.0}
STYLE = {RGB: 1.0, "relu1_1": 1.0, "relu4_1": 0.5}
SIZE = (101, 138)


def in_bytes(image: Tensor) -> Tensor:
    """Round to the values of 8 bits, in float32."""
    return ((image * 255).round().float() / 255).to(image.dtype)


def objective(
    network: Backbone, tensors: dict[str, Tensor], random_image: ImageOf, core: int | None, **given: Any
) -> Objective:
    cut = network.truncated({*CONTENT, *STYLE})
    net = FrozenNetwork(cut, tensors, {*CONTENT, *STYLE} - {RGB})
    reach = {name: receptive_fields(cut)[name] for name in net.layers}
    halo = Halo.for_layers(reach.values())
    style = random_image(64, 64, seed=3, dtype=torch.float32)
    grams = TiledNetwork(net, reach, (64, 64), tile_layout(64, 64, None, halo)).gram_means(style, STYLE)
    terms = LossWeights(CONTENT, STYLE, 0.7, 1.3, 0.4, Normalization.RELATIVE)
    return Objective(
        net,
        reach,
        terms,
        SIZE,
        tile_layout(*SIZE, core, halo),
        styles=[StyleTarget(grams, 1.0)],
        content=in_bytes(random_image(*SIZE, seed=1, dtype=torch.float32)),
        **given,
    )


def assert_alike(found: Evaluation, expected: Evaluation) -> None:
    assert found.losses == pytest.approx(expected.losses, rel=1e-4)
    assert found.layers == pytest.approx(expected.layers, rel=1e-4)
    scale = float(expected.gradient.abs().max())
    torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("core", [None, 48, 32])
def test_loss_and_gradient_are_those_of_kept_maps(
    core: int | None, compact: Backbone, compact_weights: dict[str, Tensor], random_image: ImageOf
) -> None:
    image = random_image(*SIZE, seed=2, dtype=torch.float32)
    expected = objective(compact, compact_weights, random_image, None)(image)
    made_again = objective(compact, compact_weights, random_image, core, keep_content=False)

    assert_alike(made_again(image), expected)
    assert_alike(made_again(image), expected)


def test_blocks_can_be_changed_under_way(
    compact: Backbone, compact_weights: dict[str, Tensor], random_image: ImageOf
) -> None:
    image = random_image(*SIZE, seed=2, dtype=torch.float32)
    made_again = objective(compact, compact_weights, random_image, None, keep_content=False)
    expected = made_again(image)
    halo = Halo.for_layers(
        receptive_fields(compact.truncated({*CONTENT, *STYLE}))[name] for name in (*CONTENT, "relu4_1")
    )

    made_again.set_tiles(lambda size: tile_layout(*size, 40, halo))

    assert_alike(made_again(image), expected)


def test_a_run_can_be_stopped_while_the_content_is_measured(
    compact: Backbone, compact_weights: dict[str, Tensor], random_image: ImageOf
) -> None:
    with pytest.raises(Stopped):
        objective(compact, compact_weights, random_image, 48, keep_content=False, should_stop=lambda: True)


def test_pictures_of_8_and_of_16_bits_come_back_as_they_were() -> None:
    everything = (slice(None), slice(None))
    for values in (np.arange(256, dtype=np.uint8), np.arange(65536, dtype=np.uint16)):
        rgb, _ = decode(values.reshape(16, -1))
        picture = torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous()

        packed = PackedImage(picture)

        assert packed.bytes == picture.numel() * values.itemsize
        torch.testing.assert_close(packed.crop(everything), picture, rtol=0, atol=1e-7 if values.itemsize > 1 else 0)


def test_other_pictures_lose_less_than_16_bits_do(random_image: ImageOf) -> None:
    picture = random_image(30, 40, dtype=torch.float32)

    part = PackedImage(picture).crop((slice(3, 9), slice(10, 40)))

    torch.testing.assert_close(part, picture[:, :, 3:9, 10:40], rtol=0, atol=1 / 65535)


def test_a_picture_is_packed_some_values_at_a_time(monkeypatch: pytest.MonkeyPatch, random_image: ImageOf) -> None:
    monkeypatch.setattr("napari_styletransfer.losses.content_features._CHUNK", 1000)
    picture = in_bytes(random_image(30, 40, dtype=torch.float32))
    picture[0, 2, 29, 39] = 0.123456  # the last of them is no multiple of 1/255

    torch.testing.assert_close(PackedImage(picture).crop((slice(None), slice(None))), picture, rtol=0, atol=1 / 65535)


@pytest.mark.parametrize("guided", [False, True])
def test_a_run_with_little_memory_reaches_what_one_with_plenty_does(
    guided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    content = rng.integers(0, 256, (136, 160, 3), dtype=np.uint8)
    style = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    labels = None
    if guided:
        labels = np.zeros((136, 160), np.uint8)
        labels[:, 70:] = 1
    config = StyleConfig(
        network=Network.COMPACT,
        device="cpu",
        precision="float32",
        size=None,
        scales=1,
        iterations=4,
        block_size=64,
        value_scaling=False,  # learned scales magnify the rounding of single values
    )
    monkeypatch.setattr(planner, "COARSEST_LOSS", 64)

    def run() -> Finished:
        *_, end = iter_stylize(content, [style], config, labels=labels)
        assert isinstance(end, Finished)
        return end

    plenty = run()
    placed = planner._place
    monkeypatch.setattr(
        planner, "_place", lambda asked, free: placed(replace(asked, keeps_base=False, keeps_content=False), free)
    )
    little = run()

    assert len(plenty.history) == 4
    assert little.history == pytest.approx(plenty.history, rel=2e-3)
    assert float(np.abs(little.image - plenty.image).mean()) < 1e-3
