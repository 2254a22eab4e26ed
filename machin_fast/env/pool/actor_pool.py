"""A vector of environments, stepped by worker processes and the parent together."""

from __future__ import annotations

import mmap
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.util import Finalize
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium import Env
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import (
    AlreadyPendingCallError,
    ClosedEnvironmentError,
    NoAsyncCallError,
    ResetNeeded,
)
from gymnasium.spaces.utils import is_space_dtype_shape_equiv
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_differing_spaces, batch_space
from numpy.typing import NDArray

from machin_fast.env.pool import infos, plan
from machin_fast.env.pool.crew import Care, Spaces
from machin_fast.env.pool.errors import EnvFailed
from machin_fast.env.pool.factories import Maker, makers
from machin_fast.env.pool.memory import BlockShape
from machin_fast.env.pool.process import start_context
from machin_fast.env.pool.rollout import RolloutBlock
from machin_fast.env.pool.seeds import independent_seeds, seeds_of_reset
from machin_fast.env.pool.share import Info
from machin_fast.env.pool.spaces import Tree, check_supported, convert, take
from machin_fast.env.pool.stage import Ids, Row, Stage
from machin_fast.env.pool.stepping import Stepping
from machin_fast.env.pool.tensors import Tensors, as_tensors, pin, unpin
from machin_fast.env.pool.worker import Call, SetAttribute

Step = tuple[Tree, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Info]

# A pool that is closed as something went wrong waits so long for its workers, in seconds.
_PATIENCE_AFTER_ERRORS = 0.5


class Received(NamedTuple):
    """Steps of some environments, ``[k, ...]``, in the order of ``env_ids``."""

    env_ids: Ids
    observation: Tree
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    infos: Info


class WorkerState(NamedTuple):
    """A worker as ``ActorPool.workers`` shows it."""

    pid: int
    env_ids: range
    steps: int
    """That it has taken."""
    seconds: float
    """That they took."""
    heartbeat_age: float
    """Seconds since its last sign of life."""
    restarts: int


