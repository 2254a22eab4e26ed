"""Several environments of Gymnasium as Machin's programs step them."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import pickle
import traceback
import weakref
from abc import abstractmethod
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper
from numpy.typing import NDArray

from machin_fast.env.wrappers.base import Index, ParallelWrapperBase, Steps

Creator: TypeAlias = Callable[[int], Any]
"""Makes the environment of this number, of Gymnasium; or an old one, whose ``reset`` returns the
observation alone, and ``step`` four values."""

Call: TypeAlias = tuple[str, tuple[Any, ...]]
"""A method of ``_SingleEnv`` and its arguments."""

_PATIENCE = 5.0  # seconds for a worker to end by itself


class GymTerminationError(Exception):
    """An environment was stepped or rendered whose episode has ended."""

    def __init__(self) -> None:
        super().__init__(
            "One or several environments have terminated, reset them before continuing"
        )


class _ParallelWrapper(ParallelWrapperBase):
    """What both wrappers have in common: who is meant, and who has ended."""

    def __init__(self, env_creators: Sequence[Creator]) -> None:
        super().__init__()
        self._op = type(self).__name__
        if not env_creators:
            raise ValueError(f"{self._op}: env_creators must be at least 1, got 0")
        self._terminal = np.zeros(len(env_creators), dtype=bool)

    @abstractmethod
    def _call(self, chosen: Sequence[int], calls: Sequence[Call]) -> list[Any]:
        """Calls a method of each chosen environment."""

    def reset(self, idx: Index = None) -> list[Any]:
        chosen = self._chosen("reset", idx)
        observations = self._call(chosen, [("reset", ())] * len(chosen))
        self._terminal[chosen] = False
        return observations

    def step(self, action: Sequence[Any], idx: Index = None) -> Steps:
        chosen = self._chosen("step", idx)
        if len(action) != len(chosen):
            raise ValueError(
                f"{self._op}.step: action must have {len(chosen)} entries, one an environment, "
                f"got {len(action)}"
            )
        results = self._call(chosen, [("step", (each,)) for each in action])
        # Of no environments there are four empty lists, too.
        observation, reward, terminal, info = ([each[k] for each in results] for k in range(4))
        self._terminal[chosen] = terminal
        return observation, reward, terminal, info

    def seed(self, seed: int | Sequence[int] | None = None) -> list[int]:
        if seed is None:
            seed = np.random.SeedSequence().generate_state(self.size()).tolist()
        seeds = np.broadcast_to(seed, self.size()) if np.ndim(seed) == 0 else np.asarray(seed)
        if len(seeds) != self.size():
            raise ValueError(
                f"{self._op}.seed: seed must have {self.size()} entries, one an environment, "
                f"got {len(seeds)}"
            )
        result: list[int] = seeds.tolist()
        self._call(range(self.size()), [("seed", (each,)) for each in result])
        return result

    def render(self, idx: Index = None, *_: Any, **__: Any) -> list[NDArray[np.uint8]]:
        chosen = self._chosen("render", idx)
        return self._call(chosen, [("render", ())] * len(chosen))

    def active(self) -> NDArray[np.int64]:
        return np.flatnonzero(~self._terminal)

    def size(self) -> int:
        return len(self._terminal)

    def _chosen(self, method: str, idx: Index) -> list[int]:
        chosen = range(self.size()) if idx is None else np.atleast_1d(np.asarray(idx, int))
        for each in chosen:
            if not 0 <= each < self.size():
                raise IndexError(
                    f"{self._op}.{method}: idx must be in [0, {self.size()}), got {each}"
                )
        return [int(each) for each in chosen]


class ParallelWrapperDummy(_ParallelWrapper):
    """Steps environments one after the other, in this process.

    Args:
        env_creators: For each environment a function of its number.

    Raises:
        ValueError: There is none.
    """

    def __init__(self, env_creators: Sequence[Creator]) -> None:
        super().__init__(env_creators)
        self._envs = [_SingleEnv(create(i)) for i, create in enumerate(env_creators)]

    def step(self, action: Sequence[Any], idx: Index = None) -> Steps:
        self._check_active("step", idx)
        return super().step(action, idx)

    def render(self, idx: Index = None, *_: Any, **__: Any) -> list[NDArray[np.uint8]]:
        self._check_active("render", idx)
        return super().render(idx)

    def close(self) -> None:
        for env in self._envs:
            env.close()

    @property
    def action_space(self) -> Any:
        return self._envs[0].action_space

    @property
    def observation_space(self) -> Any:
        return self._envs[0].observation_space

    def _call(self, chosen: Sequence[int], calls: Sequence[Call]) -> list[Any]:
        return [
            getattr(self._envs[i], method)(*arguments)
            for i, (method, arguments) in zip(chosen, calls, strict=True)
        ]

    def _check_active(self, method: str, idx: Index) -> None:
        if self._terminal[self._chosen(method, idx)].any():
            raise GymTerminationError


class ParallelWrapperSubProc(_ParallelWrapper):
    """Steps environments side by side, each in a process of its own.

    What an environment raises is raised here, with its own traceback as the cause. Environments
    whose episode has ended may be stepped: they decide what happens.

    Args:
        env_creators: For each environment a function of its number, which is called in its
            process; lambdas are fine.

    Raises:
        ValueError: There is none.
    """

    def __init__(self, env_creators: Sequence[Creator]) -> None:
        super().__init__(env_creators)
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection[Any, Any]] = []
        self._processes: list[BaseProcess] = []
        self._end = weakref.finalize(self, _end, self._connections, self._processes)
        for i, create in enumerate(env_creators):
            ours, theirs = context.Pipe()
            made = CloudpickleWrapper(functools.partial(create, i))
            process = context.Process(target=_work, args=(theirs, made), daemon=True)
            process.start()
            theirs.close()  # so that the end of either process is seen by the other
            self._connections.append(ours)
            self._processes.append(process)
        try:
            self._spaces = self._answers(range(self.size()))[0]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._end()

    @property
    def action_space(self) -> Any:
        return self._spaces[0]

    @property
    def observation_space(self) -> Any:
        return self._spaces[1]

    def _call(self, chosen: Sequence[int], calls: Sequence[Call]) -> list[Any]:
        if not self._end.alive:
            raise ValueError(f"{self._op}: environments must be open, got closed ones")
        for i, call in zip(chosen, calls, strict=True):
            with contextlib.suppress(OSError):  # who is dead does not answer either
                self._connections[i].send(call)
        return self._answers(chosen)

    def _answers(self, chosen: Sequence[int]) -> list[Any]:
        answers = [self._answer_of(i) for i in chosen]  # of all, before an error is raised
        for _, error in answers:
            if error is not None:
                raise error
        return [result for result, _ in answers]

    def _answer_of(self, i: int) -> tuple[Any, BaseException | None]:
        try:
            result, error, trace = self._connections[i].recv()
        except (EOFError, OSError):
            self._processes[i].join(_PATIENCE)
            return None, RuntimeError(
                f"{self._op}: the process of environment {i} must be alive, got one that ended "
                f"with exit code {self._processes[i].exitcode}"
            )
        if error is not None:
            error.__cause__ = RuntimeError(f"in environment {i}:\n{trace}")
        return result, error


def _end(connections: Sequence[Connection[Any, Any]], processes: Sequence[BaseProcess]) -> None:
    """Ends workers: each sees that its connection is closed."""
    for connection in connections:
        connection.close()
    for process in processes:
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()


def _work(connection: Connection[Any, Any], create: CloudpickleWrapper) -> None:
    """What a worker does: makes its environment, then answers until nobody asks any more."""
    env: _SingleEnv | None = None

    def made() -> Any:
        nonlocal env
        env = _SingleEnv(create.fn())
        return env.action_space, env.observation_space

    _answer(connection, made)
    try:
        while True:
            method, arguments = connection.recv()
            _answer(connection, lambda: getattr(env, method)(*arguments))  # noqa: B023
    except (EOFError, OSError, KeyboardInterrupt):
        if env is not None:
            env.close()


def _answer(connection: Connection[Any, Any], function: Callable[[], Any]) -> None:
    """Sends what a function returns, or what it raised and where."""
    try:
        answer: tuple[Any, BaseException | None, str] = function(), None, ""
    except Exception as error:
        answer = None, _sendable(error), traceback.format_exc()
    try:
        connection.send(answer)
    except OSError:
        raise
    except Exception as error:  # it cannot be pickled
        connection.send((None, _sendable(error), traceback.format_exc()))


def _sendable(error: BaseException) -> BaseException:
    """The error itself, unless it does not survive the way to another process."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


class _SingleEnv:
    """An environment as it once was: no info from ``reset``, four values from ``step``."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self._is_old = not isinstance(env, gymnasium.Env)
        self._seed: int | None = None
        self.action_space = env.action_space
        self.observation_space = env.observation_space

    def reset(self) -> Any:
        if self._is_old:
            return self._env.reset()
        seed, self._seed = self._seed, None
        return self._env.reset(seed=seed)[0]

    def step(self, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        if self._is_old:
            return self._env.step(action)
        observation, reward, terminated, truncated, info = self._env.step(action)
        if truncated:  # as gym's TimeLimit said it
            info = {**info, "TimeLimit.truncated": not terminated}
        return observation, reward, bool(terminated or truncated), info

    def seed(self, seed: int) -> None:
        """Gymnasium takes it with the next reset."""
        if self._is_old:
            self._env.seed(seed)
        self._seed = seed

    def render(self) -> Any:
        if self._is_old:
            return self._env.render(mode="rgb_array")
        if self._env.render_mode != "rgb_array":
            raise ValueError(
                'render: environments must be made with render_mode="rgb_array", '
                f"got {self._env.render_mode}"
            )
        return self._env.render()

    def close(self) -> None:
        self._env.close()
