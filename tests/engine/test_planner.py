"""A plan says truly what a run will do and need."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_styletransfer.config import Network, Precision, Start, StyleConfig
from napari_styletransfer.devices.device import DeviceInfo
from napari_styletransfer.engine.run import plan
from napari_styletransfer.errors import ConfigError, DeviceError, ImageError, OutOfMemoryError
from napari_styletransfer.events import Plan
from napari_styletransfer.networks import weights
from napari_styletransfer.networks.architectures import backbone
from napari_styletransfer.planning import memory_model, planner, runtime_estimate
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.planning.planner import min_side
from napari_styletransfer.tiling.tiles import Halo, tile_layout

GIB = 2**30


@pytest.fixture(autouse=True)
def _rates_of_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_estimate, "rates", lambda device, label, dtype: (1e12, 1e10, 1e-6))


def planned(height: int = 48, width: int = 64, **fields: Any) -> Plan:
    config = StyleConfig(**{"network": "compact", "device": "cpu", "precision": "float32", **fields})
    return plan(np.zeros((height, width, 3), np.uint8), [np.zeros((20, 20, 3), np.uint8)], config)


def test_every_auto_is_decided_in_the_plan() -> None:
    config = plan(np.zeros((48, 64), np.uint8), [np.zeros((20, 20), np.uint8)]).config

    assert config.network is not Network.AUTO
    assert config.precision is not Precision.AUTO
    assert config.start is not Start.AUTO
    assert config.device != "auto"
    assert config.content_layers
    assert config.style_layers


def test_a_plan_made_from_a_plan_is_the_same() -> None:
    first = planned(memory_limit=2.0)

    again = plan(np.zeros((48, 64), np.uint8), [np.zeros((20, 20), np.uint8)], first.config)

    assert again == first


def test_a_plan_tells_how_long_it_takes_at_most() -> None:
    ten, twenty, thirty = (planned(iterations=count).seconds for count in (10, 20, 30))

    # Besides its steps a run has targets to measure, however many the steps are.
    assert 0 < twenty - ten < ten
    assert thirty - twenty == pytest.approx(twenty - ten)


def on(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be that device alone."""
    monkeypatch.setattr(planner, "choose", lambda name: DeviceInfo(device, "a device", 8 * GIB, 8 * GIB))


def at_a_thousandth_of_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_estimate, "rates", lambda device, label, dtype: (1e9, 1e7, 1e-3))


def test_auto_is_the_large_network_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    on("mps", monkeypatch)
    at_a_thousandth_of_the_rates(monkeypatch)

    found = planned(network="auto")

    assert found.config.network is Network.VGG19
    assert found.why_network == "there is a GPU"
    assert found == planned(network="vgg19")


def test_auto_is_the_large_network_where_a_processor_is_quick_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    on("cpu", monkeypatch)

    found = planned(network="auto")

    assert found.config.network is Network.VGG19
    assert found.why_network == "it takes little enough time"
    assert 0 < found.seconds < planner.MAX_AUTO_SECONDS / 2
    assert found == planned(network="vgg19")


def test_auto_is_the_compact_network_where_a_processor_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    on("cpu", monkeypatch)
    at_a_thousandth_of_the_rates(monkeypatch)
    seconds = planned(network="vgg19").seconds
    assert seconds > 2 * planner.MAX_AUTO_SECONDS

    found = planned(network="auto")

    assert found.config.network is Network.COMPACT
    assert found.why_network == f"vgg19 would take about {seconds / 60:.0f} min"
    assert found == planned()


