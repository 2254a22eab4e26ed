"""Sources of noise of one shape."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TypeAlias

import torch
from torch import Tensor

from machin_fast.noise._draws import check_bounds, check_spread, draw

Shape: TypeAlias = Iterable[int] | int


class NoiseGen(ABC):
    """A source of noise.

    Given a ``generator``, noise is drawn where that is, and is the same on all devices.
    """

    @abstractmethod
    def __call__(self, device: str | torch.device | None = None) -> Tensor:
        """Draws.

        Args:
            device: Of the noise. None: the generator's, or torch's default.

        Returns:
            Noise, torch's default dtype.
        """

    @abstractmethod
    def __repr__(self) -> str: ...

    def reset(self) -> None:  # noqa: B027 (most have nothing to reset)
        """Begins anew, where a draw depends on those before."""


class NormalNoiseGen(NoiseGen):
    """Independent normal noise.

    Args:
        shape: Of a draw.
        mu: Mean.
        sigma: Standard deviation, at least 0.
        generator: Of the random numbers.

    Raises:
        ValueError: ``sigma`` is below 0.
    """

    def __init__(
        self,
        shape: Shape,
        mu: float = 0.0,
        sigma: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        check_spread(type(self).__name__, "sigma", sigma)
        self.shape = _size(shape)
        self.mu = mu
        self.sigma = sigma
        self.generator = generator

    def __call__(self, device: str | torch.device | None = None) -> Tensor:
        noise = draw(torch.randn, self.shape, device, generator=self.generator)
        return noise.mul_(self.sigma).add_(self.mu)

    def __repr__(self) -> str:
        return f"NormalNoise(mu={self.mu}, sigma={self.sigma})"


class ClippedNormalNoiseGen(NormalNoiseGen):
    """Independent normal noise; what is out of bounds is put on the nearer bound.

    Args:
        shape: Of a draw.
        mu: Mean, before it is clipped.
        sigma: Standard deviation, before it is clipped, at least 0.
        nmin, nmax: Bounds.
        generator: Of the random numbers.

    Raises:
        ValueError: ``sigma`` is below 0, or the bounds are not in order.
    """

    def __init__(
        self,
        shape: Shape,
        mu: float = 0.0,
        sigma: float = 1.0,
        nmin: float = -1.0,
        nmax: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(shape, mu, sigma, generator=generator)
        check_bounds(type(self).__name__, "nmin, nmax", nmin, nmax)
        self.min = nmin
        self.max = nmax

    def __call__(self, device: str | torch.device | None = None) -> Tensor:
        return super().__call__(device).clamp_(self.min, self.max)

    def __repr__(self) -> str:
        return (
            f"ClippedNormalNoise(mu={self.mu}, sigma={self.sigma}, min={self.min}, max={self.max})"
        )


class UniformNoiseGen(NoiseGen):
    """Independent uniform noise.

    Args:
        shape: Of a draw.
        umin, umax: Bounds; noise is in [umin, umax).
        generator: Of the random numbers.

    Raises:
        ValueError: The bounds are not in order.
    """

    def __init__(
        self,
        shape: Shape,
        umin: float = 0.0,
        umax: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        check_bounds(type(self).__name__, "umin, umax", umin, umax)
        self.shape = _size(shape)
        self.min = umin
        self.max = umax
        self.generator = generator

    def __call__(self, device: str | torch.device | None = None) -> Tensor:
        noise = draw(torch.rand, self.shape, device, generator=self.generator)
        return noise.mul_(self.max - self.min).add_(self.min)

    def __repr__(self) -> str:
        return f"UniformNoise(min={self.min}, max={self.max})"


class OrnsteinUhlenbeckNoiseGen(NoiseGen):
    """Noise that drifts: each draw lies near the one before, and is pulled back to the mean.

    It lives where ``x0`` is, or else on torch's default device, and its noise is moved.

    ``x += theta * (mu - x) * dt + sigma * sqrt(dt) * N(0, 1)``. In the long run its variance is
    ``sigma^2 / (theta * (2 - theta * dt))``.

    Source: Uhlenbeck and Ornstein 1930, doi:10.1103/PhysRev.36.823; for exploration Lillicrap et
    al. 2016, arXiv:1509.02971, section 3.

    Args:
        shape: Of a draw.
        mu: Mean, a number or a tensor that is broadcast to the shape.
        sigma: Likewise, standard deviation of the steps in one unit of time, at least 0.
        theta: How strongly it is pulled back in one unit of time.
        dt: Time from draw to draw, at least 0.
        x0: Of the shape, what the first draw lies near. None: 0.
        generator: Of the random numbers.

    Raises:
        ValueError: ``sigma`` or ``dt`` is below 0, or ``x0`` is of another shape.
    """

    x_prev: Tensor

    def __init__(
        self,
        shape: Shape,
        mu: float | Tensor = 0.0,
        sigma: float | Tensor = 1.0,
        theta: float = 0.15,
        dt: float = 1e-2,
        x0: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        op = type(self).__name__
        check_spread(op, "sigma", torch.as_tensor(sigma).min().item())
        check_spread(op, "dt", dt)
        self.shape = _size(shape)
        if x0 is not None and x0.shape != self.shape:
            raise ValueError(f"{op}: x0 must have shape {list(self.shape)}, got {list(x0.shape)}")
        self.mu = mu
        self.sigma = sigma
        self.theta = theta
        self.dt = dt
        self.x0 = x0
        self.generator = generator
        self.reset()

    def __call__(self, device: str | torch.device | None = None) -> Tensor:
        x = self.x_prev
        noise = draw(torch.randn, self.shape, x.device, generator=self.generator)
        x = x + self.theta * (self.mu - x) * self.dt + self.sigma * math.sqrt(self.dt) * noise
        self.x_prev = x
        return x.to(x.device if device is None else device, copy=True)

    def reset(self) -> None:
        """Begins anew, at ``x0``."""
        self.x_prev = torch.zeros(self.shape) if self.x0 is None else self.x0

    def __repr__(self) -> str:
        return f"OrnsteinUhlenbeckNoise(mu={self.mu}, sigma={self.sigma})"


def _size(shape: Shape) -> torch.Size:
    return torch.Size([shape] if isinstance(shape, int) else shape)
