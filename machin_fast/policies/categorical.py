"""Policies of one choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from machin_fast.policies.distributions import Categorical
from machin_fast.policies.policy import Policy, action_mask


class CategoricalPolicy(Policy):
    """Chooses one of several actions, ``[..., 1]``, int64.

    A state key ``action_mask`` ``[..., actions]``, bool, says which actions there are; the network
    gets it only if it has an argument of this name.

    Source: Sutton and Barto 2018, Reinforcement Learning, section 13.1 (softmax in action
    preferences); masks: Huang and Ontanon 2022, arXiv:2006.14171.

    Args:
        net: Returns logits, ``[..., actions]``.
    """

    own_names = Policy.own_names | {"action_mask"}

    def _distribution(self, output: Tensor, kwargs: Mapping[str, Any]) -> Categorical:
        return Categorical(output, action_mask(kwargs))
