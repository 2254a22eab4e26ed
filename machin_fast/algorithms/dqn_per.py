"""Deep Q-learning with prioritized replay."""

from __future__ import annotations

from machin_fast.algorithms._off_policy import Prioritized
from machin_fast.algorithms.dqn import DQN


class DQNPer(Prioritized, DQN):
    """DQN that learns more often from what it was more wrong about.

    Takes what ``DQN`` takes. The memory is a ``PrioritizedBuffer`` if none is given. ``criterion``
    must have a ``reduction``, which becomes "none": each row's loss is weighted against the bias
    of the draw. New priorities are the sizes of the TD errors.

    Source: Schaul et al. 2016, arXiv:1511.05952.
    """
