"""Blocks cover an image exactly once, and working in them changes neither losses nor gradients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_styletransfer.config import Network, Normalization, Padding, Pooling
from napari_styletransfer.losses.objective import Objective, Tiling
from napari_styletransfer.losses.terms import Evaluation, LossWeights, StyleTarget
from napari_styletransfer.networks.architectures import RGB, Backbone, Conv, ReceptiveField, backbone, receptive_fields
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.tiling.tiled_network import Stopped, TiledNetwork
from napari_styletransfer.tiling.tiles import Halo, Span, Tile, tile_layout

Tensors = dict[str, Tensor]
ImageOf = Callable[..., Tensor]
WeightsOf = Callable[[Network], Tensors]

halos = st.builds(
    lambda stride, before, after: Halo(before * stride, after * stride, stride),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.integers(0, 5),
    st.integers(0, 5),
)


@given(size=st.integers(1, 500), core=st.one_of(st.none(), st.integers(1, 300)), halo=halos)
def test_the_cores_along_an_axis_join_without_gap_or_overlap(size: int, core: int | None, halo: Halo) -> None:
    spans = rows(tile_layout(size, 1, core, halo))

    assert spans[0].core.start == 0
    assert spans[-1].core.stop == size
    assert all(one.core.stop == other.core.start for one, other in pairwise(spans))
    assert all(span.core.start < span.core.stop for span in spans)
    assert [span.last for span in spans] == [False] * (len(spans) - 1) + [True]


@given(size=st.integers(1, 500), core=st.integers(1, 300), halo=halos)
def test_a_block_reads_its_core_and_the_halo_as_far_as_the_image_goes(size: int, core: int, halo: Halo) -> None:
    for span in rows(tile_layout(size, 1, core, halo)):
        assert span.outer == slice(max(0, span.core.start - halo.before), min(size, span.core.stop + halo.after))
        assert span.outer.start % halo.stride == 0
        assert span.core.start % halo.stride == 0


@given(size=st.integers(1, 500), core=st.integers(1, 300), halo=halos)
def test_cores_are_no_longer_than_asked_but_for_the_stride(size: int, core: int, halo: Halo) -> None:
    lengths = [span.core.stop - span.core.start for span in rows(tile_layout(size, 1, core, halo))]

    assert max(lengths) < core + 2 * halo.stride
    assert len(lengths) == 1 or min(lengths) >= halo.stride


@given(height=st.integers(1, 90), width=st.integers(1, 90), core=st.integers(1, 60), halo=halos)
def test_every_pixel_belongs_to_one_core(height: int, width: int, core: int, halo: Halo) -> None:
    covered = torch.zeros(height, width, dtype=torch.int64)
    for block in tile_layout(height, width, core, halo):
        covered[block.rows.core, block.columns.core] += 1
        outer = block.outer
        assert block.area == covered[outer].numel()

    assert bool((covered == 1).all())


@pytest.mark.parametrize("network", [Network.COMPACT, Network.SQUEEZENET, Network.VGG19])
@given(data=st.data())
def test_every_feature_belongs_to_one_core(network: Network, data: st.DataObject) -> None:
    cut = backbone(network).truncated({data.draw(st.sampled_from(backbone(network).layers))})
    found = receptive_fields(cut)
    halo = Halo.for_layers(found.values())
    size = data.draw(st.integers(48, 400))
    spans = rows(tile_layout(size, 1, data.draw(st.integers(16, 200)), halo))
    whole = sizes(cut, size)
    local = [sizes(cut, span.outer.stop - span.outer.start) for span in spans]

    for name, reach in found.items():
        owned = [position for span in spans for position in positions(span.target_of(reach, whole[name]))]
        assert owned == list(range(whole[name])), name
        for span, own in zip(spans, local, strict=True):
            core, target = span.core_of(reach, whole[name]), span.target_of(reach, whole[name])
            assert core.stop - core.start == target.stop - target.start
            assert core.stop <= own[name], "the core lies within what the block computes"


@given(reach=st.builds(ReceptiveField, st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 80), st.integers(0, 80)))
def test_the_halo_holds_all_that_the_features_of_a_core_see(reach: ReceptiveField) -> None:
    halo = Halo.for_layers([reach])
    core = slice(10 * reach.stride, 13 * reach.stride)

    assert core.start - halo.before <= 10 * reach.stride - reach.before
    assert core.stop + halo.after > 12 * reach.stride + reach.after
    assert halo.before % halo.stride == 0
    assert halo.after % halo.stride == 0


def test_without_layers_there_is_no_halo() -> None:
    assert Halo.for_layers(()) == Halo(0, 0, 1)


def test_the_halo_of_vgg19_to_relu5_1_is_eighty_pixels() -> None:
    reach = receptive_fields(backbone(Network.VGG19))["relu5_1"]

    assert Halo.for_layers([reach]) == Halo(80, 80, 16)


def test_no_core_size_means_one_block_of_the_whole_image() -> None:
    (block,) = tile_layout(300, 200, None, Halo(64, 64, 16))

    assert block.outer == (slice(0, 300), slice(0, 200))


def test_an_image_smaller_than_a_block_is_one_block() -> None:
    assert len(tile_layout(60, 70, 70, Halo(16, 16, 4))) == 1


SHALLOW = {
    Network.COMPACT: ("relu2_1", ("relu1_2", "relu2_2", RGB)),
    Network.SQUEEZENET: ("fire3", ("relu1", "fire2", RGB)),
    Network.VGG16: ("relu2_1", ("relu1_2", "relu2_2", RGB)),
    Network.VGG16_BN: ("relu2_1", ("relu1_1", "relu2_2", RGB)),
}


@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("size", [(61, 83), (64, 64), (20, 90)])
def test_blocks_give_the_loss_and_gradient_of_the_whole_image(
    normalization: Normalization, size: tuple[int, int], compact_weights: Tensors, random_image: ImageOf
) -> None:
    content, style = SHALLOW[Network.COMPACT]

    whole, in_blocks, count = both(
        backbone(Network.COMPACT), compact_weights, content, style, size, 16, random_image, normalization
    )

    assert count > 4
    assert_equal(whole, in_blocks)


@pytest.mark.parametrize("network", [Network.SQUEEZENET, Network.VGG16, Network.VGG16_BN])
def test_blocks_are_exact_for_every_network(network: Network, weights_of: WeightsOf, random_image: ImageOf) -> None:
    content, style = SHALLOW[network]

    whole, in_blocks, count = both(
        backbone(network), weights_of(network), content, style, (45, 71), 16, random_image, Normalization.RELATIVE
    )

    assert count > 4
    assert_equal(whole, in_blocks)


@pytest.mark.parametrize("padding", Padding)
@pytest.mark.parametrize("pooling", [Pooling.AVERAGE, Pooling.MAX])
def test_blocks_are_exact_for_every_pooling_and_padding(
    padding: Padding, pooling: Pooling, compact_weights: Tensors, random_image: ImageOf
) -> None:
    whole, in_blocks, _ = both(
        backbone(Network.COMPACT),
        compact_weights,
        "relu2_2",
        ("relu2_1", "relu3_1"),
        (75, 58),
        24,
        random_image,
        Normalization.RELATIVE,
        pooling=pooling,
        padding=padding,
    )

    assert_equal(whole, in_blocks)


def test_blocks_are_exact_at_the_deepest_layer(compact_weights: Tensors, random_image: ImageOf) -> None:
    whole, in_blocks, count = both(
        backbone(Network.COMPACT),
        compact_weights,
        "relu4_2",
        ("relu1_1", "relu5_1", RGB),
        (161, 109),
        64,
        random_image,
        Normalization.RELATIVE,
    )

    assert count == 6
    assert_equal(whole, in_blocks)


def test_gram_matrices_and_feature_maps_gathered_in_blocks_are_those_of_the_whole_image(
    compact_weights: Tensors, random_image: ImageOf
) -> None:
    layers = {"relu1_2": 1.0, "relu3_2": 1.0}
    cut = backbone(Network.COMPACT).truncated(set(layers))
    net = FrozenNetwork(cut, compact_weights, layers, dtype=torch.float64)
    reach = {name: receptive_fields(cut)[name] for name in layers}
    image = random_image(70, 99)
    whole = TiledNetwork(net, reach, (70, 99), tile_layout(70, 99, None, Halo.for_layers(reach.values())))
    pieces = TiledNetwork(net, reach, (70, 99), tile_layout(70, 99, 32, Halo.for_layers(reach.values())))

    for one, other in (
        (whole.gram_means(image, {**layers, RGB: 1.0}), pieces.gram_means(image, {**layers, RGB: 1.0})),
        (whole.feature_maps(image, layers), pieces.feature_maps(image, layers)),
    ):
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(other[name], one[name], rtol=1e-10, atol=1e-12)


def test_an_objective_can_change_its_blocks_under_way(compact_weights: Tensors, random_image: ImageOf) -> None:
    layers = {"relu1_1": 1.0, "relu2_1": 1.0}
    cut = backbone(Network.COMPACT).truncated(set(layers))
    reach = {name: receptive_fields(cut)[name] for name in layers}
    objective = build(cut, compact_weights, reach, "relu2_1", tuple(layers), (40, 56), None, random_image)
    image = random_image(40, 56, seed=9)
    before = objective(image)

    objective.set_tiles(lambda size: tile_layout(*size, 16, Halo.for_layers(reach.values())))

    assert_equal(before, objective(image))


@pytest.mark.parametrize("pooling", [Pooling.AVERAGE, Pooling.MAX])
def test_blocks_that_are_kept_go_forward_once_and_give_the_same(
    pooling: Pooling, compact_weights: Tensors, random_image: ImageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, cut = _in_blocks(compact_weights, random_image, pooling=pooling)
    image = random_image(*IN_BLOCKS, seed=9)
    passes = _counted_passes(monkeypatch)
    before, without = objective(image), len(passes)
    forwards, evaluations = [], []

    for budget in (0, 100_000, 10**9):
        objective.set_tiles(cut, budget)
        passes.clear()
        evaluations.append(objective(image))
        forwards.append(len(passes))

    blocks = len(cut(IN_BLOCKS))
    # What one block needs is there anyway.
    assert forwards[0] == without == 2 * blocks - 1
    assert blocks < forwards[1] < forwards[0]
    assert forwards[2] == blocks
    for evaluation in evaluations:
        assert evaluation.losses == pytest.approx(before.losses, rel=1e-12)
        assert_equal(before, evaluation)


def test_what_is_kept_of_blocks_stays_within_its_budget_and_does_not_grow(
    compact_weights: Tensors, random_image: ImageOf
) -> None:
    objective, cut = _in_blocks(compact_weights, random_image)
    workspace = objective.tiled.network.workspace()
    image, kept = random_image(*IN_BLOCKS, seed=9), []

    for budget in (100_000, 10**9):
        objective.set_tiles(cut, budget)
        taken = []
        for _ in range(3):
            most = 0

            def measured() -> bool:
                nonlocal most
                most = max(most, workspace.bytes)
                return False

            objective.tiled._should_stop = measured
            objective(image)
            taken.append((most, sum(chunk.numel() for chunk in workspace._chunks)))
        assert len(set(taken[1:])) == 1
        kept.append(taken[-1][0])
    assert 50_000 < kept[0] <= 100_000 < kept[1]


@pytest.mark.parametrize("after", [2, 8])
def test_nothing_is_kept_of_blocks_once_a_run_is_stopped(
    after: int, compact_weights: Tensors, random_image: ImageOf
) -> None:
    asked = iter(range(100))
    stop = False
    objective, cut = _in_blocks(compact_weights, random_image, should_stop=lambda: stop and next(asked) >= after)
    objective.set_tiles(cut, 10**9)
    stop = True

    with pytest.raises(Stopped):
        objective(random_image(*IN_BLOCKS))

    assert objective.tiled.network.workspace().bytes == 0


IN_BLOCKS = (40, 56)


def _in_blocks(tensors: Tensors, random_image: ImageOf, **options: Any) -> tuple[Objective, Tiling]:
    """An objective that works in six blocks, and what cuts them."""
    layers = {"relu1_1": 1.0, "relu2_1": 1.0}
    cut = backbone(Network.COMPACT).truncated(set(layers))
    reach = {name: receptive_fields(cut)[name] for name in layers}
    objective = build(cut, tensors, reach, "relu2_1", tuple(layers), IN_BLOCKS, 20, random_image, **options)
    return objective, lambda size: tile_layout(*size, 20, Halo.for_layers(reach.values()))


def _counted_passes(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each forward pass from now on."""
    passes: list[None] = []
    forward = FrozenNetwork.forward

    def counted(net: FrozenNetwork, *args: Any, **kwargs: Any) -> Any:
        passes.append(None)
        return forward(net, *args, **kwargs)

    monkeypatch.setattr(FrozenNetwork, "forward", counted)
    return passes


