"""The lean forward and backward passes are those of plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.squeezenet import Fire

from napari_styletransfer.config import Network, Padding, Pooling
from napari_styletransfer.networks.architectures import COMPACT_PLAN, MEAN, STD, Backbone, backbone
from napari_styletransfer.nn import relu_mask
from napari_styletransfer.nn.frozen_network import FrozenNetwork, Recording, Tape
from napari_styletransfer.nn.pooling import SWAP_GAIN
from napari_styletransfer.nn.relu_mask import apply_relu_mask, pack_relu_mask
from napari_styletransfer.nn.workspace import Workspace

# The two trainings of VGG-19 have the same stages.
ALL = [network for network in Network if network not in (Network.AUTO, Network.VGG19_TORCHVISION)]
SMALL = (Network.COMPACT, Network.SQUEEZENET)
Tensors = dict[str, Tensor]
WeightsOf = Callable[[Network], Tensors]
ImageOf = Callable[..., Tensor]


def textbook(
    network: Network, tensors: Tensors, image: Tensor, pooling: Pooling, padding: Padding
) -> dict[str, Tensor]:
    """All named layers by torchvision's modules and torch's functions, differentiable."""
    normalised = (image - _column(MEAN, image)) / _column(STD, image)
    if network is Network.COMPACT:
        return _textbook_compact(tensors, normalised, pooling, padding)
    if network is Network.SQUEEZENET:
        return _textbook_squeezenet(tensors, normalised, pooling, padding)
    return _textbook_vgg(network, tensors, normalised, pooling, padding)


def _textbook_compact(tensors: Tensors, x: Tensor, pooling: Pooling, padding: Padding) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    group, number = 1, 1
    for item in COMPACT_PLAN:
        if item == "A":
            kind = "max" if pooling is Pooling.MAX else "average"
            x = _pooled(x, kind, 2, 2, False, 1 / SWAP_GAIN[2] if kind == "max" else 1.0)
            group, number = group + 1, 1
            continue
        weight, bias = (tensors[f"conv{group}_{number}.{part}"].to(x.dtype) for part in ("weight", "bias"))
        x = F.conv2d(_bordered(x, padding), weight, bias).relu()
        found[f"relu{group}_{number}"] = x
        number += 1
    return found


def _textbook_vgg(
    network: Network, tensors: Tensors, x: Tensor, pooling: Pooling, padding: Padding
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    group, number = 1, 1
    for module in _torchvision(network, tensors, x.dtype):
        if isinstance(module, nn.Conv2d):
            x = F.conv2d(_bordered(x, padding), module.weight, module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            x = module(x)
        elif isinstance(module, nn.ReLU):
            x = x.relu()
            found[f"relu{group}_{number}"] = x
            number += 1
        else:
            x = _swapped(x, module, pooling)
            group, number = group + 1, 1
    return found


def _textbook_squeezenet(tensors: Tensors, x: Tensor, pooling: Pooling, padding: Padding) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    number = 2
    for module in _torchvision(Network.SQUEEZENET, tensors, x.dtype):
        if isinstance(module, Fire):
            squeezed = module.squeeze(x).relu()
            wide = F.conv2d(_bordered(squeezed, padding), module.expand3x3.weight, module.expand3x3.bias)
            x = torch.cat([module.expand1x1(squeezed).relu(), wide.relu()], dim=1)
            found[f"fire{number}"] = x
            number += 1
        elif isinstance(module, nn.Conv2d):
            x = module(x)
        elif isinstance(module, nn.ReLU):
            x = x.relu()
            found["relu1"] = x
        else:
            x = _swapped(x, module, pooling)
    return found


def _torchvision(network: Network, tensors: Tensors, dtype: torch.dtype) -> nn.Sequential:
    with torch.device("meta"):
        features = getattr(torchvision.models, network.value)().features
    own = {key.removeprefix("features."): value.to(dtype) for key, value in tensors.items()}
    # Up to the last module there are weights for, and its ReLU.
    features = features[: max(int(key.partition(".")[0]) for key in own) + 2]
    counters = {key: torch.tensor(0) for key in features.state_dict() if key.endswith("num_batches_tracked")}
    features.load_state_dict({**own, **counters}, assign=True)
    return features.eval().requires_grad_(False)


def _swapped(x: Tensor, module: nn.MaxPool2d, pooling: Pooling) -> Tensor:
    average = pooling is Pooling.AVERAGE
    gain = SWAP_GAIN[module.kernel_size] if average else 1.0
    return _pooled(x, "average" if average else "max", module.kernel_size, module.stride, module.ceil_mode, gain)


def _pooled(x: Tensor, kind: str, kernel: int, stride: int, ceil: bool, gain: float) -> Tensor:
    pool = F.avg_pool2d if kind == "average" else F.max_pool2d
    return gain * pool(x, kernel, stride, ceil_mode=ceil)


def _bordered(x: Tensor, padding: Padding) -> Tensor:
    if padding is Padding.ZERO:
        return F.pad(x, (1, 1, 1, 1))
    for side, border in ((x.shape[2], (0, 0, 1, 1)), (x.shape[3], (1, 1, 0, 0))):
        # A single row or column has no neighbour to be reflected.
        x = F.pad(x, border, mode="replicate" if side == 1 else padding.value)
    return x


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    # The engine keeps these constants in float32.
    return torch.tensor(values).to(like.dtype).view(1, 3, 1, 1)


@lru_cache(maxsize=64)
def _slopes(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


def textbook_gradient(layers: dict[str, Tensor], image: Tensor) -> Tensor:
    """Gradient of Σ (F·slope + F²/2) over the given layers."""
    total = sum((f * _slopes(tuple(f.shape), f.dtype) + f.square() / 2).sum() for f in layers.values())
    assert isinstance(total, Tensor)
    (gradient,) = torch.autograd.grad(total, image)
    return gradient


def lean(net: FrozenNetwork, image: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Feature maps and the same gradient by the engine."""
    maps: dict[str, Tensor] = {}
    with torch.no_grad():
        tape = net.forward(image, lambda name, row, feature_map: maps.update({name: feature_map.clone()}), record=True)
        return maps, net.backward(tape, image, _seed)


