"""Steps collected where the workers write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from machin_fast.env.pool import tensors
from machin_fast.env.pool.spaces import Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machin_fast.env.pool.actor_pool import ActorPool
    from machin_fast.env.pool.share import Info


class RolloutBlock:
    """``[steps, envs]`` of a pool's shared memory, that environments write their steps into.

    Made by ``ActorPool.rollout``, and used again and again:

        block = pool.rollout(128)
        while training:
            block.begin()
            for t in range(block.steps):
                block.step(policy(block.observation[t]))
            learn(block)  # nothing was copied

    Row t of ``action``, ``reward``, ``terminated`` and ``truncated`` is step t; row t of
    ``observation`` was seen before it, row t + 1 after it. All stay as they are until ``begin`` is
    called again; the next rollout writes over them.

    Attributes:
        steps: How many there is room for.
        observation: A tree of arrays ``[steps + 1, envs, ...]``, nested as the space is.
        action: A tree of arrays ``[steps, envs, ...]``.
        reward: ``[steps, envs]``, float64.
        terminated, truncated: ``[steps, envs]``, bool.
        infos: Of each step, as ``ActorPool.step`` gives them.
    """

    def __init__(self, pool: ActorPool, number: int) -> None:
        self._pool, self._number = pool, number
        block = pool._stage.blocks[number]
        self.steps = block.shape.steps
        self.observation: Tree = block.observation
        self.action: Tree = block.action
        self.reward: NDArray[np.float64] = block.reward
        self.terminated: NDArray[np.bool_] = block.terminated
        self.truncated: NDArray[np.bool_] = block.truncated
        self.infos: list[Info] = []
        self._resetting = np.zeros(pool.num_envs, bool)

    def begin(self) -> None:
        """Starts with the environments' last observations as row 0.

        Raises:
            AlreadyPendingCallError: Steps are under way.
            ClosedEnvironmentError: The pool is closed.
        """
        self._pool._check_idle("begin")
        self._resetting[:] = self._pool._stage.ended
        self._resetting &= self._pool.autoreset_mode is AutoresetMode.NEXT_STEP
        self._pool._enter(self._number, anew=True)
        self.infos.clear()

    def step(self, actions: Any) -> Info:
        """Takes the next step of all environments.

        Args:
            actions: ``[envs, ...]``, as of ``ActorPool.step``.

        Returns:
            Infos. The rest stands in the block.

        Raises:
            IndexError: The block is full.
            RuntimeError: It was not begun, or another one was since.
            Exception: As of ``ActorPool.step``.
        """
        self._pool._check_idle("step")
        self._check_begun("step")
        self._pool._begin("step", actions)
        _, found = self._pool._finish()
        self.infos.append(self._pool._columns(found))
        return self.infos[-1]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """``[steps, envs]``, False where an environment was only reset: that is no transition."""
        valid = np.empty((self.steps, self._pool.num_envs), bool)
        valid[0] = ~self._resetting
        if self._pool.autoreset_mode is AutoresetMode.NEXT_STEP:
            np.logical_or(self.terminated[:-1], self.truncated[:-1], out=valid[1:])
            np.logical_not(valid[1:], out=valid[1:])
        else:
            valid[1:] = True
        return valid

    @property
    def tensors(self) -> tensors.Tensors:
        """The block as torch tensors, views of the same memory."""
        if not hasattr(self, "_tensors"):
            trees = self.observation, self.action, self.reward, self.terminated, self.truncated
            self._tensors = tensors.Tensors(*(tensors.tensor_views(tree) for tree in trees))
        return self._tensors

    # -- some environments at a time -------------------------------------------------------------

    def send(self, actions: Any, env_ids: Sequence[int] | NDArray[Any]) -> None:
        """Lets some environments take their next step; ``recv`` waits for them.

        Args:
            actions: ``[k, ...]``.
            env_ids: ``[k]``.

        Raises:
            IndexError: An environment has taken all steps.
            RuntimeError: It was not begun, or another one was since.
            Exception: As of ``ActorPool.send``.
        """
        self._pool._check_no_step("send")
        self._check_begun("send")
        self._pool._send(actions, env_ids)

    def recv(
        self, count: int | None = None, *, env_ids: Sequence[int] | NDArray[Any] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Info]:
        """Waits as ``ActorPool.recv`` does.

        Args:
            count, env_ids: For which steps to wait.

        Returns:
            ``[k]``, the environments; ``[k]``, the steps they took, so that
            ``observation[step + 1, env_ids]`` is what they led to; infos ``[k]``.

        Raises:
            Exception: As of ``ActorPool.recv``.
        """
        self._check_begun("recv")
        received, found = self._pool._recv(count, env_ids)
        return received, self._pool._stage.steps_taken(received) - 1, found

    def _check_begun(self, name: str) -> None:
        self._pool._check_open()
        if self._pool._stage.number != self._number:
            raise RuntimeError(f"RolloutBlock.{name}: the block must be begun, got none that was")
