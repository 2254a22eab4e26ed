"""Rewards that a discriminator gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn.functional import softplus

from machin_fast.data.trajectory import Trajectory
from machin_fast.data.transforms._columns import check_positive, scalars
from machin_fast.data.transforms._networks import evaluate, inputs
from machin_fast.data.transforms.chain import Transform


def pseudo_reward(
    discriminator: Callable[..., Any],
    reward: str = "reward",
    keep: str = "real_reward",
    *,
    state_only: bool = False,
    observation: str = "state",
    action: str = "action",
    batch_size: int | None = None,
) -> Transform:
    """Replaces rewards by ``-log(1 - D)``, where D is the discriminator's chance of an expert.

    With the logit of D this is ``softplus(logit)``. Rewards of the environment are kept: those
    that a first application kept stay if there is a second.

    Source: Ho and Ermon 2016, Generative Adversarial Imitation Learning, arXiv:1606.03476,
    algorithm 1, with D for the expert, not the agent.

    Args:
        discriminator: Called without gradient with the observation and the action: the columns
            positionally, or, where one is nested, by name those that its ``forward`` takes.
            Returns logits ``[n, 1]`` or ``[n]``, high for an expert.
        reward: Name of the column to replace.
        keep: Name for what it was.
        state_only: The discriminator sees no actions.
        observation, action: Names of its inputs.
        batch_size: Most rows a forward, to bound memory. None: all at once.

    Returns:
        The transform. The reward keeps its dtype if that is a floating one.

    Raises:
        ValueError: ``batch_size`` is below 1. By the transform: a column is missing, or the
            discriminator takes or returns something else.
    """
    op = "transforms.pseudo_reward"
    check_positive(op, batch_size=batch_size)
    asked = (observation,) if state_only else (observation, action)

    def transform(trajectory: Trajectory) -> Trajectory:
        real = scalars(op, trajectory, reward)
        takes = inputs(op, discriminator, trajectory, *asked)
        rows = {each: trajectory[each] for each in takes}
        given = softplus(evaluate(op, discriminator, takes, [rows], batch_size))
        given = given.to(real.dtype) if real.is_floating_point() else given
        kept = {} if keep in trajectory else {keep: real}
        return trajectory.with_columns(**{reward: given}, **kept)

    return transform
