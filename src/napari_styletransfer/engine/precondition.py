"""The metric in which an image is optimised: coarse structure moves first.

The gradient of a style loss is strong at the finest scale and weak at coarse ones, while natural images are
the other way round. Optimising z with x = F⁻¹ diag(max(f, 1/N)^−a) F z, which is L-BFGS with that operator
squared as its initial inverse Hessian, evens this out. Called by `transfer`.
"""

from __future__ import annotations

import torch
from torch import Tensor


class SpectralMetric:
    """Symmetric operator that weights spatial frequencies by a power of their wavelength.

    Parameters
    ----------
    height, width
        Size of the images in pixels.
    exponent
        `a` in max(f, 1/N)^−a, with f in cycles per pixel and N the longest side; 0 is the identity.
    device
        Where it is applied.
    """

    def __init__(self, height: int, width: int, exponent: float, device: torch.device | str = "cpu") -> None:
        self._size = (height, width)
        self._gain: Tensor | None = None
        if exponent:
            down = torch.fft.fftfreq(height, device=device).view(-1, 1)
            across = torch.fft.rfftfreq(width, device=device).view(1, -1)
            frequency = torch.hypot(down, across).clamp(min=1 / max(height, width))
            gain = frequency**-exponent
            # Unit mean square over all frequencies: white noise keeps its power.
            twice = torch.full_like(gain, 2.0)
            twice[:, 0] = 1.0
            if width % 2 == 0:
                twice[:, -1] = 1.0
            self._gain = gain / ((gain.square() * twice).sum() / (height * width)).sqrt()

    def to_image(self, z: Tensor) -> Tensor:
        """Return x for z; the operator is its own adjoint, so gradients go to z by the same call."""
        return z if self._gain is None else self._filtered(z, self._gain)

    to_latent_gradient = to_image

    def to_latent(self, x: Tensor) -> Tensor:
        """Return z for x."""
        return x if self._gain is None else self._filtered(x, 1 / self._gain)

    def _filtered(self, image: Tensor, gain: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(image) * gain, s=self._size)
