"""How policies are asked for actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from machin_fast.collect.environments import Environments
from machin_fast.model.call import safe_call
from machin_fast.model.nets.wrapper import is_recurrent

Actor: TypeAlias = "nn.Module | Callable[[Mapping[str, Any]], Any]"
"""A policy, or a function of its arguments by name: ``dqn.act_discrete_with_noise``."""

_RETURNED = ("action", "log_prob", "entropy")


class Choice(NamedTuple):
    """What was chosen.

    Attributes:
        action: ``[envs, ...]``, on the CPU unless the environments work elsewhere.
        kept: ``[envs, ...]`` each, what else shall be kept, by name.
    """

    action: Tensor
    kept: dict[str, Tensor]


class Acting:
    """An actor in environments, with its hidden states.

    Args:
        actor: See ``Collector``.
        keep: Names of what else is kept of what it returns. None: ``log_prob``, if it is a module
            that returns one.
        deterministic: Nothing is left to chance: a policy's ``mode`` is asked.
        recurrent: Whether it takes ``hidden`` and ``reset``, and returns its new state last.
            None: whether the module does.
        op: Who asks, for errors.

    Attributes:
        recurrent: As given, or as the module says.

    Raises:
        TypeError: ``actor`` cannot be called.
        ValueError: It has no ``mode`` to ask, or hidden states shall be kept of one without.
    """

    def __init__(
        self,
        actor: Actor,
        keep: Sequence[str] | None = None,
        *,
        deterministic: bool = False,
        recurrent: bool | None = None,
        op: str = "Acting",
    ) -> None:
        if not callable(actor):
            raise TypeError(
                f"{op}: actor must be a torch.nn.Module or a function, got {type(actor).__name__}"
            )
        module = actor if isinstance(actor, nn.Module) else None
        if deterministic and not (module and callable(getattr(module, "mode", None))):
            raise ValueError(
                f"{op}: actor must be a policy that has a mode if deterministic, got "
                f"{type(actor).__name__}. Give a function that leaves nothing to chance"
            )
        if recurrent is None:
            recurrent = module is not None and is_recurrent(module)
        if keep and "hidden" in keep and not recurrent:
            raise ValueError(
                f"{op}: actor must be recurrent for its hidden states to be kept, "
                f"got {type(actor).__name__}"
            )
        self._actor = actor
        self._method = "mode" if deterministic else "__call__"
        self._keep = None if keep is None else tuple(keep)
        self.recurrent = recurrent
        self._hidden: Any = None
        self._op = op

    @torch.no_grad()
    def __call__(self, envs: Environments) -> Choice:
        """Chooses actions for what the environments show now.

        Raises:
            TypeError: The actor returns no action.
            ValueError: It does not return what shall be kept.
        """
        state: dict[str, Any] = {
            name.removeprefix("state/"): as_tensor(x) for name, x in envs.observation.items()
        }
        device = next(iter(state.values())).device
        if self.recurrent:
            begun = torch.from_numpy(envs.begun).to(device)
            # With the first episodes, states begin anew whatever they were.
            state["hidden"] = None if envs.begun.all() else self._hidden
            state["reset"] = begun
        found = self.ask(state)
        if self.recurrent:
            before, self._hidden = state["hidden"], found["hidden"]
            if self._keep and "hidden" in self._keep:
                found["hidden"] = _at_first(before, self._hidden, begun)
        action = found.get("action")
        if not isinstance(action, Tensor):
            raise TypeError(
                f"{self._op}: actor must return actions in a tensor, got {type(action).__name__}"
            )
        return Choice(action.detach().to(device), self.kept(found, len(action)))

    def ask(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """What the actor returns, by name, for its arguments by name."""
        actor = self._actor
        if isinstance(actor, nn.Module):
            found: Any = safe_call(actor, state, method=self._method)
        else:
            found = actor(state)
        if isinstance(found, Mapping):
            return dict(found)
        found = found if isinstance(found, tuple) else (found,)
        if not self.recurrent:
            return dict(zip(_RETURNED, found, strict=False))
        return {**dict(zip(_RETURNED, found[:-1], strict=False)), "hidden": found[-1]}

    def kept(self, found: Mapping[str, Any], envs: int) -> dict[str, Tensor]:
        """What is kept of what the actor returned."""
        if self._keep is None:
            log_prob = found.get("log_prob")
            if not isinstance(self._actor, nn.Module) or not isinstance(log_prob, Tensor):
                return {}
            return {"log_prob": log_prob.detach()} if log_prob.numel() == envs else {}
        missing = [name for name in self._keep if not isinstance(found.get(name), Tensor)]
        if missing:
            raise ValueError(
                f"{self._op}: actor must return {', '.join(missing)}, which shall be kept, "
                f"got {', '.join(found)}"
            )
        return {name: found[name].detach() for name in self._keep}


def as_tensor(rows: Any) -> Tensor:
    """What a network sees: floating point numbers are of torch's default dtype."""
    found = torch.from_numpy(rows) if isinstance(rows, np.ndarray) else rows
    return found.to(torch.get_default_dtype()) if found.is_floating_point() else found


def _at_first(before: Any, after: Tensor, begun: Tensor) -> Tensor:
    """States before a step: zeros where an episode begins."""
    if before is None:
        return torch.zeros_like(after)
    begun = begun.to(after.device).view(-1, *[1] * (after.dim() - 1))
    return before.masked_fill(begun, 0)