@pytest.mark.parametrize("device", ["mps", "cpu"])
def test_auto_is_the_compact_network_where_the_weights_of_the_large_one_are_missing(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(device, monkeypatch)
    missing = replace(weights.ORIGINAL_VGG19, package="no-package-of-this-name")
    monkeypatch.setattr(weights, "ORIGINAL_VGG19", missing)

    found = planned(network="auto")

    assert found.config.network is Network.COMPACT
    assert found.why_network == "the weights of vgg19 are not installed"
    assert found == planned()


def test_auto_counts_the_time_of_all_images_together(monkeypatch: pytest.MonkeyPatch) -> None:
    one = planned(network="vgg19").seconds
    monkeypatch.setattr(planner, "MAX_AUTO_SECONDS", 5.5 * one)
    picture = torch.zeros(1, 3, 48, 64)
    pictures = RunInputs(picture, (picture,), (1.0,), None, (48, 64))
    config = StyleConfig(network="auto", device="cpu", precision="float32")

    few, many = (planner.prepare(pictures, config, images).plan for images in (5, 11))

    assert few.config.network is Network.VGG19
    assert few.seconds == pytest.approx(one)
    assert many.config.network is Network.COMPACT


def test_auto_is_the_compact_network_where_the_large_one_has_no_room() -> None:
    with pytest.raises(OutOfMemoryError):
        planned(256, 256, memory_limit=0.055, network="vgg19")

    found = planned(256, 256, memory_limit=0.055, network="auto")

    assert found.config.network is Network.COMPACT
    assert found.why_network == "the image takes too much memory for vgg19"


def test_a_plan_tells_why_only_of_a_network_that_was_left_open() -> None:
    assert planned(network="vgg19").why_network == planned().why_network == ""


def test_a_file_of_weights_needs_the_name_of_its_network(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="belongs to one network"):
        planned(network="auto", weights=tmp_path / "own.pth")


def test_weights_that_are_asked_for_by_their_checksum_are_asked_for_of_the_network_that_auto_becomes() -> None:
    assert planned(network="auto", weights_sha256="0" * 64).config.weights_sha256 == "0" * 64


def test_the_scales_go_from_coarse_to_the_working_size() -> None:
    found = planned(600, 800, size=400, iterations=30, coarse_iterations=1)

    assert found.sizes == ((150, 200), (300, 400))
    assert found.total_iterations == 60


def test_a_coarser_scale_takes_a_multiple_of_the_steps_of_the_next_finer_one() -> None:
    def steps(**fields: Any) -> list[int]:
        return [scale.iterations for scale in planned(384, 512, size=512, **fields).scales]

    assert steps(iterations=15, coarse_iterations=2) == [60, 30, 15]
    assert steps(iterations=15, coarse_iterations=1) == [15, 15, 15]
    assert steps(iterations=10, coarse_iterations=1.5, scales=2) == [15, 10]
    assert steps(iterations=60_000, coarse_iterations=10) == [100_000, 100_000, 60_000]


def test_layers_without_weight_are_not_planned() -> None:
    found = planned(style_layers={"relu1_1": 1.0, "relu5_1": 0.0}, content_layers={"relu2_1": 2.0, "relu4_2": 0.0})

    assert found.config.style_layers == {"relu1_1": 1.0}
    assert found.config.content_layers == {"relu2_1": 2.0}


def test_shallower_layers_need_less_memory_and_allow_smaller_pictures() -> None:
    shallow = planned(15, 40, style_layers={"relu1_1": 1.0}, content_layers={"relu2_1": 1.0})

    assert shallow.memory_bytes < planned(16, 40).memory_bytes
    with pytest.raises(ImageError, match="at least 16"):
        planned(15, 40)


@pytest.mark.parametrize("network", [Network.COMPACT, Network.SQUEEZENET, Network.VGG16_BN])
def test_the_smallest_side_leaves_one_position_at_the_deepest_layer(network: Network) -> None:
    whole = backbone(network)
    for name in whole.layers:
        cut = whole.truncated({name})
        side = min_side(cut)
        sizes = [side]
        for stage in cut.stages:
            sizes.append(stage.out_size(sizes[-1]))
        assert min(sizes) >= 1
        assert min_side(whole.truncated({whole.layers[0]})) <= side


@pytest.mark.parametrize(
    ("network", "layer", "side"),
    [
        (Network.COMPACT, "relu1_2", 1),
        (Network.COMPACT, "relu2_1", 2),
        (Network.COMPACT, "relu5_1", 16),
        (Network.VGG19, "relu5_1", 16),
        (Network.SQUEEZENET, "relu1", 3),
        (Network.SQUEEZENET, "fire2", 7),
    ],
)
def test_the_smallest_side_is_that_of_the_network(network: Network, layer: str, side: int) -> None:
    assert min_side(backbone(network).truncated({layer})) == side


def test_more_memory_is_needed_for_more_pixels_and_a_longer_history() -> None:
    usual = planned(200, 200).memory_bytes

    # The optimiser's part grows with the area, the network's at most so: large feature maps are made in bands.
    further = planned(200, 400).memory_bytes - usual
    furthest = planned(200, 800, size=None).memory_bytes - usual
    assert further > 20 * 200 * 200 * 12
    assert furthest > 3 * 20 * 200 * 200 * 12
    assert furthest <= 3 * further
    assert planned(200, 200, history=11).memory_bytes == usual + 2 * 200 * 200 * 12
    assert planned(200, 200, optimizer="adam").memory_bytes < usual
    assert planned(200, 200, precision="bfloat16").memory_bytes < usual


def test_a_picture_that_fits_is_worked_on_whole() -> None:
    found = planned()

    assert found.block is None
    assert found.blocks == 1


def test_a_picture_that_does_not_fit_is_cut_into_blocks_that_do() -> None:
    whole = planned(1500, 1500, size=None, memory_limit=100)
    # Enough for the optimiser's vectors, not for the network over the whole picture.
    limit = 0.85 * whole.memory_bytes / GIB

    found = planned(1500, 1500, size=None, memory_limit=limit)

    assert found.block is not None
    assert found.blocks > 1
    assert found.memory_bytes <= found.memory_available == int(limit * GIB) < whole.memory_bytes


def test_a_history_that_does_not_fit_is_kept_narrower_and_shorter() -> None:
    def limited(gib: float) -> StyleConfig:
        return planned(1200, 1200, size=None, memory_limit=gib, history=20).config

    plenty, less, little = limited(100), limited(0.75), limited(0.5)

    assert (plenty.history, plenty.history_precision) == (20, Precision.FLOAT32)
    assert (less.history, less.history_precision) == (20, Precision.BFLOAT16)
    assert 1 <= little.history < 20
    assert little.history_precision is Precision.BFLOAT16


def test_what_is_harmless_is_given_up_before_what_is_not() -> None:
    plenty = planned(2400, 2400, size=None, memory_limit=100)
    limit, seen = plenty.memory_bytes / GIB, []
    while not seen or seen[-1].config.history > 1:
        limit *= 0.97
        seen.append(planned(2400, 2400, size=None, memory_limit=limit))

    for before, after in pairwise(seen):
        assert after.config.history <= before.config.history
        assert after.keeps_base <= before.keeps_base
        assert after.keeps_content <= before.keeps_content
    for found in seen:
        assert found.memory_bytes <= found.memory_available
        assert found.keeps_base or found.config.history_precision is Precision.BFLOAT16
        assert found.keeps_content or not found.keeps_base
        assert found.config.history == 10 or not found.keeps_content
    assert {(found.keeps_base, found.keeps_content) for found in seen} == {(True, True), (False, True), (False, False)}
    assert plenty.memory_savings is None
    assert seen[-1].memory_savings == (
        "a history of 1 step instead of 10 and the content measured again in every step, which is slower"
    )


def fallen(plans: list[Plan], history: int) -> Plan:
    """Return the first of some plans with no more than so many pairs."""
    return next(found for found in plans if found.config.history <= history)


def test_a_shorter_history_is_told_as_compared_with_what_was_asked_for() -> None:
    plans = [planned(512, 512, memory_limit=limit, history=100) for limit in (100, 0.4, 0.3, 0.25, 0.2)]
    shortened = fallen(plans, 25)

    assert plans[0].memory_savings is None
    assert shortened.config.history == 25
    assert shortened.memory_savings is not None
    assert shortened.memory_savings.startswith("a history of 25 steps instead of 100 and ")


def test_what_was_asked_for_is_not_told_as_given_up() -> None:
    found = planned(512, 512, memory_limit=0.12, history=5)

    assert not found.keeps_base
    assert found.config.history == 5
    assert found.memory_savings == "the content measured again in every step, which is slower"
    assert planned(512, 512, history=1).memory_savings is None


@pytest.mark.parametrize("fields", [{"content_weight": 0}, {"mode": "style-reconstruction", "start": "white-noise"}])
def test_content_that_does_not_count_is_not_made_again(fields: dict[str, Any]) -> None:
    plenty = planned(512, 512, memory_limit=100, **fields)
    little = planned(512, 512, memory_limit=0.12, **fields)

    assert plenty.memory_bytes < planned(512, 512, memory_limit=100).memory_bytes
    assert not little.keeps_base
    assert little.keeps_content
    assert "content" not in (little.memory_savings or "")


def test_a_narrower_history_is_told_where_another_was_asked_for() -> None:
    whole = planned(512, 512, memory_limit=100).memory_bytes
    limit = 0.85 * whole / GIB

    left_open = planned(512, 512, memory_limit=limit)
    asked = planned(512, 512, memory_limit=limit, history_precision="float32")

    assert left_open.config.history_precision is asked.config.history_precision is Precision.BFLOAT16
    assert left_open.memory_savings is None
    assert asked.memory_savings == "a history in bfloat16 instead of float32"


def test_smaller_blocks_are_told_where_larger_ones_were_asked_for() -> None:
    def limited(gib: float, block: int | None) -> Plan:
        return planned(1500, 1500, size=None, memory_limit=gib, block_size=block, optimizer="adam")

    limit = 0.5 * limited(100, 1024).memory_bytes / GIB
    left_open, asked = limited(limit, None), limited(limit, 1024)

    assert left_open.block is not None
    assert left_open.memory_savings == "the content measured again in every step, which is slower"
    assert asked.memory_savings == f"blocks of 512 pixels instead of 1024 and {left_open.memory_savings}"


def test_an_image_that_only_the_host_has_room_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(name: str) -> DeviceInfo:
        return DeviceInfo("cpu" if name == "cpu" else "cuda:0", "a device", 8 * GIB, 8 * GIB)

    monkeypatch.setattr(planner, "choose", chosen)

    found = planned(256, 320, device="cuda:0", memory_limit=0.028)

    assert found.storage_device == "cpu"
    assert found.memory_savings == "the image in the computer's own memory, which is slower"
    # A shorter history would not help: it is not on the device.
    with pytest.raises(OutOfMemoryError, match=r"even in small blocks; 10\.2 MiB"):
        planned(256, 320, device="cuda:0", memory_limit=0.01)


def test_blocks_become_small_only_where_nothing_else_is_left_to_give_up() -> None:
    def area(found: Plan) -> float:
        assert found.block is not None
        cut = tile_layout(3000, 3000, found.block, Halo(64, 64, 16))
        return sum(block.area for block in cut) / 3000**2

    least = 0.0
    for limit in (0.5 + 0.02 * number for number in range(40)):
        try:
            found = planned(3000, 3000, size=None, memory_limit=limit)
        except OutOfMemoryError:
            continue
        least = least or limit
        if found.block is not None:
            assert area(found) < (100 if found.config.history == 1 else 1.6)
    assert 0.5 < least < 1


def hundred_megapixels(limit: float) -> Plan:
    size = (10_000, 10_000)
    picture = torch.empty(1, 3, *size, device="meta")  # without values
    config = StyleConfig(
        network="compact", device="cpu", size=None, memory_limit=limit / GIB, precision="bfloat16", scales=1
    )
    return planner.prepare(RunInputs(picture, (picture[:, :, :64, :64],), (1.0,), None, size), config).plan


def test_a_hundred_megapixels_fit_in_eight_gigabytes() -> None:
    # Of which the program and the picture as it is handed in take one. Less would not do: it is refused.
    found = hundred_megapixels(7e9)

    assert found.memory_bytes <= found.memory_available == 7_000_000_000
    assert not found.keeps_content
    with pytest.raises(OutOfMemoryError):
        hundred_megapixels(3.5e9)


def test_without_limited_history_there_is_none_to_shorten() -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        planned(512, 512, memory_limit=0.01, optimizer="adam")

    assert "history" not in str(caught.value)


def test_a_memory_limit_that_nothing_fits_in_is_told_before_the_run() -> None:
    told = r"even in small blocks and with the shortest history.*smaller size.*memory limit"
    with pytest.raises(OutOfMemoryError, match=told):
        planned(512, 512, memory_limit=0.01)


def test_the_block_size_asked_for_is_taken() -> None:
    found = planned(200, 300, block_size=64)

    assert found.block == 64
    assert found.blocks > 10


def test_the_largest_block_is_planned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks of many shapes take memory for as many kernels, and many are kept, which is not what is asked for here.
    monkeypatch.setattr(memory_model, "_KERNEL", 0)
    monkeypatch.setattr(memory_model.Footprint, "budget", lambda *given: 0)

    def needed(side: int, block: int | None = None) -> int:
        return planned(side, side, size=None, block_size=block, memory_limit=100).memory_bytes

    # Of the same blocks, more pixels need more only for the optimiser's vectors.
    per_pixel = (needed(1280, 64) - needed(640, 64)) / (1280**2 - 640**2)
    # A block in the middle reads 64 pixels on either side of its core, one in a corner on one side.
    assert needed(512, 128) - per_pixel * 512**2 == pytest.approx(needed(256) - per_pixel * 256**2)
    assert needed(256, 128) - per_pixel * 256**2 == pytest.approx(needed(192) - per_pixel * 192**2)


def test_memory_to_spare_is_for_what_is_kept_of_blocks() -> None:
    def limited(gib: float) -> Plan:
        return planned(768, 768, size=None, block_size=256, memory_limit=gib, history_precision="float32")

    plenty = limited(100)
    some = limited(0.9 * plenty.memory_bytes / GIB)
    little = limited(0.8 * plenty.memory_bytes / GIB)

    assert little.config == some.config.changed(memory_limit=little.config.memory_limit)
    assert plenty.block == some.block == little.block == 256
    assert plenty.memory_bytes > some.memory_bytes > little.memory_bytes
    for found in (some, little):
        assert 0.9 * found.memory_available < found.memory_bytes <= found.memory_available


def test_blocks_as_large_as_the_picture_are_no_blocks() -> None:
    assert planned(200, 300, block_size=300).block is None


def test_without_limit_the_free_memory_of_the_device_is_planned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "choose", lambda name: DeviceInfo("cpu", "a device", 10 * GIB, 20 * GIB))

    found = planned()

    assert found.memory_bytes < found.memory_available < 10 * GIB
    assert found.device_name == "a device"


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"style_layers": {"relu9_1": 1.0}}, ConfigError, "no style layer 'relu9_1'"),
        ({"content_layers": {"rgb": 1.0}}, ConfigError, "no content layer 'rgb'"),
        ({"device": "cuda:77"}, DeviceError, "no device 'cuda:77'"),
        ({"memory_limit": 1e-6}, OutOfMemoryError, "MiB"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        planned(**fields)


def test_a_style_reconstruction_plans_no_content_layers() -> None:
    config = StyleConfig(network="compact", mode="style-reconstruction", device="cpu")

    found = plan(None, [np.zeros((40, 50), np.uint8)], config)

    assert found.config.content_layers is None
    assert found.sizes == ((40, 50),)


def test_a_content_reconstruction_needs_no_style() -> None:
    config = StyleConfig(network="compact", mode="content-reconstruction", device="cpu")

    found = plan(np.zeros((40, 50), np.uint8), [], config)

    assert found.config.style_layers is None


def test_a_run_that_starts_from_an_image_can_be_planned_without_it() -> None:
    assert planned(start="image").config.start is Start.IMAGE


def test_a_texture_that_starts_from_an_image_can_be_planned_without_it() -> None:
    config = StyleConfig(network="compact", mode="style-reconstruction", start="image", device="cpu")

    assert plan(None, [np.zeros((40, 50), np.uint8)], config).sizes == ((40, 50),)


def test_a_plan_is_told_where_regions_are() -> None:
    content, style = np.zeros((48, 64), np.uint8), np.zeros((20, 20), np.uint8)
    config = StyleConfig(network=Network.COMPACT, device="cpu", regions={1: 0})

    with pytest.raises(ConfigError, match="hand in the labels"):
        plan(content, [style], config)
    guided = plan(content, [style], config, labels=np.ones((48, 64), np.int32))

    assert guided.memory_bytes > plan(content, [style], config.changed(regions=None)).memory_bytes
