"""The networks are torchvision's, with the papers' names for their layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.squeezenet import Fire

from napari_styletransfer.config import Network
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.networks.architectures import (
    COMPACT_PLAN,
    RGB,
    Backbone,
    Branch,
    Conv,
    Pool,
    ReceptiveField,
    Stage,
    backbone,
    fold_batchnorm,
    receptive_fields,
)

ALL = [network for network in Network if network is not Network.AUTO]
TORCHVISIONS = [network for network in ALL if network is not Network.COMPACT]
"""Networks with an architecture of torchvision's."""

# Index of the convolution within torchvision's `features`, from the papers' tables of layers.
VGG19 = {
    "relu1_1": 0,
    "relu1_2": 2,
    "relu2_1": 5,
    "relu2_2": 7,
    "relu3_1": 10,
    "relu3_4": 16,
    "relu4_1": 19,
    "relu4_2": 21,
    "relu4_4": 25,
    "relu5_1": 28,
    "relu5_4": 34,
}
VGG16 = {"relu1_1": 0, "relu2_1": 5, "relu3_1": 10, "relu3_3": 14, "relu4_2": 19, "relu5_1": 24, "relu5_3": 28}
VGG16_BN = {"relu1_2": 3, "relu2_2": 10, "relu3_3": 20, "relu4_3": 30, "relu5_3": 40}


def torchvisions(network: Network) -> nn.Module:
    """Return torchvision's network of the same architecture, without values."""
    with torch.device("meta"):
        model = getattr(torchvision.models, network.value.removesuffix("_torchvision"))()
    assert isinstance(model, nn.Module)
    return model


def described(network: Network) -> list[Stage]:
    """Return the stages as torchvision's modules define them, with the layers' names left out."""
    found: list[Stage] = []
    for index, module in enumerate(torchvisions(network).features):
        key = f"features.{index}"
        if isinstance(module, nn.Conv2d):
            found.append(convolution((key, module)))
        elif isinstance(module, nn.BatchNorm2d):
            assert module.eps == 1e-5
            last = found[-1]
            assert isinstance(last, Conv)
            (branch,) = last.branches
            found[-1] = replace(last, branches=(replace(branch, norm=key),))
        elif isinstance(module, nn.MaxPool2d):
            assert (module.padding, module.dilation) == (0, 1)
            found.append(Pool("max", module.kernel_size, module.stride, module.ceil_mode))
        elif isinstance(module, Fire):
            wide = ((f"{key}.expand1x1", module.expand1x1), (f"{key}.expand3x3", module.expand3x3))
            found += [convolution((f"{key}.squeeze", module.squeeze)), convolution(*wide)]
        else:
            assert isinstance(module, nn.ReLU)
    return found


