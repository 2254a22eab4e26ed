"""How networks see sequences ``[T, B, ...]``: recurrent ones in order, others all steps at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from machin_fast.algorithms._batches import named
from machin_fast.data import Batch, Trajectory, plans
from machin_fast.model.call import safe_call
from machin_fast.model.nets.wrapper import is_recurrent


def call_steps(
    network: nn.Module, name: str, batch: Batch, *inputs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Calls a network with sequences, in which nothing is reset.

    Args:
        network: The network.
        name: What the algorithm calls it: a recurrent one starts from the state that the batch
            has of it (``stored_state``), or from none.
        batch: Of sequences.
        *inputs: Arguments by name, ``[T, B, ...]``; or of ``from_first``.

    Returns:
        What the network returned, each ``[T, B, ...]``, in a tuple; without the state of a
        recurrent one.
    """
    steps = {key: x for each in inputs for key, x in each.items() if isinstance(x, Tensor)}
    leading = next(iter(steps.values())).shape[:2]
    found = safe_call(network, arguments(network, name, batch, steps))
    if is_recurrent(network):
        return found[:-1]
    return tuple(x.unflatten(0, leading) if isinstance(x, Tensor) else x for x in found)


def arguments(
    network: nn.Module, name: str, batch: Batch, steps: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Arguments for a network: sequences for a recurrent one, in which nothing is reset, and rows
    ``[T * B, ...]`` for another one. What is padding becomes 0: a gradient of 0 times NaN is NaN.

    Args:
        network, name, batch: As for ``call_steps``.
        steps: Arguments by name, ``[T, B, ...]``; or of ``from_first``.

    Returns:
        Arguments by name.
    """
    assert batch.mask is not None
    real = {key: _without_padding(x, batch.mask) for key, x in steps.items()}
    if not is_recurrent(network):
        return {key: x.flatten(0, 1) for key, x in real.items()}
    some = next(iter(real.values()))
    reset = torch.zeros(1, some.shape[1], dtype=torch.bool, device=some.device)
    return {**real, "hidden": stored_state(batch, name), "reset": reset}


def _without_padding(x: Tensor, mask: Tensor) -> Tensor:
    if not x.is_floating_point():
        return x
    if len(x) > len(mask):  # by from_first
        mask = torch.cat([mask[:1], mask])
    return x.masked_fill(~mask.to(x.device).view(*mask.shape, *[1] * (x.dim() - 2)), 0)


def stored_state(batch: Batch, name: str) -> Tensor | None:
    """The state of a recurrent network before the first steps of a batch, ``[B, ...]``.

    It is in a column ``hidden_<name>``, as ``transforms.hidden`` adds it; a target network starts
    from the state of the network that it follows. That of a network that acts may also be in a
    column ``hidden``, or be part of the observation.
    """
    names = [f"hidden_{name}", f"hidden_{name.removesuffix('_target')}"]
    if not name.startswith("critic"):
        names += ["hidden", "state/hidden"]
    found: Tensor | None = next((batch[each][0] for each in names if each in batch), None)
    return found


def from_first(first: Mapping[str, Tensor], following: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sequences of T + 1 steps: the first of ``first``, then all of ``following``.

    Within an episode what follows a step is the next one, so one pass of a network over these
    tells of each step and of what followed it: ``result[:-1]`` and ``result[1:]``.
    """
    return {key: torch.cat([first[key][:1], x]) for key, x in following.items()}


def check_successive(op: str, batch: Batch) -> None:
    """Refuses sequences in which another state follows a step than that of the next one.

    Raises:
        ValueError: Such as after ``transforms.nstep``; it is waited for.
    """
    assert batch.mask is not None
    state, mask = named(batch, "state"), batch.mask[1:]
    for key, x in named(batch, "next_state").items():
        if not torch.equal(x[:-1][mask], state[key][1:][mask]):
            raise ValueError(
                f"{op}: next_state must be the state of the next step in sequences, got another "
                "one. Rewards of several steps (transforms.nstep) are learned from as rows"
            )


@torch.no_grad()
def warmed_up(batch: Batch, networks: Mapping[str, nn.Module]) -> Batch:
    """A batch without its first ``burn_in`` steps, which only move the states of networks on.

    Source: Kapturowski et al. 2019, Recurrent Experience Replay in Distributed Reinforcement
    Learning (R2D2), section 3.

    Args:
        batch: Of sequences.
        networks: By name.

    Returns:
        The batch, with columns ``hidden_<name>`` of recurrent networks, ``[1, B, ...]``.
    """
    begin = batch.burn_in
    if batch.mask is None or not begin:
        return batch
    names = batch.names()
    columns: dict[str, Any] = {name: batch[name][begin:] for name in names}
    first = Batch(
        {name: batch[name][:begin] for name in names}, batch.index, None, mask=batch.mask[:begin]
    )
    action = {
        key: x.unsqueeze(-1) if x.dim() == 2 else x for key, x in named(first, "action").items()
    }
    for name, network in networks.items():
        if is_recurrent(network):
            steps = {**named(first, "state"), **action}
            found = safe_call(network, arguments(network, name, first, steps))
            columns[f"hidden_{name}"] = found[-1].unsqueeze(0)
    weight = batch.weight if batch.weighted else None
    write_back = (
        (lambda _, priority: batch.update_priority(priority)) if batch.prioritized else None
    )
    return Batch(columns, batch.index, weight, mask=batch.mask[begin:], update_priority=write_back)


def over_segments(trajectory: Trajectory, evaluate: Callable[[Batch], Tensor]) -> Tensor:
    """What ``evaluate`` makes of all segments, side by side.

    Args:
        trajectory: The segments.
        evaluate: From a batch ``[T, B, ...]`` to ``[T, B, ...]``.

    Returns:
        ``[N, ...]``, a row for each step of the trajectory.
    """
    side_by_side = plans.episodes(trajectory, batch_size=trajectory.segments, shuffle=False)
    batch = next(iter(side_by_side))
    assert batch.mask is not None
    return evaluate(batch).transpose(0, 1)[batch.mask.t()]


@torch.no_grad()
def with_values(critic: nn.Module, name: str, trajectory: Trajectory) -> Trajectory:
    """Adds ``value`` and ``next_value`` by a recurrent critic, which is called ``name``."""

    def values(batch: Batch) -> Tensor:
        whole = from_first(named(batch, "state"), named(batch, "next_state"))
        found = call_steps(critic, name, batch, whole)[0]
        return torch.cat([found[:-1], found[1:]], -1)

    both = over_segments(trajectory, values)
    return trajectory.with_columns(value=both[:, 0], next_value=both[:, 1])
