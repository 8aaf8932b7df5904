"""The spectrum of a plane: frequencies, octaves, and gains on them, for planes of any size.

The spectrum of a large plane takes as much memory as the plane. It is made and worked on in strips, some rows or
columns at a time, so that nothing else of that size is ever there. Called by `preconditioner`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_styletransfer.images.chunks import chunks

MAX_WHOLE = 1 << 22
"""Values of a plane above which its spectrum is worked on in strips, and its gains are made anew for each of them."""

CHUNK = 1 << 20
"""Values of a strip."""

NYQUIST = 0.5
"""Cycles per pixel at the upper end of the finest octave."""


def filter_spectrum(plane: Tensor, factor: Callable[[slice], Tensor]) -> None:
    """Multiply the spectrum of a plane (H, W), in place; `factor` returns what for some of its columns."""
    height, width = plane.shape
    if plane.numel() <= MAX_WHOLE:
        plane.copy_(torch.fft.irfft2(torch.fft.rfft2(plane).mul_(factor(slice(None))), s=(height, width)))
        return
    spectrum = row_rfft(plane)
    for columns in chunks(spectrum.shape[1], height, CHUNK):
        waves = torch.fft.fft(spectrum[:, columns], dim=0).mul_(factor(columns))
        spectrum[:, columns] = torch.fft.ifft(waves, dim=0)
    for rows in chunks(height, width, CHUNK):
        plane[rows] = torch.fft.irfft(spectrum[rows], n=width)


def row_rfft(plane: Tensor) -> Tensor:
    """Return the half spectrum of every row, made in strips."""
    height, width = plane.shape
    dtype = torch.promote_types(plane.dtype, torch.complex32)
    spectrum = torch.empty(height, width // 2 + 1, dtype=dtype, device=plane.device)
    for rows in chunks(height, width, CHUNK):
        spectrum[rows] = torch.fft.rfft(plane[rows])
    return spectrum


def frequencies(size: tuple[int, int], device: torch.device | str, columns: slice = slice(None)) -> Tensor:
    """Frequencies of a half spectrum in cycles per pixel, not below one wave over the longest side."""
    down = torch.fft.fftfreq(size[0], dtype=torch.float32, device=device).view(-1, 1)
    across = torch.fft.rfftfreq(size[1], dtype=torch.float32, device=device).view(1, -1)[:, columns]
    return torch.hypot(down, across).clamp_(min=1 / max(size))


def octave_of(size: tuple[int, int], device: torch.device | str, columns: slice = slice(None)) -> Tensor:
    """Octaves below the finest frequency; the corners of the spectrum lie beyond it."""
    return (NYQUIST / frequencies(size, device, columns)).log2_()


def hermitian_weights(size: tuple[int, int], device: torch.device | str) -> Tensor:
    """How often each column of a half spectrum stands in the whole one."""
    twice = torch.full((size[1] // 2 + 1,), 2.0, dtype=torch.float32, device=device)
    twice[0] = 1.0
    if size[1] % 2 == 0:
        twice[-1] = 1.0
    return twice
