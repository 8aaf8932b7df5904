"""Memory for what outlives the stage of a network that made it, kept from one pass to the next.

Feature maps come and go by the thousand. What is kept among them, a small part of each, would lie in the midst of the
memory that they leave, which then fits none of the next ones: of a run as much again was lost to such gaps. Here what
is kept lies by itself. Called by `frozen_network`; `tiled_network` owns it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_CHUNK = 64 << 20
"""Bytes asked for at once. Larger than what C libraries take from their heap; pages never written to take no memory."""

_ALIGNMENT = 64


class Workspace:
    """Memory handed out piece by piece and taken back as a whole.

    On other devices than the CPU every piece is an allocation of its own: their allocators keep sizes apart.
    """

    def __init__(self) -> None:
        self._chunks: list[Tensor] = []
        self._used: list[int] = []
        self._bytes = 0
        self._passing: Workspace | None = None

    @property
    def bytes(self) -> int:
        """What is handed out."""
        return self._bytes

    @property
    def transient(self) -> Workspace:
        """Memory for what only the pass under way needs, which takes it back when it begins."""
        if self._passing is None:
            self._passing = Workspace()
        return self._passing

    def reset(self) -> None:
        """Take back all that was handed out."""
        self._used = [0] * len(self._chunks)
        self._bytes = 0

    def clear(self) -> None:
        """Take back all that was handed out, and give its memory back to the system."""
        self._chunks.clear()
        self.reset()
        self._passing = None

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return a tensor with undefined values, valid until it is taken back."""
        needed = -(-math.prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        self._bytes += needed
        if device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=device)
        number = next((n for n, chunk in enumerate(self._chunks) if self._used[n] + needed <= chunk.numel()), None)
        if number is None:
            number = len(self._chunks)
            self._chunks.append(torch.empty(max(_CHUNK, needed), dtype=torch.uint8, device="cpu"))
            self._used.append(0)
        first = self._used[number]
        self._used[number] += needed
        return self._chunks[number][first : first + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)

    def store(self, feature_map: Tensor) -> Tensor:
        """Return a channels-last map to be kept until it is taken back: a copy only where it should lie elsewhere."""
        if feature_map.device.type != "cpu":
            self._bytes += feature_map.nbytes
            return feature_map
        return self.empty_map(feature_map, feature_map.shape[2]).copy_(feature_map)

    def empty_map(self, like: Tensor, height: int) -> Tensor:
        """Return a channels-last map of that height, otherwise as another."""
        shape = (like.shape[0], height, like.shape[3], like.shape[1])
        return self.empty(shape, like.dtype, like.device).permute(0, 3, 1, 2)
