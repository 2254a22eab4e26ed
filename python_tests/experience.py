"""What agents went through, made up: observations of 4 numbers, as ``networks`` take them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from machin_fast.data import Batch, Trajectory
from networks import ACTIONS, DIM, OBS

CONTINUOUS, DISCRETE, PROBABILITY = "continuous", "discrete", "probability"


def actions(n: int, kind: str, random: torch.Generator, dtype: torch.dtype) -> Tensor:
    if kind == DISCRETE:
        return torch.randint(ACTIONS, (n, 1), generator=random)
    if kind == PROBABILITY:
        return torch.rand(n, ACTIONS, generator=random, dtype=dtype).softmax(1)
    return torch.rand(n, DIM, generator=random, dtype=dtype) * 2 - 1


def episode(
    steps: int, kind: str = CONTINUOUS, *, end: str = "terminated", seed: int = 0, **custom: Any
) -> list[dict[str, Any]]:
    """As Machin's users store it: float32, a row each. A time limit is terminal and truncated."""
    random = torch.Generator().manual_seed(seed)
    state = torch.randn(steps + 1, OBS, generator=random)
    action = actions(steps, kind, random, torch.float32)
    reward = torch.randn(steps, generator=random).tolist()
    found: list[dict[str, Any]] = [
        {
            "state": {"state": state[t : t + 1]},
            "action": {"action": action[t : t + 1]},
            "next_state": {"state": state[t + 1 : t + 2]},
            "reward": reward[t],
            "terminal": False,
            **custom,
        }
        for t in range(steps)
    ]
    found[-1]["terminal"] = end != "cut"
    if end == "truncated":
        for t, step in enumerate(found):
            step["truncated"] = t == steps - 1
    return found


def trajectory(
    lengths: Sequence[int],
    kind: str = CONTINUOUS,
    *,
    ends: str = "",
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    nested: bool = False,
) -> Trajectory:
    """Segments that end by termination ("t"), a time limit ("l"), or are cut ("c")."""
    random = torch.Generator().manual_seed(seed)
    n, segments = sum(lengths), len(lengths)
    last = torch.tensor(lengths).cumsum(0) - 1
    terminated, truncated = torch.zeros(2, n, dtype=torch.bool)
    for row, how in zip(last, ends or "t" * segments, strict=True):
        terminated[row] = how == "t"
        truncated[row] = how == "l"
    name, chosen = ("state/state", "action/action") if nested else ("state", "action")
    return Trajectory(
        {
            name: torch.randn(n, OBS, generator=random, dtype=dtype),
            chosen: actions(n, kind, random, dtype),
            "reward": torch.randn(n, generator=random, dtype=dtype),
            "terminated": terminated,
            "truncated": truncated,
        },
        [0, *(last + 1).tolist()],
        final={name: torch.randn(segments, OBS, generator=random, dtype=dtype)},
    )


def transitions(n: int, kind: str = CONTINUOUS, *, seed: int = 0, **columns: Any) -> Batch:
    """A batch of rows that have nothing to do with each other, float64; some terminated."""
    random = torch.Generator().manual_seed(seed)
    made = {
        "state": torch.randn(n, OBS, generator=random, dtype=torch.float64),
        "action": actions(n, kind, random, torch.float64),
        "next_state": torch.randn(n, OBS, generator=random, dtype=torch.float64),
        "reward": torch.randn(n, generator=random, dtype=torch.float64),
        "terminated": torch.rand(n, generator=random) < 0.3,
    }
    return Batch({**made, **columns}, torch.arange(n), None)


def parameters(*networks: nn.Module) -> list[Tensor]:
    """Copies."""
    return [x.detach().clone() for network in networks for x in network.parameters()]


def after_sgd(network: nn.Module, loss: Tensor, rate: float) -> list[Tensor]:
    """What plain gradient descent makes of a network's parameters."""
    known = list(network.parameters())
    gradient = torch.autograd.grad(loss, known, materialize_grads=True, retain_graph=True)
    return [(x - rate * g).detach() for x, g in zip(known, gradient, strict=True)]


def follow(target: Iterable[Tensor], online: Iterable[Tensor], rate: float) -> list[Tensor]:
    """What a soft update makes of a target network's parameters."""
    return [(1 - rate) * x + rate * y for x, y in zip(target, online, strict=True)]


def seeded(make: Any, *args: Any, seed: int = 0, **kwargs: Any) -> Any:
    """A network of known parameters, float64."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(*args, **kwargs).double()


class Calls:
    """Counts what a network was called with, in order."""

    def __init__(self, network: nn.Module) -> None:
        self.inputs: list[dict[str, Any]] = []
        network.register_forward_pre_hook(
            lambda _, __, kwargs: self.inputs.append(dict(kwargs)), with_kwargs=True
        )

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def rows(self) -> list[int]:
        """How many rows each call had."""
        return [len(next(iter(each.values()))) for each in self.inputs]