def _seed(name: str, row: int, feature_map: Tensor, gradient: Tensor) -> None:
    slopes = _slopes(tuple(feature_map.shape), torch.float64)
    gradient.add_(slopes.to(feature_map.dtype)).add_(feature_map)


@pytest.mark.parametrize("padding", Padding)
@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("network", ALL)
def test_features_and_gradient_are_those_of_autograd(
    network: Network, pooling: Pooling, padding: Padding, weights_of: WeightsOf, random_image: ImageOf
) -> None:
    # Three poolings deep: the whole VGGs would take long at each of the nine settings.
    cut = backbone(network) if network in SMALL else backbone(network).truncated({"relu4_1"})
    wanted = (*cut.layers[::3], cut.layers[-1])

    _check_against_autograd(cut, weights_of(network), wanted, random_image(37, 22), pooling, padding)


@pytest.mark.parametrize("network", [network for network in ALL if network not in SMALL])
def test_the_gradient_is_that_of_autograd_through_the_whole_depth(
    network: Network, weights_of: WeightsOf, random_image: ImageOf
) -> None:
    whole = backbone(network).truncated({backbone(network).layers[-1]})
    wanted = {"relu1_1", "relu4_2", whole.layers[-1]}

    _check_against_autograd(whole, weights_of(network), wanted, random_image(20, 33), Pooling.AVERAGE, Padding.REFLECT)


def _check_against_autograd(
    cut: Backbone, tensors: Tensors, wanted: Collection[str], image: Tensor, pooling: Pooling, padding: Padding
) -> None:
    image.requires_grad_()
    tensors = {key: tensors[key] for key in cut.state_dict_shapes()}
    expected = textbook(cut.network, tensors, image, pooling, padding)
    net = FrozenNetwork(cut, tensors, wanted, pooling=pooling, padding=padding, dtype=torch.float64)

    maps, gradient = lean(net, image.detach())

    assert maps.keys() == set(wanted)
    for name in maps:
        assert _difference(maps[name], expected[name].detach()) < 1e-6, name
    assert _difference(gradient, textbook_gradient({name: expected[name] for name in wanted}, image)) < 1e-5


