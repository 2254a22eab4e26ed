"""Machin's own buffers (PyPI machin 0.4.2), and ours in its place: episodes of dicts go in."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.peers import PeerError, load
from benchmarks.transitions import Transitions, cut

Episode = list[dict[str, Any]]

# Machin's own hold no more: a row takes kilobytes, and 70 us to add.
CAPACITY = 20_000


class _Numpy1(ModuleType):
    """numpy with the names that Machin uses and numpy 2 no longer has."""

    float = float
    long = np.int64

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@cache
def machin() -> Any:
    """Machin's module of prioritized buffers, which imports that of the plain ones.

    Importing the packages above it would import gym, moviepy, torchviz and more, which these
    modules do not use; so they are given empty ones.

    Raises:
        PeerError: Machin is not installed.
    """
    spec = importlib.util.find_spec("machin")
    if spec is None or spec.origin is None:
        raise PeerError("No module named 'machin' (pip install --no-deps machin==0.4.2)")
    folder = Path(spec.origin).parent
    for name in ("machin", "machin.frame", "machin.frame.buffers"):
        package = ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
        sys.modules.setdefault(name, package)
    module = load("machin.frame.buffers.prioritized_buffer")
    module.np = _Numpy1("numpy")
    return module


def held(source: Transitions) -> Transitions:
    """The rows of ``source`` that a buffer of Machin holds."""
    return cut(source, 0, CAPACITY)


def pack(rows: Transitions) -> tuple[Episode]:
    """One dict for each row; its tensors have a batch dimension of 1, and memory of their own:
    of a view Machin would copy all that it is a view of."""
    tensors = {name: torch.from_numpy(rows[name]) for name in ("state", "action", "next_state")}
    rewards, terminals = rows["reward"].tolist(), rows["terminated"].tolist()
    episode = [
        {
            **{name: {name: column[i : i + 1].clone()} for name, column in tensors.items()},
            "reward": reward,
            "terminal": terminal,
        }
        for i, (reward, terminal) in enumerate(zip(rewards, terminals, strict=True))
    ]
    return (episode,)


def read(got: Any) -> Transitions:
    """What ``sample_batch`` returned; a prioritized one returns indices and weights, too."""
    _, (state, action, next_state, reward, terminal), *_ = got
    return {
        "state": state["state"].numpy(),
        "action": action["action"].numpy(),
        "reward": reward.numpy(),
        "next_state": next_state["next_state"].numpy(),
        "terminated": terminal.numpy(),
    }


def one_by_one(append: Callable[[dict[str, Any]], object]) -> Callable[[Episode], None]:
    """Stores an episode as Machin's algorithms do: its buffers take single steps."""

    def store(episode: Episode) -> None:
        for step in episode:
            append(step)

    return store
