"""Policies of several choices at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from machin_fast.policies.distributions import MultiCategorical
from machin_fast.policies.policy import Policy, action_mask, check_width


class MultiCategoricalPolicy(Policy):
    """Makes several choices at once, ``[..., len(nvec)]``, int64.

    A state key ``action_mask`` ``[..., sum(nvec)]``, bool, says which actions there are; the
    network gets it only if it has an argument of this name.

    Source: Huang et al. 2022, The 37 Implementation Details of Proximal Policy Optimization,
    "MultiDiscrete action space support".

    Args:
        net: Returns logits, ``[..., sum(nvec)]``, those of all choices one after the other.
        nvec: Number of actions of each choice.

    Raises:
        ValueError: ``nvec`` is empty, or a number is below 1.
    """

    own_names = Policy.own_names | {"action_mask"}

    def __init__(self, net: nn.Module, nvec: Sequence[int]) -> None:
        super().__init__(net)
        self.nvec = tuple(int(n) for n in nvec)
        if not self.nvec or min(self.nvec) < 1:
            raise ValueError(
                "MultiCategoricalPolicy: nvec must be one or more numbers, each at least 1, "
                f"got {list(self.nvec)}"
            )

    def _distribution(self, output: Tensor, kwargs: Mapping[str, Any]) -> MultiCategorical:
        check_width("MultiCategoricalPolicy", output, sum(self.nvec))
        return MultiCategorical(output, self.nvec, action_mask(kwargs))
