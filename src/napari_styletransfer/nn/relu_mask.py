"""Where a feature map is positive, as one bit a value: all that the backward pass of a ReLU needs.

Called by `frozen_network`; feature maps are channels-last, and bits follow their order in memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_styletransfer.nn.workspace import Workspace

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def pack_relu_mask(feature_map: Tensor, workspace: Workspace) -> Tensor:
    """Return one bit a value, set where the value is positive, in a workspace; bit k is of the k-th eighth in memory.

    Values are read as whole numbers, which have the same sign and compare several times faster than bfloat16.
    """
    flat = feature_map.permute(0, 2, 3, 1).reshape(-1)
    flat = flat.view(_INTEGERS[flat.element_size()])
    if flat.numel() % 8:
        flat = F.pad(flat, (0, 8 - flat.numel() % 8))
    eighths = flat.view(8, -1)
    bits = workspace.empty((eighths.shape[1],), torch.uint8, flat.device)
    if _is_launch_bound(flat.device):
        return torch.sum((eighths > 0).to(torch.uint8) << _shifts(flat.device), 0, dtype=torch.uint8, out=bits)
    bits.copy_(eighths[0].clamp(0, 1))
    for k in range(1, 8):
        bits |= eighths[k].clamp(0, 1).to(torch.uint8) << k
    return bits


def apply_relu_mask(gradient: Tensor, bits: Tensor) -> None:
    """Zero `gradient` in place where the bit of `pack_relu_mask` is not set."""
    flat = gradient.permute(0, 2, 3, 1).view(-1)
    step = bits.numel()
    if _is_launch_bound(flat.device) and flat.numel() == 8 * step:
        flat.view(8, step).mul_((bits >> _shifts(flat.device)) & 1)
        return
    for k in range(8):
        eighth = flat[k * step : (k + 1) * step]
        eighth *= ((bits >> k) & 1)[: eighth.numel()]


def _is_launch_bound(device: torch.device) -> bool:
    """Tell whether starting a program costs more than passes over memory, which on the CPU stay in its cache."""
    return device.type == "cuda"


def _shifts(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device).view(8, 1)