@pytest.mark.parametrize("network", ALL)
def test_every_named_layer_is_the_same_layer_of_torchvision(
    network: Network, weights_of: WeightsOf, random_image: ImageOf
) -> None:
    image = random_image(35, 44, dtype=torch.float32)
    tensors = weights_of(network)
    maps: dict[str, Tensor] = {}
    net = FrozenNetwork(
        backbone(network), tensors, backbone(network).layers, pooling=Pooling.NATIVE, padding=Padding.ZERO
    )

    net.forward(image, lambda name, row, feature_map: maps.update({name: feature_map.clone()}))

    expected = textbook(network, tensors, image, Pooling.NATIVE, Padding.ZERO)
    assert list(maps) == list(expected)
    for name, feature_map in maps.items():
        assert _difference(feature_map, expected[name]) < 1e-4, name


@pytest.mark.parametrize("network", [Network.SQUEEZENET, Network.VGG16_BN])
def test_the_last_layer_is_what_torchvision_itself_computes(
    network: Network, weights_of: WeightsOf, random_image: ImageOf
) -> None:
    image = random_image(35, 44, dtype=torch.float32)
    tensors = weights_of(network)
    maps: dict[str, Tensor] = {}
    cut = backbone(network).truncated({backbone(network).layers[-1]})
    net = FrozenNetwork(cut, tensors, cut.layers[-1:], pooling=Pooling.NATIVE, padding=Padding.ZERO)

    net.forward(image, lambda name, row, feature_map: maps.update({name: feature_map.clone()}))

    whole = _torchvision(network, tensors, torch.float32)((image - _column(MEAN, image)) / _column(STD, image))
    assert _difference(maps[cut.layers[-1]], whole) < 1e-4


@pytest.mark.parametrize("size", [(16, 16), (16, 31), (17, 40)])
@pytest.mark.parametrize("padding", Padding)
def test_the_smallest_images_work_too(
    size: tuple[int, int], padding: Padding, compact: Backbone, compact_weights: Tensors, random_image: ImageOf
) -> None:
    image = random_image(*size).requires_grad_()
    expected = textbook(Network.COMPACT, compact_weights, image, Pooling.AVERAGE, padding)
    net = FrozenNetwork(compact, compact_weights, compact.layers, padding=padding, dtype=torch.float64)

    _, gradient = lean(net, image.detach())

    assert _difference(gradient, textbook_gradient(expected, image)) < 1e-5


@pytest.mark.parametrize("network", [Network.COMPACT, Network.SQUEEZENET])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
def test_narrow_number_formats_stay_close_to_the_exact_gradient(
    network: Network, dtype: torch.dtype, tolerance: float, weights_of: WeightsOf, random_image: ImageOf
) -> None:
    image = random_image(33, 40, dtype=torch.float32)
    exact = image.double().requires_grad_()
    layers = textbook(network, weights_of(network), exact, Pooling.AVERAGE, Padding.REFLECT)
    net = FrozenNetwork(backbone(network), weights_of(network), backbone(network).layers, dtype=dtype)

    _, gradient = lean(net, image)

    assert gradient.dtype is torch.float32
    assert _difference(gradient, textbook_gradient(layers, exact)) < tolerance


def test_the_same_network_serves_images_of_different_sizes_in_turn(
    compact: Backbone, compact_weights: Tensors, random_image: ImageOf
) -> None:
    shared = FrozenNetwork(compact, compact_weights, compact.layers)
    for size in ((48, 20), (16, 16), (40, 41)):
        image = random_image(*size, dtype=torch.float32)
        fresh = FrozenNetwork(compact, compact_weights, compact.layers)
        assert torch.equal(lean(shared, image)[1], lean(fresh, image)[1])