def both(
    network: Backbone,
    tensors: Tensors,
    content: str,
    style: tuple[str, ...],
    size: tuple[int, int],
    core: int,
    random_image: ImageOf,
    normalization: Normalization,
    pooling: Pooling = Pooling.AVERAGE,
    padding: Padding = Padding.REFLECT,
) -> tuple[Evaluation, Evaluation, int]:
    """The same evaluation as a whole and in blocks, and the number of blocks."""
    named = {content, *style} - {RGB}
    cut = network.truncated(named)
    reach = {name: receptive_fields(cut)[name] for name in named}
    arguments = (cut, tensors, reach, content, style, size)
    image = random_image(*size, seed=5) * 1.3 - 0.1
    whole = build(*arguments, None, random_image, normalization, pooling, padding)(image)
    pieces = build(*arguments, core, random_image, normalization, pooling, padding)(image)
    return whole, pieces, len(tile_layout(*size, core, Halo.for_layers(reach.values())))


def build(
    cut: Backbone,
    tensors: Tensors,
    reach: dict[str, ReceptiveField],
    content: str,
    style: tuple[str, ...],
    size: tuple[int, int],
    core: int | None,
    random_image: ImageOf,
    normalization: Normalization = Normalization.RELATIVE,
    pooling: Pooling = Pooling.AVERAGE,
    padding: Padding = Padding.REFLECT,
    should_stop: Callable[[], bool] = bool,
) -> Objective:
    """An objective with content, two styles of other sizes, and total variation, in float64."""
    net = FrozenNetwork(cut, tensors, reach, pooling=pooling, padding=padding, dtype=torch.float64)
    halo = Halo.for_layers(reach.values())
    weights = {name: 1.0 + index for index, name in enumerate(style)}
    styles = []
    for seed, (height, width) in enumerate(((50, 43), (48, 77)), 1):
        tiled = TiledNetwork(net, reach, (height, width), tile_layout(height, width, core, halo))
        styles.append(StyleTarget(tiled.gram_means(random_image(height, width, seed), weights), 1 / seed))
    terms = LossWeights({content: 1.0}, weights, 0.3, 1.7, 0.2, normalization)
    blocks = tile_layout(*size, core, halo)
    return Objective(
        net, reach, terms, size, blocks, styles=styles, content=random_image(*size, seed=3), should_stop=should_stop
    )


def assert_equal(one: Evaluation, other: Evaluation) -> None:
    assert one.losses == pytest.approx(other.losses, rel=1e-10)
    assert one.layers == pytest.approx(other.layers, rel=1e-10)
    assert float((one.gradient - other.gradient).norm() / one.gradient.norm()) < 1e-10
    # Also where the gradient is small: no seam hides in the norm of all.
    torch.testing.assert_close(one.gradient, other.gradient, rtol=1e-6, atol=1e-9 * float(one.gradient.abs().max()))


def rows(blocks: tuple[Tile, ...]) -> list[Span]:
    return [block.rows for block in blocks]


def positions(span: slice) -> range:
    return range(span.start, span.stop)


def sizes(cut: Backbone, side: int) -> dict[str, int]:
    found = {}
    for stage in cut.stages:
        side = stage.out_size(side)
        if isinstance(stage, Conv) and stage.name:
            found[stage.name] = side
    return found
