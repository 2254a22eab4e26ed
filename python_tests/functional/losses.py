"""What holds for every loss that is a mean over steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import compress
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

SHAPES = [(0,), (1,), (7, 1), (5, 13)]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def numbers(shape: Sequence[int], count: int, **options: Any) -> list[Tensor]:
    """The same on every device."""
    random = torch.Generator().manual_seed(sum(shape) + count)
    x = torch.randn(count, *shape, generator=random, dtype=torch.float64)
    return [each.to(**options) for each in x]


class MaskedLossTests:
    """To be subclassed for each loss."""

    op: str
    names: tuple[str, ...]

    def call(self, mask: Tensor | None, *tensors: Tensor) -> Tensor:
        raise NotImplementedError

    def of_step(self, *numbers: float) -> float:
        """What one step adds to the sum that is divided by the number of steps."""
        raise NotImplementedError

    def reference(self, mask: Tensor | None, *tensors: Tensor) -> Tensor:
        rows = zip(*(x.flatten().tolist() for x in tensors), strict=True)
        real = torch.ones_like(tensors[0]).bool() if mask is None else mask
        results = [self.of_step(*row) for row in compress(rows, real.flatten().tolist())]
        return torch.tensor(sum(results) / max(len(results), 1), dtype=torch.float64)

    @pytest.mark.parametrize("dtype", TOLERANCE)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_is_the_mean_over_steps(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> None:
        tensors = numbers(shape, len(self.names), dtype=dtype, device=device)
        for mask in (None, tensors[0] < 0.4, torch.zeros(shape, dtype=torch.bool, device=device)):
            got = self.call(mask, *tensors)
            assert (got.shape, got.dtype, got.device.type) == ((), dtype, device.type)
            want = self.reference(mask, *tensors)
            assert_close(got.cpu().double(), want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
    def test_what_is_masked_may_be_anything(self, bad: float, device: torch.device) -> None:
        clean = numbers((9, 5), len(self.names), device=device)
        mask = clean[0] < 0.4
        results = []
        for tensors in (clean, [x.masked_fill(~mask, bad) for x in clean]):
            leaves = [x.clone().requires_grad_() for x in tensors]
            loss = self.call(mask, *leaves)
            gradients = torch.autograd.grad(loss, leaves) if loss.requires_grad else ()
            results.append([loss, *gradients])
        assert_close(results[1], results[0], atol=0, rtol=0)
        assert all((gradient[~mask] == 0).all() for gradient in results[0][1:])

    def test_gradient(self) -> None:
        tensors = [x.requires_grad_() for x in numbers((4, 3), len(self.names))]
        mask = tensors[0] < 0.4
        assert torch.autograd.gradcheck(
            lambda *x: (self.call(None, *x), self.call(mask, *x)), tensors
        )

    def test_nothing_is_broadcast(self) -> None:
        flat = [torch.zeros(4) for _ in self.names]
        for i in range(1, len(flat)):
            tensors = [*flat[:i], torch.zeros(4, 1), *flat[i + 1 :]]
            text = f"{self.op}: {self.names[i]} must have shape [4], got [4, 1]"
            with pytest.raises(ValueError, match="^" + re.escape(text)):
                self.call(None, *tensors)
        text = f"{self.op}: mask must have shape [4], got [4, 1]"
        with pytest.raises(ValueError, match="^" + re.escape(text)):
            self.call(torch.ones(4, 1, dtype=torch.bool), *flat)
        with pytest.raises(TypeError, match=f"^{self.op}: mask must be bool, got torch.float32"):
            self.call(torch.ones(4), *flat)