@pytest.mark.parametrize("padding", Padding)
@pytest.mark.parametrize("pooling", [Pooling.AVERAGE, Pooling.MAX])
@pytest.mark.parametrize("size", [(147, 40), (130, 33)])
def test_bands_of_rows_give_what_the_whole_maps_give(
    size: tuple[int, int],
    pooling: Pooling,
    padding: Padding,
    compact: Backbone,
    compact_weights: Tensors,
    random_image: ImageOf,
) -> None:
    image = random_image(*size)
    found = []
    for band_bytes in (1 << 30, 1 << 14):
        net = FrozenNetwork(
            compact, compact_weights, compact.layers, pooling=pooling, padding=padding, dtype=torch.float64
        )
        net.band_bytes = band_bytes
        pieces: dict[str, list[Tensor]] = {}
        firsts: dict[str, list[int]] = {}

        def visit(
            name: str,
            row: int,
            feature_map: Tensor,
            pieces: dict[str, list[Tensor]] = pieces,
            firsts: dict[str, list[int]] = firsts,
        ) -> None:
            pieces.setdefault(name, []).append(feature_map.clone())
            firsts.setdefault(name, []).append(row)

        recording = net.forward(image, visit, record=True)
        counts = [len(segment) for segment in recording.segments]
        gradient = net.backward(recording, image, _seed_by_row)
        for name, rows in pieces.items():
            heights = [piece.shape[2] for piece in rows]
            assert firsts[name] == [sum(heights[:index]) for index in range(len(heights))]
        found.append((counts, {name: torch.cat(rows, dim=2) for name, rows in pieces.items()}, gradient))

    (whole, maps, gradient), (cut, same_maps, same_gradient) = found
    assert set(whole) == {1}
    assert min(cut[:2]) > 2
    for name in maps:
        torch.testing.assert_close(same_maps[name], maps[name])
    torch.testing.assert_close(same_gradient, gradient)


def _seed_by_row(name: str, row: int, feature_map: Tensor, gradient: Tensor) -> None:
    """Add a gradient that depends on the features and on where they lie."""
    rows = torch.arange(row, row + feature_map.shape[2], dtype=feature_map.dtype)
    gradient.add_(feature_map.square()).add_(0.1 * rows.view(-1, 1))


def test_the_image_is_left_as_it_was(compact: Backbone, compact_weights: Tensors, random_image: ImageOf) -> None:
    image = random_image(24, 24, dtype=torch.float32)
    before = image.clone()

    lean(FrozenNetwork(compact, compact_weights, compact.layers), image)

    assert torch.equal(image, before)


def test_the_first_stage_is_computed_again_and_never_kept(
    compact: Backbone, compact_weights: Tensors, random_image: ImageOf
) -> None:
    net = FrozenNetwork(compact, compact_weights, {"relu1_1", "relu2_1"})
    image = random_image(32, 32, dtype=torch.float32)
    tape = net.forward(image, lambda name, row, feature_map: None, record=True)
    seen: dict[str, Tensor] = {}
    visited: dict[str, Tensor] = {}
    net.forward(image, lambda name, row, feature_map: visited.update({name: feature_map.clone()}))

    shallow, deep = _tapes(tape)[:2]
    assert not shallow.maps
    assert set(shallow.relu_masks) == {1}
    assert set(deep.maps) == {"relu2_1"}
    net.backward(tape, image, lambda name, row, feature_map, gradient: seen.update({name: feature_map.clone()}))
    assert torch.equal(seen["relu1_1"], visited["relu1_1"])


def test_the_tape_holds_one_bit_for_each_value_of_a_layer_without_a_loss(
    compact: Backbone, compact_weights: Tensors, random_image: ImageOf
) -> None:
    net = FrozenNetwork(compact, compact_weights, {"relu5_1"})

    tape = net.forward(random_image(64, 64, dtype=torch.float32), lambda name, row, feature_map: None, record=True)

    assert [name for one in _tapes(tape) for name in one.maps] == ["relu5_1"]
    kept = sum(bits.numel() for one in _tapes(tape) for bits in one.relu_masks.values())
    # Channels of the stages between the first and the last, by the area they have.
    values = 64 * 64 * (16 + (32 + 32) / 4 + (64 * 3) / 16 + (128 * 3) / 64)
    assert kept == values / 8


