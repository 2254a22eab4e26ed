"""A share of the pool's environments: those that one process steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gymnasium import Env
from gymnasium.vector import AutoresetMode

from machin_fast.env.pool.errors import EnvFailed
from machin_fast.env.pool.memory import Block, Board, flat
from machin_fast.env.pool.spaces import reader, shape_fault, writer

Info = dict[str, Any]


class Share:
    """Steps environments ``first``, ``first + 1``, ... and writes what they give into a block.

    Args:
        first: Number in the pool of the first environment.
        makers: Functions that make the environments.
        mode: When an environment that ended is reset.
        board: Says where steps take place.
        seeds: For each environment what its first reset without a seed is seeded with, if it
            replaces one that was lost; else None.
    """

    def __init__(
        self,
        first: int,
        makers: Sequence[Callable[[], Env[Any, Any]]],
        mode: AutoresetMode,
        board: Board,
        seeds: Sequence[int | None] | None = None,
    ) -> None:
        self.first = first
        self.envs: list[Env[Any, Any]] = []
        self.seeds: list[int | None] = list(seeds or [None] * len(makers))
        self._seed_next = {i: seed for i, seed in enumerate(self.seeds) if seed is not None}
        # An environment that replaces a lost one starts with a reset.
        next_step = mode is AutoresetMode.NEXT_STEP
        self._resetting = [next_step and i in self._seed_next for i in range(len(makers))]
        self._next_step, self._same_step = next_step, mode is AutoresetMode.SAME_STEP
        self._slot = board.slot.data
        try:
            for make in makers:
                self.envs.append(make())
        except Exception as error:
            self.close()
            raise EnvFailed.of(error, first + len(self.envs), None, "its making") from error
        self._steps = [env.step for env in self.envs]

    def attach(self, block: Block) -> None:
        """Steps take place in this block from now on."""
        observation = flat(block.observation)
        self._observation = observation
        self._ahead = block.ahead * block.shape.num_envs
        self._read = reader(flat(block.action))
        self._write = writer(observation)
        if block.final_observation is not None:
            self._write_final = writer(block.final_observation)
        # Memoryviews, whose items are twice as quick as numpy's.
        self._reward: Any = block.reward.reshape(-1).data
        self._terminated: Any = block.terminated.reshape(-1).data
        self._truncated: Any = block.truncated.reshape(-1).data

    def step(self, env_id: int) -> Info:
        """Takes one environment's step, a reset where that is due.

        Returns:
            Its info. Where an episode ended and the next one began, ``final_info`` is in it.

        Raises:
            Exception: What the environment raised, or its step was wrong. See ``failure``.
        """
        i = env_id - self.first
        slot = self._slot[env_id]
        if self._resetting[i]:
            observation, info = self._reset(i)
            reward: Any = 0.0
            terminated = truncated = self._resetting[i] = False
        else:
            observation, reward, terminated, truncated, info = self._steps[i](self._read(slot))
            if terminated or truncated:
                if self._same_step:
                    self._write_final(env_id, observation)
                    observation, reset_info = self._reset(i)
                    info = {"final_info": info, **reset_info}
                else:
                    self._resetting[i] = self._next_step
        self._write(slot + self._ahead, observation)
        self._reward[slot] = reward
        self._terminated[slot] = terminated
        self._truncated[slot] = truncated
        return info

    def reset(self, env_id: int, slot: int, seed: int | None, options: Info | None) -> Info:
        """Resets one environment as the user asked; its observation goes to ``slot``."""
        i = env_id - self.first
        if seed is None:
            seed = self._seed_next.pop(i, None)
        if seed is not None:
            self.seeds[i] = seed
        observation, info = self.envs[i].reset(seed=seed, options=options)
        self._resetting[i] = False
        self._check(observation)
        self._write(slot, observation)
        return info

    def failure(self, error: Exception, env_id: int, what: str) -> EnvFailed:
        """What to raise where an environment raised ``error``."""
        return EnvFailed.of(error, env_id, self.seeds[env_id - self.first], what)

    def close(self) -> None:
        """Closes the environments, all of them, even if one raises."""
        for env in self.envs:
            try:
                env.close()
            except Exception:
                continue

    def _reset(self, i: int) -> tuple[Any, Info]:
        seed = self._seed_next.pop(i, None)
        reset = self.envs[i].reset
        observation, info = reset() if seed is None else reset(seed=seed)
        self._check(observation)
        return observation, info

    def _check(self, observation: Any) -> None:
        # Of first observations alone, as it takes as long as a quick environment's step.
        if fault := shape_fault(self._observation, observation):
            raise ValueError(f"the observation must fit observation_space: {fault}")