def convolution(*branches: tuple[str, nn.Conv2d]) -> Conv:
    """Return the stage of convolutions that see the same input."""
    for _, module in branches:
        # Squares, with as much padding as keeps the borders of all branches together, one group, and a bias.
        assert len({*module.kernel_size}) == len({*module.stride}) == len({*module.padding}) == 1
        assert (module.dilation, module.groups, module.padding_mode) == ((1, 1), 1, "zeros")
        assert module.bias is not None
        assert module.stride == branches[0][1].stride
        assert module.padding[0] in (0, module.kernel_size[0] // 2)
    own = tuple(Branch(key, None, m.in_channels, m.out_channels, m.kernel_size[0]) for key, m in branches)
    stride, pad = branches[0][1].stride[0], max(module.padding[0] for _, module in branches)
    return Conv(None, own, stride, pad)


def stage(network: Backbone, name: str) -> Conv:
    (found,) = [stage for stage in network.stages if isinstance(stage, Conv) and stage.name == name]
    return found


@pytest.mark.parametrize("network", TORCHVISIONS)
def test_the_stages_of_a_network_are_those_of_torchvision(network: Network) -> None:
    ours = [replace(stage, name=None) if isinstance(stage, Conv) else stage for stage in backbone(network).stages]

    assert ours == described(network)


def test_the_two_trainings_of_vgg19_are_of_one_architecture() -> None:
    original, other = backbone(Network.VGG19), backbone(Network.VGG19_TORCHVISION)

    assert replace(original, network=other.network) == other


@pytest.mark.parametrize(
    ("network", "indices"), [(Network.VGG19, VGG19), (Network.VGG16, VGG16), (Network.VGG16_BN, VGG16_BN)]
)
def test_a_vgg_layer_name_means_the_convolution_of_that_index_in_torchvision(
    network: Network, indices: dict[str, int]
) -> None:
    for name, index in indices.items():
        (branch,) = stage(backbone(network), name).branches
        assert branch.key == f"features.{index}", name


def test_a_batch_norm_belongs_to_the_convolution_before_it() -> None:
    for stage in backbone(Network.VGG16_BN).stages:
        if isinstance(stage, Conv):
            (branch,) = stage.branches
            assert branch.norm == f"features.{int(branch.key.rpartition('.')[2]) + 1}"


@pytest.mark.parametrize("network", TORCHVISIONS)
def test_a_network_asks_for_exactly_the_feature_tensors_of_torchvision(network: Network) -> None:
    theirs = {
        key: tuple(value.shape)
        for key, value in torchvisions(network).state_dict().items()
        if key.startswith("features.") and not key.endswith("num_batches_tracked")
    }

    assert backbone(network).state_dict_shapes() == theirs


def test_the_embedded_network_follows_its_plan() -> None:
    stages = backbone(Network.COMPACT).stages

    plan = tuple("A" if isinstance(stage, Pool) else stage.out_channels for stage in stages)
    assert plan == COMPACT_PLAN == (16, 16, "A", 32, 32, "A", 64, 64, 64, "A", 128, 128, 128, "A", 128)
    assert all(stage.kind == "average" for stage in stages if isinstance(stage, Pool))


def test_a_fire_module_is_named_after_its_joined_output() -> None:
    network = backbone(Network.SQUEEZENET)

    assert network.layers == ("relu1", *(f"fire{number}" for number in range(2, 10)))
    assert [branch.key for branch in stage(network, "fire2").branches] == [
        "features.3.expand1x1",
        "features.3.expand3x3",
    ]
    assert stage(network, "fire9").out_channels == 512


@pytest.mark.parametrize("network", ALL)
def test_the_default_layers_of_a_network_are_its_own(network: Network) -> None:
    description = backbone(network)

    description.check(description.style_layers, pixels=True)
    description.check(description.content_layers, pixels=False)
    assert RGB in description.style_layers


def test_an_unknown_layer_is_named_together_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"compact has no style layer 'conv9'.*rgb, relu1_1.*relu5_1"):
        backbone(Network.COMPACT).check({"relu1_1": 1.0, "conv9": 1.0}, pixels=True)


def test_pixels_are_no_content_layer() -> None:
    with pytest.raises(ConfigError, match="no content layer 'rgb'"):
        backbone(Network.COMPACT).check({RGB: 1.0}, pixels=False)


def test_auto_is_no_network_to_build() -> None:
    with pytest.raises(ConfigError, match="auto"):
        backbone(Network.AUTO)


@pytest.mark.parametrize("network", ALL)
def test_only_the_stages_up_to_the_deepest_wanted_layer_are_kept(network: Network) -> None:
    whole = backbone(network)
    for number, name in enumerate(whole.layers, 1):
        cut = whole.truncated({name, whole.layers[0]})

        assert cut.layers == whole.layers[:number]
        last = cut.stages[-1]
        assert isinstance(last, Conv)
        assert last.name == name
        assert cut.state_dict_shapes().items() <= whole.state_dict_shapes().items()