def test_the_tape_is_used_up_by_the_backward_pass(
    compact: Backbone, compact_weights: Tensors, random_image: ImageOf
) -> None:
    net = FrozenNetwork(compact, compact_weights, compact.layers, pooling=Pooling.MAX)
    image = random_image(32, 32, dtype=torch.float32)
    tape = net.forward(image, lambda name, row, feature_map: None, record=True)

    tapes = _tapes(tape)

    net.backward(tape, image, lambda name, row, feature_map, gradient: None)

    assert len(tapes) == 5
    for one in tapes:
        assert not one.maps
        assert not one.relu_masks
        assert not one.winners


def test_layers_are_visited_from_shallow_to_deep_and_seeded_from_deep_to_shallow(
    compact: Backbone, compact_weights: Tensors, random_image: ImageOf
) -> None:
    wanted = ("relu1_1", "relu2_2", "relu4_1")
    net = FrozenNetwork(compact.truncated(set(wanted)), compact_weights, wanted)
    visited: list[str] = []
    seeded: list[str] = []

    image = random_image(24, 24, dtype=torch.float32)
    tape = net.forward(image, lambda name, row, _: visited.append(name), record=True)
    net.backward(tape, image, lambda name, row, _, gradient: seeded.append(name))

    assert tuple(visited) == wanted
    assert tuple(seeded) == wanted[::-1]


def test_without_any_loss_layer_the_gradient_is_zero(
    compact: Backbone, compact_weights: Tensors, random_image: ImageOf
) -> None:
    net = FrozenNetwork(compact.truncated(set()), {}, ())
    image = random_image(9, 9, dtype=torch.float32)

    tape = net.forward(image, lambda name, row, feature_map: None, record=True)

    assert torch.equal(
        net.backward(tape, image, lambda name, row, feature_map, gradient: None), torch.zeros_like(image)
    )


@pytest.mark.parametrize("network", ALL)
def test_the_predicted_sizes_are_those_of_the_feature_maps(
    network: Network, weights_of: WeightsOf, random_image: ImageOf
) -> None:
    cut = backbone(network).truncated({backbone(network).layers[-1]})
    net = FrozenNetwork(cut, weights_of(network), cut.layers)
    sizes: dict[str, tuple[int, int]] = {}

    net.forward(
        random_image(37, 50, dtype=torch.float32),
        lambda name, row, feature_map: sizes.update({name: (feature_map.shape[2], feature_map.shape[3])}),
    )

    assert net.layer_sizes(37, 50) == sizes


@pytest.mark.parametrize("in_few_programs", [False, True])
@given(channels=st.integers(1, 9), height=st.integers(1, 6), width=st.integers(1, 6), seed=st.integers(0, 2**16))
def test_signs_survive_being_packed_into_bits(
    in_few_programs: bool, channels: int, height: int, width: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    feature_map = torch.randn(1, height, width, channels, generator=generator).relu().permute(0, 3, 1, 2)
    gradient = torch.randn(1, height, width, channels, generator=generator).permute(0, 3, 1, 2)
    expected = gradient * (feature_map > 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relu_mask, "_is_launch_bound", lambda device: in_few_programs)
        bits = pack_relu_mask(feature_map, Workspace())
        apply_relu_mask(gradient, bits)

    assert bits.dtype is torch.uint8
    assert bits.numel() == -(-feature_map.numel() // 8)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("kernel", [2, 3])
def test_swapped_pooling_makes_up_for_the_smaller_values_of_an_average(kernel: int) -> None:
    x = torch.randn(1, 8, 101, 101, generator=torch.Generator().manual_seed(0))
    # Neighbouring activations of trained networks are alike: smoothed noise, cut at zero.
    x = F.avg_pool2d(x, 2, 1).relu()

    bare = float(F.max_pool2d(x, kernel, 2).mean() / F.avg_pool2d(x, kernel, 2).mean())

    assert 1 / bare < bare / SWAP_GAIN[kernel] < bare


def _tapes(recording: Recording) -> list[Tape]:
    return [tape for segment in recording.segments for _, tape in segment]


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())
