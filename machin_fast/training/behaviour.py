"""How an algorithm acts, in training and when it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import gymnasium
import torch
from torch import nn

from machin_fast.data import Trajectory
from machin_fast.model.call import inside, safe_call
from machin_fast.model.nets.wrapper import is_recurrent

Act: TypeAlias = Callable[[Mapping[str, Any]], Any]


class Behaviour:
    """The ways of acting of an algorithm of ours, or of one with methods of the same names.

    In training it explores by its noise: ``epsilon`` for values, normal noise for deterministic
    actors, its own chance for stochastic ones. When it is judged it is greedy: the best action, or
    the policy's ``mode``; an actor without one acts as in training.

    Args:
        algorithm: The algorithm.
        action_space: Of one environment.
        noise: Deviation of the noise on actions, in halves of their range.
        explore, act: Functions of the state that do it instead, in training and when judged. They
            return actions ``[envs, ...]``, or more as ``Collector`` says.

    Attributes:
        recurrent: Names of networks whose states travel with the environments.
        keep: Columns that the collector shall keep besides.

    Raises:
        TypeError: The algorithm has no such methods, and no function stands in.
        ValueError: It chooses among actions that cannot be counted; or it explores by noise, and
            actions have no bounds to measure that by.
    """

    def __init__(
        self,
        algorithm: Any,
        action_space: gymnasium.Space[Any],
        *,
        noise: float = 0.1,
        explore: Act | None = None,
        act: Act | None = None,
    ) -> None:
        self._algorithm = algorithm
        self._explore = explore
        self._act = act
        self._values = hasattr(algorithm, "qnet")
        self._space = action_space
        self._discrete = isinstance(action_space, gymnasium.spaces.Discrete)
        if explore is None or act is None:
            self._check()
        noisy = explore is None and not self._discrete and hasattr(algorithm, "act_with_noise")
        self._noise = _Noise(action_space, noise) if noisy else None
        self.recurrent = self._recurrent() if explore is None else ()
        self.keep = [f"hidden_{name}" for name in self.recurrent]
        # Deterministic actors with discrete actions: their probabilities are what critics judge.
        self._probable = explore is None and self._by_probabilities()
        if self._probable:
            self.keep.append("probability")

    # -- acting --------------------------------------------------------------------------------

    @torch.no_grad()
    def explore(self, state: Mapping[str, Any]) -> Any:
        """Acts as in training.

        Args:
            state: What is observed, by name; ``hidden`` and ``reset`` of recurrent networks.

        Returns:
            As an actor of ``Collector``.
        """
        if self._explore is not None:
            return self._explore(state)
        acting = self._acting
        inputs = self._inputs(state)
        if self._discrete and hasattr(self._algorithm, "act_discrete_with_noise"):
            # The share of random actions falls with steps, not with calls.
            found = self._algorithm.act_discrete_with_noise(inputs[acting], decay_epsilon=False)
        elif self._noise is not None:
            found = self._noise(self._algorithm, inputs[acting])
        else:
            found = self._algorithm.act(inputs[acting])
        found = found if isinstance(found, tuple) else (found,)
        chosen = {"action": found[0]}
        if self._probable:
            chosen["probability"] = found[1]
        return {**chosen, **self._states(found, inputs, state)} if self.recurrent else chosen

    @torch.no_grad()
    def act(self, state: Mapping[str, Any]) -> Any:
        """Acts as well as it can.

        Args:
            state: As for ``explore``; ``hidden`` is that of the acting network alone.

        Returns:
            As an actor of ``Collector``.
        """
        if self._act is not None:
            return self._act(state)
        algorithm = self._algorithm
        if self._discrete and hasattr(algorithm, "act_discrete"):
            return algorithm.act_discrete(state)
        actor = getattr(algorithm, "actor", None)
        if isinstance(actor, nn.Module) and callable(getattr(inside(actor), "mode", None)):
            return safe_call(actor, state, method="mode")
        return algorithm.act(state)

    def as_learned(self, trajectory: Trajectory) -> Trajectory:
        """What was collected, as the algorithm wants it.

        Args:
            trajectory: Of a collector that kept ``keep``.

        Returns:
            The same, or one whose actions are probabilities.
        """
        if not self._probable:
            return trajectory
        probability = trajectory["probability"]
        return trajectory.without_columns("probability").with_columns(action=probability)

    # -- what the algorithm is -----------------------------------------------------------------

    @property
    def _acting(self) -> str:
        return "qnet" if self._values else "actor"

    def _check(self) -> None:
        kind = type(self._algorithm).__name__
        needed = "act_discrete" if self._values else "act"
        if not callable(getattr(self._algorithm, needed, None)):
            raise TypeError(
                f"Behaviour: algorithm must have a method {needed}, got {kind}. "
                "Pass explore and act, functions of the state"
            )
        if self._values and not self._discrete:
            raise ValueError(
                f"Behaviour: action_space must be Discrete for {kind}, got {self._space}"
            )

    def _recurrent(self) -> tuple[str, ...]:
        """Networks that act, and critics of what was done: those of other critics warm up."""
        names = [self._acting]
        if not hasattr(self._algorithm, "critic_target"):
            names.append("critic")
        networks = {name: getattr(self._algorithm, name, None) for name in names}
        return tuple(
            name for name, x in networks.items() if isinstance(x, nn.Module) and is_recurrent(x)
        )

    def _by_probabilities(self) -> bool:
        named = hasattr(self._algorithm, "act_discrete_with_noise")
        return self._discrete and named and not self._values

    # -- states of recurrent networks ----------------------------------------------------------

    def _inputs(self, state: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """Arguments of each network."""
        hidden = state.get("hidden") or {}
        return {
            name: {**state, "hidden": hidden.get(name)} if name in self.recurrent else state
            for name in (self._acting, "critic")
        }

    def _states(
        self,
        found: tuple[Any, ...],
        inputs: Mapping[str, Mapping[str, Any]],
        state: Mapping[str, Any],
    ) -> dict[str, Any]:
        """States after a step, and before it as columns, zero where an episode begins."""
        after = {}
        if self._acting in self.recurrent:
            after[self._acting] = found[-1]
        if "critic" in self.recurrent:
            after["critic"] = safe_call(self._algorithm.critic, inputs["critic"])[-1]
        columns: dict[str, Any] = {"hidden": after}
        for name, now in after.items():
            before = inputs[name]["hidden"]
            before = torch.zeros_like(now) if before is None else before
            begun = state["reset"].to(before.device).view(-1, *[1] * (before.dim() - 1))
            columns[f"hidden_{name}"] = before.masked_fill(begun, 0)
        return columns


class _Noise:
    """Normal noise on actions within bounds."""

    def __init__(self, space: gymnasium.Space[Any], noise: float) -> None:
        if not isinstance(space, gymnasium.spaces.Box) or not space.is_bounded():
            raise ValueError(
                "Behaviour: actions must be in a Box with bounds to explore by noise, "
                f"got {space}. Pass explore, a function of the state"
            )
        low, high = (torch.as_tensor(x).flatten() for x in (space.low, space.high))
        self._bounds = low, high
        self._parameters = [(0.0, std) for std in (noise * (high - low) / 2).tolist()]

    def __call__(self, algorithm: Any, state: Mapping[str, Any]) -> tuple[Any, ...]:
        found = algorithm.act_with_noise(state, self._parameters, mode="normal")
        action, *extra = found if isinstance(found, tuple) else (found,)
        low, high = (x.to(action) for x in self._bounds)
        return (action.clamp(low, high), *extra)