def test_a_network_of_no_layers_needs_no_weights() -> None:
    assert backbone(Network.VGG19).truncated({RGB}).state_dict_shapes() == {}


def test_folding_the_batch_norm_changes_nothing_in_the_output(
    weights_of: Callable[[Network], dict[str, Tensor]],
) -> None:
    tensors = weights_of(Network.VGG16_BN)
    (branch,) = stage(backbone(Network.VGG16_BN), "relu2_1").branches
    convolution = nn.Conv2d(branch.in_channels, branch.out_channels, 3, padding=1)
    norm = nn.BatchNorm2d(branch.out_channels)
    convolution.load_state_dict({part: tensors[f"{branch.key}.{part}"] for part in ("weight", "bias")})
    parts = ("weight", "bias", "running_mean", "running_var")
    norm.load_state_dict({part: tensors[f"{branch.norm}.{part}"] for part in parts}, strict=False)
    x = torch.randn(1, branch.in_channels, 6, 7, generator=torch.Generator().manual_seed(0))

    weight, bias = fold_batchnorm(branch, tensors)

    with torch.no_grad():
        expected = norm.eval()(convolution(x))
        torch.testing.assert_close(torch.conv2d(x, weight, bias, padding=1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", ALL)
@pytest.mark.parametrize("side", [33, 50, 64, 97])
def test_the_predicted_size_of_every_stage_is_that_of_torch(network: Network, side: int) -> None:
    x = torch.zeros(1, 1, side, side)
    predicted = side
    for stage in backbone(network).stages:
        predicted = stage.out_size(predicted)
        if isinstance(stage, Pool):
            x = torch.nn.functional.max_pool2d(x, stage.kernel, stage.stride, ceil_mode=stage.ceil)
        else:
            x = torch.conv2d(x, torch.zeros(1, 1, stage.kernel, stage.kernel), stride=stage.stride, padding=stage.pad)
        assert x.shape[2] == predicted


def test_the_receptive_field_of_vgg19_is_the_published_one() -> None:
    # relu5_1 sees 156 pixels, at a stride of 16.
    reach = receptive_fields(backbone(Network.VGG19))["relu5_1"]

    assert reach.before + reach.after + 1 == 156
    assert reach.stride == 16


@pytest.mark.parametrize(("network", "name"), [(Network.COMPACT, "relu3_1"), (Network.SQUEEZENET, "fire4")])
def test_a_feature_depends_on_the_pixels_within_its_reach_and_on_no_others(network: Network, name: str) -> None:
    # All-ones weights carry any change on.
    reach = receptive_fields(backbone(network))[name]
    position = 10
    touched = [pixel for pixel in range(120) if _carried(network, name, pixel)[position]]

    assert touched == list(range(position * reach.stride - reach.before, position * reach.stride + reach.after + 1))
    assert isinstance(reach, ReceptiveField)


def _carried(network: Network, name: str, pixel: int) -> list[bool]:
    """Positions of a layer that see a pixel of a row of 120, by walking the windows of every stage."""
    seen = [index == pixel for index in range(120)]
    for stage in backbone(network).stages:
        pad = stage.pad if isinstance(stage, Conv) else 0
        size = stage.out_size(len(seen))
        starts = [index * stage.stride - pad for index in range(size)]
        seen = [any(seen[max(0, start) : max(0, start + stage.kernel)]) for start in starts]
        if isinstance(stage, Conv) and stage.name == name:
            break
    return seen


def test_the_fire_modules_of_torchvision_are_found_in_order() -> None:
    modules = torchvisions(Network.SQUEEZENET).features
    fires = [index for index, module in enumerate(modules) if isinstance(module, Fire)]

    found = [
        stage.branches[0].key.removesuffix(".expand1x1")
        for stage in backbone(Network.SQUEEZENET).stages
        if isinstance(stage, Conv) and stage.name and stage.name.startswith("fire")
    ]
    assert found == [f"features.{index}" for index in fires]
