"""Small environments for tests of the pool.

A module of its own, which workers import by its name.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

SPACES: dict[str, Space[Any]] = {
    "box": Box(-1, 1, (3,), np.float32),
    "scalar": Box(-1, 1, (), np.float64),
    "pixels": Box(0, 255, (6, 5, 2), np.uint8),
    "discrete": Discrete(5, start=-2),
    "multi_discrete": MultiDiscrete([3, 4]),
    "multi_binary": MultiBinary(4),
    "tuple": Tuple((Discrete(3), Box(0, 1, (2, 2), np.float32))),
    "nested": Dict(
        {
            "goal": Box(-1, 1, (2,), np.float64),
            "parts": Tuple((MultiBinary(2), Dict({"inner": Discrete(7)}))),
        }
    ),
}


class RandomWorld(gymnasium.Env[Any, Any]):
    """Observations out of its space, rewards by the action, episodes of random length.

    All follows from the seed, and infos have all kinds of values.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        observation: Space[Any] = SPACES["box"],
        action: Space[Any] = SPACES["discrete"],
        *,
        infos: bool = True,
        render_mode: str | None = None,
        difficulty: int = 1,
    ) -> None:
        self.observation_space, self.action_space = observation, action
        self.render_mode, self.difficulty, self._infos = render_mode, difficulty, infos

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        self.length = int(self.np_random.integers(2, 9)) + (options or {}).get("longer", 0)
        return self._observe(), {"length": self.length} if self._infos else {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.t += 1
        ended = self.t >= self.length
        truncated = ended and self.length % 2 == 0
        return self._observe(), weigh(action), ended and not truncated, truncated, self._info()

    def render(self) -> Any:
        return np.full((2, 2, 3), self.t, np.uint8)

    def double(self, number: int, *, plus: int = 0) -> int:
        return 2 * number + plus + self.difficulty

    def _observe(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()

    def _info(self) -> dict[str, Any]:
        if not self._infos:
            return {}
        info: dict[str, Any] = {"t": self.t, "array": np.arange(3) * self.t, "word": f"t{self.t}"}
        if self.t % 2:
            info["sometimes"] = {"deep": 0.5 * self.t, "flag": True}
        return info


def weigh(action: Any) -> float:
    """A number that depends on each part of an action."""
    if isinstance(action, dict):
        return sum(weigh(part) for part in action.values())
    if isinstance(action, tuple):
        return sum((i + 1) * weigh(part) for i, part in enumerate(action))
    flat = np.asarray(action, np.float64).reshape(-1)
    return float(flat @ np.arange(1, len(flat) + 1))


class Counter(gymnasium.Env[Any, Any]):
    """Observes ``[seed, step, last action]``; its actions can make it do ill.

    Args:
        length: Steps of an episode, which then terminates.
        seconds: That a step takes.
    """

    observation_space = Box(-np.inf, np.inf, (3,), np.float64)
    action_space = Discrete(1000)
    RAISE, KILL, HANG, EXIT = 1000, 1001, 1002, 1003  # outside of its space

    def __init__(self, length: int = 1000, seconds: float = 0.0) -> None:
        self.length, self.seconds = length, seconds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.first_seed = seed
        self.t = 0
        if options and options.get("fail"):
            raise ValueError("no such option")
        return self._observe(-1), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        if action == self.RAISE:
            raise ZeroDivisionError("the world ended")
        if action == self.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == self.EXIT:
            os._exit(3)
        if action == self.HANG:
            while True:
                time.sleep(1)
        if self.seconds:
            time.sleep(self.seconds)
        return self._observe(action), float(self.t), self.t >= self.length, False, {}

    def pid(self) -> int:
        return os.getpid()

    def loaded(self, module: str) -> bool:
        import sys

        return module in sys.modules

    def _observe(self, action: Any) -> Any:
        return np.array([getattr(self, "first_seed", -1), self.t, action], np.float64)


class HalfWritten(gymnasium.Env[Any, Any]):
    """Its process dies when, by action 1, one half of its observation is written."""

    observation_space = Dict(
        {"first": Box(0, 99, (4,), np.int64), "second": Box(0, 99, (4,), np.int64)}
    )
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.t = 0
        return self._observe(), {}

    def step(self, action: int) -> Any:
        self.t += 1
        observation = self._observe()
        if action == 1:
            observation["second"] = KillsWhenItIsCopied()
        return observation, 1.0, False, False, {}

    def _observe(self) -> dict[str, Any]:
        return {"first": np.full(4, self.t), "second": np.full(4, self.t)}


class KillsWhenItIsCopied:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
