"""What goes wrong with environments and workers, and says where."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Sequence
from typing import Any

from machin_fast.env.pool import messages


class EnvFailed(RuntimeError):  # noqa: N818  it says what happened, as the other two do
    """An environment raised. What it raised is the cause (``__cause__``), unless that could not
    travel from its process.

    Attributes:
        env_id: Which environment of the pool.
        seed: What it was last seeded with; None if never.
        traceback: Where it raised, as text.
    """

    def __init__(self, env_id: int, seed: int | None, what: str, trace: str) -> None:
        super().__init__(
            f"environment {env_id} (seed {seed}) raised in {what}:\n\n{trace.rstrip()}"
        )
        self.env_id, self.seed, self.traceback = env_id, seed, trace
        self._what = what

    @classmethod
    def of(cls, error: BaseException, env_id: int, seed: int | None, what: str) -> EnvFailed:
        """To be made where ``error`` was caught, and raised from it."""
        failed = cls(env_id, seed, what, "".join(traceback.format_exception(error)))
        failed.__cause__ = error
        return failed

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            cause = messages.dumps(self.__cause__)
            messages.loads(cause)  # some can be pickled and never unpickled
        except Exception:
            cause = messages.dumps(None)
        return _revived, (self.env_id, self.seed, self._what, self.traceback, cause)


def _revived(env_id: int, seed: int | None, what: str, trace: str, cause: bytes) -> EnvFailed:
    failed = EnvFailed(env_id, seed, what, trace)
    try:
        failed.__cause__ = messages.loads(cause)
    except Exception:  # a class that only the worker knows
        failed.__cause__ = None
    return failed


class WorkerDied(RuntimeError):  # noqa: N818
    """A worker process ended unasked.

    Attributes:
        worker: Its number.
        env_ids: The environments that were lost with it.
        exitcode: Of the process; None if it is not known.
        signal: Name of the signal that ended it, such as ``"SIGKILL"``; None without one.
        last_action: For each of ``env_ids`` that was to step, the action.
    """

    def __init__(
        self,
        worker: int,
        env_ids: Sequence[int],
        exitcode: int | None,
        last_action: dict[int, Any],
    ) -> None:
        self.worker, self.env_ids, self.exitcode = worker, list(env_ids), exitcode
        self.signal = _signal_name(exitcode)
        self.last_action = last_action
        super().__init__(
            f"worker {worker}, which steps environments {_numbers(self.env_ids)}, "
            f"{self._reason()}; last actions: {_shortened(last_action)}"
        )

    def _reason(self) -> str:
        if self.signal is not None:
            return f"was killed by {self.signal}"
        return f"ended with exit code {self.exitcode}"


class WorkerHung(WorkerDied, TimeoutError):  # noqa: N818
    """A worker gave no sign of life for longer than ``step_timeout``, and was killed."""

    def _reason(self) -> str:
        return "gave no sign of life within step_timeout, and was killed"


def _signal_name(exitcode: int | None) -> str | None:
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


def _numbers(env_ids: Sequence[int]) -> str:
    if len(env_ids) > 1:  # a worker's are in a row
        return f"{env_ids[0]} to {env_ids[-1]}"
    return ", ".join(map(str, env_ids))


def _shortened(actions: dict[int, Any]) -> str:
    if not actions:
        return "none"
    text = ", ".join(f"{action} for {env_id}" for env_id, action in actions.items())
    return text if len(text) < 400 else f"{text[:400]}..."