class ActorPool(VectorEnv[Any, Any, Any]):
    """Environments in worker processes and in this one, as one vector of environments.

    A ``gymnasium.vector.VectorEnv`` like ``SyncVectorEnv``, with the same results. Observations,
    actions, rewards and flags stand in shared memory: a step pickles nothing, and wakes each
    worker once. While workers step their environments, the parent steps a share of its own.

    Results do not depend on the number of workers. ``reset(seed=n)`` seeds environment i with
    ``n + i``, which is Gymnasium's convention. Without a seed there, the first reset uses
    independent ones drawn from ``seed`` of the pool.

    Memory that is handed out is the caller's own, unless ``copy`` is False: then observations,
    rewards and flags are views of the shared memory. Those of a step stay as they are during the
    next step, and are written over by the one after it, or by a reset. ``tensors`` and
    ``rollout`` are such views always.

    Workers do not import the main program: it needs no ``if __name__ == "__main__"``. They get
    the environments' functions by cloudpickle, and what it registered with Gymnasium.

    Args:
        env: Name or spec in Gymnasium's registry, a function that makes an environment, or a
            function for each environment.
        num_envs: How many; may be left out where ``env`` says so.
        num_workers: Worker processes; 0: none, all is done here. None: as many as pay. Then the
            first environment is made once more, tried for some milliseconds, and closed.
        step_in_parent: Whether the parent steps a share. For ``send`` and ``recv`` with slow
            environments it may be better if it is always free.
        autoreset_mode: ``NEXT_STEP``, ``SAME_STEP`` or ``DISABLED``.
        seed: From which the environments' first seeds are drawn. None: at random.
        copy: Whether results are the caller's own.
        observation_mode: ``"same"``: all environments have equal observation spaces;
            ``"different"``: only shapes and dtypes are equal.
        context: How workers start, ``"forkserver"`` or ``"spawn"``. None: the first there is.
        step_timeout: Seconds without a sign of life after which a worker is given up and killed.
        on_worker_death: ``"raise"``: the pool is closed. ``"restart"``: a new worker with new
            environments takes over, under other seeds. Steps of lost episodes come back truncated,
            with the last observation, no reward, and ``worker_restarted`` in the info. What
            ``set_attr`` had set is lost.
        max_restarts: So often, of all workers together.
        env_kwargs: For ``gymnasium.make``.

    Attributes:
        num_workers: Worker processes.

    Raises:
        ValueError: A setting is out of range, or a space is not made of Box, Discrete,
            MultiDiscrete, MultiBinary, Dict and Tuple.
        RuntimeError: The environments' spaces differ.
        EnvFailed: An environment could not be made.
        MemoryError: There is too little shared memory.
    """

    def __init__(
        self,
        env: str | EnvSpec | Maker | Sequence[Maker],
        num_envs: int | None = None,
        *,
        num_workers: int | None = None,
        step_in_parent: bool = True,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        seed: int | None = None,
        copy: bool = True,
        observation_mode: Literal["same", "different"] = "same",
        context: Literal["forkserver", "spawn"] | None = None,
        step_timeout: float = 60.0,
        on_worker_death: Literal["raise", "restart"] = "raise",
        max_restarts: int = 10,
        env_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.closed = True  # until there is something to close
        found = makers(env, num_envs, env_kwargs)
        self.num_envs, self.copy = len(found), copy
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        _check_choice("on_worker_death", on_worker_death, ("raise", "restart"))
        _check_choice("observation_mode", observation_mode, ("same", "different"))
        self._check_numbers(num_workers, step_in_parent, step_timeout, max_restarts)
        start = start_context(context)
        self._seeds = None if seed is None else independent_seeds(seed, self.num_envs)

        try:
            probe = found[0]()
        except Exception as error:
            raise EnvFailed.of(error, 0, None, "its making") from error
        try:
            self._describe(probe)
            if num_workers is None:
                num_workers = self._workers_that_pay(probe, step_in_parent)
                probe.close()
            elif step_in_parent:
                found[0] = _given(probe)
            else:
                probe.close()
            self.num_workers = num_workers
            shape = self._block_shape(steps=2, is_ring=True)
            self._stage = Stage(shape, num_workers)
        except BaseException:
            probe.close()
            raise
        self._stepping = Stepping(
            found,
            self.autoreset_mode,
            self._stage,
            plan.shares(self.num_envs, num_workers, step_in_parent=step_in_parent),
            start,
            Care(step_timeout, on_worker_death == "restart", max_restarts),
        )
        # Also before multiprocessing, at the end of the program, waits for the workers.
        self._pins, self._pinned = False, list[mmap.mmap]()
        self._end = Finalize(self, _close, (self._stepping, self._pinned), exitpriority=100)
        self.closed = False
        self._pending: str | None = None
        self._tensors: dict[tuple[int, int], Tensors] = {}
        try:
            self._batch_spaces(self._stepping.spaces(), observation_mode)
        except BaseException:
            self._fail()
            raise

    # -- what Gymnasium asks of a vector of environments -----------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Info | None = None
    ) -> tuple[Tree, Info]:
        """Resets environments.

        Args:
            seed: n: environment i gets ``n + i``. A sequence: one for each. None: they go on with
                the random numbers they have, if they were reset before.
            options: Given to each environment. ``reset_mask`` in it, ``[envs]`` bool, says which
                to reset, and is not given to them.

        Returns:
            Observations ``[envs, ...]`` of all environments, and infos.

        Raises:
            AlreadyPendingCallError: Steps are under way.
            ClosedEnvironmentError: The pool is closed.
            EnvFailed: An environment raised. The pool is closed then.
            WorkerDied, WorkerHung: A worker was lost. The pool is closed then.
        """
        self._check_idle("reset")
        mask, options = self._reset_mask(options)
        if seed is None and self._seeds is not None:
            seed, self._seeds = self._seeds, None
        seeds = seeds_of_reset(seed, self.num_envs)
        env_ids = np.flatnonzero(mask)
        self._enter(0)
        with self._failing():
            found = self._stepping.reset(env_ids, [seeds[i] for i in env_ids], options)
        self._stepping.was_reset = True
        observation = self._stage.observation()
        return convert(observation, np.copy) if self.copy else observation, self._columns(found)

    def step(self, actions: Any) -> Step:
        """Takes a step of all environments.

        Args:
            actions: ``[envs, ...]``, arrays or tensors on the CPU, nested as the action space.
                They are cast to its dtype.

        Returns:
            Observations, rewards, terminated, truncated, each ``[envs, ...]``, and infos.

        Raises:
            ValueError, TypeError: ``actions`` are not as the action space says. No step is taken.
            ResetNeeded: An environment must be reset first.
            AlreadyPendingCallError: Steps are under way.
            ClosedEnvironmentError: The pool is closed.
            EnvFailed: An environment raised. The pool is closed then.
            WorkerDied, WorkerHung: A worker was lost. The pool is closed then.
        """
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Any) -> None:
        """The first half of ``step``: workers begin, and the caller may do something else.

        Args:
            actions: See ``step``.

        Raises:
            Exception: As of ``step``.
        """
        self._check_idle("step_async")
        if self._stage.number:
            self._enter(0)
        self._begin("step", actions)

    def step_wait(self) -> Step:
        """The second half of ``step``: the parent steps its share, and waits for the workers.

        Returns:
            As ``step``.

        Raises:
            NoAsyncCallError: There was no ``step_async``.
            Exception: As of ``step``.
        """
        self._check_open()
        if self._pending != "step":
            raise NoAsyncCallError("ActorPool.step_wait: there was no step_async", "step")
        row, found = self._finish()
        infos = self._columns(found) if found else {}
        observation, _, reward, terminated, truncated = row
        if not self.copy:
            return observation, reward, terminated, truncated, infos
        if type(observation) is np.ndarray:
            observation = observation.copy()
        else:
            observation = convert(observation, np.copy)
        return observation, reward.copy(), terminated.copy(), truncated.copy(), infos

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Calls a method of each environment, or gets an attribute.

        Args:
            name: Of a method or attribute of an environment or one of its wrappers.
            *args, **kwargs: For the method.

        Returns:
            A result for each environment.

        Raises:
            ValueError: ``name`` is ``reset``, ``step`` or ``close``, which the pool has itself.
            Exception: What the environment raised. The pool goes on.
        """
        if name in ("reset", "step", "close"):
            raise ValueError(f"ActorPool.call: name must be no method of the pool, got {name!r}")
        return tuple(self._ask(name, lambda some: Call(some, name, args, kwargs)))

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of each environment.

        Args:
            name: Of an attribute of an environment or one of its wrappers.

        Returns:
            Its value for each environment.

        Raises:
            AttributeError: There is none.
        """
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of each environment.

        Args:
            name: Of the attribute.
            values: A list or tuple with a value for each environment; or one for all.

        Raises:
            ValueError: There are not as many values as environments.
        """
        if not isinstance(values, list | tuple):
            values = [values] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(
                f"ActorPool.set_attr: values must be {self.num_envs}, one for each environment, "
                f"got {len(values)}"
            )
        self._ask("set_attr", lambda some: SetAttribute(some, name, [values[i] for i in some]))

    def render(self) -> tuple[Any, ...] | None:
        """A frame of each environment, in the pool's ``render_mode``."""
        return self.call("render")

    @property
    def np_random_seed(self) -> Any:
        """What each environment's random numbers were seeded with."""
        return self.get_attr("np_random_seed")

    @property  # type: ignore[misc]  # Gymnasium's can be set, but not those of its vectors
    def np_random(self) -> Any:
        """Each environment's random numbers; a copy where it lives in a worker."""
        return self.get_attr("np_random")

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Ends the workers; called by ``close``, which may be called twice and never raises.

        Args:
            timeout: Seconds until workers whose environments do not close are killed; None: 2.
            terminate: Kill them at once.
        """
        self._end.cancel()
        _close(self._stepping, self._pinned, patience=0.0 if terminate else timeout)
        self._stage.free()
        self._tensors.clear()
        self._pending = None

    # -- some environments, while others are under way -------------------------------------------

    def send(self, actions: Any, env_ids: Sequence[int] | NDArray[Any] | None = None) -> None:
        """Lets some environments step; ``recv`` gives what came of it.

        Args:
            actions: ``[k, ...]``, as of ``step``.
            env_ids: ``[k]``, which ones, each once. None: all.

        Raises:
            ValueError, TypeError, IndexError: Actions or ids are wrong. No step is taken.
            ResetNeeded: An environment must be reset first.
            AlreadyPendingCallError: One of them is under way already.
            ClosedEnvironmentError: The pool is closed.
        """
        self._check_no_step("send")
        if self._stage.number and not self._stepping.under_way:
            self._enter(0)
        self._check_ring("send")
        self._send(actions, env_ids)

    def recv(
        self, count: int | None = None, *, env_ids: Sequence[int] | NDArray[Any] | None = None
    ) -> Received:
        """Waits for steps that were sent: the first ``count`` that are ready, whichever those are.

        The parent steps those of its own share here.

        Args:
            count: How many. None: all that are under way.
            env_ids: Wait for these, and not for the first ones.

        Returns:
            The steps. With ``copy=False`` they are views if the environments stand side by side.

        Raises:
            NoAsyncCallError: So many were not sent.
            ClosedEnvironmentError: The pool is closed.
            EnvFailed: An environment raised. The pool is closed then.
            WorkerDied, WorkerHung: A worker was lost. The pool is closed then.
        """
        self._check_no_step("recv")
        self._check_ring("recv")
        received, found = self._recv(count, env_ids)
        observation, _, reward, terminated, truncated = self._stage.results(received)
        if self.copy and not reward.flags.owndata:
            observation = convert(observation, np.copy)
            reward, terminated, truncated = reward.copy(), terminated.copy(), truncated.copy()
        return Received(received, observation, reward, terminated, truncated, found)

    # -- shared memory ---------------------------------------------------------------------------

    def rollout(self, steps: int) -> RolloutBlock:
        """Makes room for ``[steps, envs]``, which environments write their steps into.

        Make it once and use it again: the memory is kept until the pool is closed.

        Args:
            steps: Number of steps, at least 1.

        Returns:
            The block. See ``RolloutBlock`` for how to step in it.

        Raises:
            ValueError: ``steps`` is less.
            MemoryError: There is too little shared memory.
        """
        self._check_idle("rollout")
        if steps < 1:
            raise ValueError(f"ActorPool.rollout: steps must be at least 1, got {steps}")
        shape = self._block_shape(steps=operator.index(steps), is_ring=False)
        crew = self._stepping.crew
        number, memory = self._stage.add(shape, shared=crew is not None)
        if crew is not None and memory is not None:
            with self._failing():
                crew.add_block(shape, memory)
        if self._pins:
            self.pin_memory()
        return RolloutBlock(self, number)

    @property
    def tensors(self) -> Tensors:
        """The last step of all environments as torch tensors, views of the shared memory.

        They stay as they are during the next step, and are written over by the one after it, or
        by a reset.
        """
        self._check_idle("tensors")
        self._enter(0)
        row = self._stage.row
        if (0, row) not in self._tensors:
            self._tensors[0, row] = as_tensors(self._stage.rows[row])
        return self._tensors[0, row]

    def pin_memory(self) -> bool:
        """Registers the shared memory with CUDA: copies of views to a GPU need no staging then.

        Returns:
            Whether it is registered; False without CUDA.
        """
        self._check_open()
        self._pins = True
        for buffer in self._stage.buffers[len(self._pinned) :]:
            if not pin(buffer):
                return False
            self._pinned.append(buffer)
        return True

    # -- what the workers do ---------------------------------------------------------------------

    @property
    def workers(self) -> list[WorkerState]:
        """Each worker's state and figures."""
        self._check_open()
        crew, board = self._stepping.crew, self._stage.board
        if crew is None:
            return []
        return [
            WorkerState(
                process.pid,
                crew.shares[w],
                int(board.steps[w]),
                float(board.seconds[w]),
                crew.heartbeat_age(w),
                crew.restarts[w],
            )
            for w, process in enumerate(crew.processes)
        ]

    @property
    def slowest_worker(self) -> int | None:
        """The worker that takes longest for a step; None if none has taken any."""
        times = [w.seconds / w.steps if w.steps else -1.0 for w in self.workers]
        return int(np.argmax(times)) if max(times, default=-1.0) >= 0 else None

    # -- within ----------------------------------------------------------------------------------

    def _describe(self, env: Env[Any, Any]) -> None:
        self.metadata = {**env.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = env.render_mode
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        check_supported("observation_space", env.observation_space)
        check_supported("action_space", env.action_space)

    def _workers_that_pay(self, probe: Env[Any, Any], step_in_parent: bool) -> int:
        available = plan.cores()
        if step_in_parent and (available == 1 or self.num_envs == 1):
            return 0
        seconds = plan.seconds_per_step(probe) if step_in_parent else 0.0
        return plan.best_num_workers(
            seconds, self.num_envs, available, step_in_parent=step_in_parent
        )

    def _check_numbers(
        self,
        num_workers: int | None,
        step_in_parent: bool,
        step_timeout: float,
        max_restarts: int,
    ) -> None:
        least = 0 if step_in_parent else 1
        if num_workers is not None and not least <= num_workers <= self.num_envs:
            raise ValueError(
                f"ActorPool: num_workers must be from {least} to num_envs = {self.num_envs}, "
                f"got {num_workers}"
            )
        if not step_timeout > 0:
            raise ValueError(f"ActorPool: step_timeout must be positive, got {step_timeout}")
        if max_restarts < 0:
            raise ValueError(f"ActorPool: max_restarts must be at least 0, got {max_restarts}")

    def _batch_spaces(self, found: list[Spaces], mode: str) -> None:
        single, action = self.single_observation_space, self.single_action_space
        for env_id, (observation_space, action_space) in enumerate(found):
            same = observation_space == single
            if not same and mode == "different":
                same = is_space_dtype_shape_equiv(observation_space, single)
            if not same:
                raise RuntimeError(
                    f"ActorPool: observation_space of environment {env_id} must be "
                    f"{'like' if mode == 'different' else 'equal to'} {single}, "
                    f"got {observation_space}"
                )
            if action_space != action:
                raise RuntimeError(
                    f"ActorPool: action_space of environment {env_id} must be {action}, "
                    f"got {action_space}"
                )
        self.action_space = batch_space(action, self.num_envs)
        if mode == "different":
            self.observation_space = batch_differing_spaces([pair[0] for pair in found])
        else:
            self.observation_space = batch_space(single, self.num_envs)

    def _block_shape(self, *, steps: int, is_ring: bool) -> BlockShape:
        return BlockShape(
            self.single_observation_space,
            self.single_action_space,
            self.num_envs,
            steps,
            is_ring,
            keeps_final=self.autoreset_mode is AutoresetMode.SAME_STEP,
        )

    def _enter(self, number: int, *, anew: bool = False) -> None:
        if self._stage.number != number or anew:
            self._stepping.enter(number)

    def _begin(self, name: str, actions: Any) -> None:
        if not self._stepping.was_reset or self.autoreset_mode is AutoresetMode.DISABLED:
            self._check_reset(name, slice(None))
        self._stepping.begin_all(actions)
        self._pending = "step"

    def _finish(self) -> tuple[Row, dict[int, Info]]:
        try:
            found = self._stepping.finish_all()
        except BaseException:
            self._fail()
            raise
        self._pending = None
        return found

    def _send(self, actions: Any, env_ids: Any) -> None:
        ids = self._ids("send", env_ids)
        if len(busy := self._stepping.busy(ids)):
            raise AlreadyPendingCallError(
                f"ActorPool.send: environments {busy.tolist()} are under way already", "send"
            )
        self._check_reset("send", ids)
        self._stage.begin(ids, actions)
        with self._failing():
            self._stepping.send(ids)

    def _recv(self, count: int | None, env_ids: Any) -> tuple[Ids, Info]:
        under_way = self._stepping.under_way
        ids = None
        if env_ids is not None:
            ids = self._ids("recv", env_ids)
            missing = len(ids) - len(self._stepping.busy(ids))
        else:
            count = under_way if count is None else count
            missing = count - under_way
        if missing > 0 or not under_way:
            raise NoAsyncCallError(
                f"ActorPool.recv: {under_way} environments are under way, fewer than asked for",
                "recv",
            )
        with self._failing():
            received = self._stepping.receive(count, ids)
        found = self._stepping.infos_of(received)
        return received, infos.rows(self._columns(found), received) if found else {}

    def _columns(self, found: dict[int, Info]) -> Info:
        final = self._stage.block.final_observation
        return infos.columns(
            found,
            self.num_envs,
            self._add_info,
            None if final is None else lambda env_id: convert(take(final, env_id), np.copy),
        )

    def _ask(self, name: str, message: Callable[[Sequence[int]], Any]) -> list[Any]:
        self._check_idle(name)
        try:
            return self._stepping.ask(message, range(self.num_envs))
        except EnvFailed as failed:
            # A missing attribute is to look like one; where it is missing is told as the cause.
            original, failed.__cause__ = failed.__cause__, None
            if original is None:
                raise
            raise original from failed
        except BaseException:
            self._fail()
            raise

    def _reset_mask(self, options: Info | None) -> tuple[NDArray[np.bool_], Info | None]:
        if options is None or "reset_mask" not in options:
            return np.ones(self.num_envs, bool), options
        options = dict(options)
        mask = options.pop("reset_mask")
        name = "ActorPool.reset: options['reset_mask']"
        if not isinstance(mask, np.ndarray) or mask.dtype != bool:
            kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
            raise TypeError(f"{name} must be an array of bool, got {kind}")
        if mask.shape != (self.num_envs,):
            raise ValueError(f"{name} must have shape [{self.num_envs}], got {list(mask.shape)}")
        if not mask.any():
            raise ValueError(f"{name} must be True somewhere, got False everywhere")
        return mask, options

    def _ids(self, name: str, env_ids: Any) -> Ids:
        if env_ids is None:
            return np.arange(self.num_envs)
        ids = np.asarray(env_ids)
        if ids.ndim != 1 or (ids.dtype.kind not in "iu" and len(ids)):
            raise TypeError(f"ActorPool.{name}: env_ids must be integers [k], got {env_ids!r}")
        ids = ids.astype(np.int64)
        if len(wrong := ids[(ids < 0) | (ids >= self.num_envs)]):
            raise IndexError(
                f"ActorPool.{name}: env_ids must be in [0, {self.num_envs}), got {wrong[0]}"
            )
        if len(np.unique(ids)) != len(ids):
            raise ValueError(f"ActorPool.{name}: env_ids must differ, got {ids.tolist()}")
        return ids

    def _check_reset(self, name: str, ids: Ids | slice) -> None:
        if not self._stepping.was_reset:
            raise ResetNeeded(f"ActorPool.{name}: reset must be called first")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._stage.ended[ids].any():
            ended = np.flatnonzero(self._stage.ended)
            raise ResetNeeded(
                f"ActorPool.{name}: environments {ended.tolist()} have ended and must be reset "
                "first, with options={'reset_mask': ...}"
            )

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("ActorPool: the pool is closed")

    def _check_idle(self, name: str) -> None:
        self._check_no_step(name)
        if self._stepping.under_way:
            raise AlreadyPendingCallError(
                f"ActorPool.{name}: {self._stepping.under_way} environments are under way; "
                "recv them first",
                "send",
            )

    def _check_no_step(self, name: str) -> None:
        self._check_open()
        if self._pending is not None:
            raise AlreadyPendingCallError(
                f"ActorPool.{name}: a step is under way; step_wait for it first", self._pending
            )

    def _check_ring(self, name: str) -> None:
        if self._stage.number:
            raise AlreadyPendingCallError(
                f"ActorPool.{name}: steps of a RolloutBlock are under way; recv them there", name
            )

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Closes the pool if what happens here fails half-way."""
        try:
            yield
        except BaseException:
            self._fail()
            raise

    def _fail(self) -> None:
        self.close(timeout=_PATIENCE_AFTER_ERRORS)


def _close(stepping: Stepping, pinned: list[mmap.mmap], *, patience: float | None = None) -> None:
    while pinned:
        unpin(pinned.pop())
    stepping.close(patience=patience)


def _given(env: Env[Any, Any]) -> Maker:
    return lambda: env


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"ActorPool: {name} must be one of {', '.join(choices)}, got {value!r}")
