"""Transforms: from a trajectory to one with more columns, or with others.

``prepare = chain(values(critic), gae(0.99, 0.95), normalize("advantage"))`` is a function of a
trajectory. None edits what it is given; results share what did not change. They work on the
trajectory's device and carry no gradient.
"""

from machin_fast.data.transforms.chain import Transform, chain
from machin_fast.data.transforms.hidden import hidden, resets
from machin_fast.data.transforms.hindsight import hindsight
from machin_fast.data.transforms.normalize import normalize
from machin_fast.data.transforms.nstep import nstep
from machin_fast.data.transforms.priorities import priorities, sequence_priorities
from machin_fast.data.transforms.pseudo_reward import pseudo_reward
from machin_fast.data.transforms.returns import discounted_return, gae
from machin_fast.data.transforms.standardize import Statistics, standardize
from machin_fast.data.transforms.values import values

__all__ = [
    "Statistics",
    "Transform",
    "chain",
    "discounted_return",
    "gae",
    "hidden",
    "hindsight",
    "normalize",
    "nstep",
    "priorities",
    "pseudo_reward",
    "resets",
    "sequence_priorities",
    "standardize",
    "values",
]
