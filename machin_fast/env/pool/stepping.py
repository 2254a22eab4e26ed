"""Steps of a pool: all environments at once, or some while others are under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from machin_fast.env.pool.crew import Care, Crew, Plan, Spaces
from machin_fast.env.pool.errors import EnvFailed
from machin_fast.env.pool.factories import Maker
from machin_fast.env.pool.share import Info, Share
from machin_fast.env.pool.stage import Ids, Row, Stage
from machin_fast.env.pool.worker import Reset, perform

# In the info of a step that an environment did not take, as its worker was replaced.
RESTARTED = "worker_restarted"

_IDLE, _SENT, _ANSWERED = range(3)


class Stepping:
    """The parent's share of environments and the workers', as one.

    Args:
        found: Functions that make the environments.
        mode: When they are reset.
        stage: Where steps take place.
        parts: Which environments the parent steps, and which each worker.
        context: How workers start.
        care: What to do about lost workers.

    Attributes:
        stage: See above.
        crew: The workers; None without any.
        share: What the parent steps; None if it steps nothing.
        was_reset: Is there something to step?
        under_way: How many environments were sent and not received.
    """

    def __init__(
        self,
        found: Sequence[Maker],
        mode: AutoresetMode,
        stage: Stage,
        parts: tuple[range, list[range]],
        context: BaseContext | None,
        care: Care,
    ) -> None:
        self.stage, self._mode = stage, mode
        self.local, self._remote = parts
        self.crew: Crew | None = None
        self.share: Share | None = None
        self.was_reset = False
        n = len(found)
        self._env_ids = np.arange(n)
        self._num_remote = n - len(self.local)
        self._state = np.full(n, _IDLE, np.int8)
        self.under_way = 0
        self._answered: list[int] = []
        self._due: deque[int] = deque()  # of the parent's own share
        self._infos: dict[int, Info] = {}
        self._row: int | None = None
        # These lost their episode between steps; they are told so in their next one.
        self._cut: set[int] = set()
        try:
            if self._remote:
                assert context is not None and stage.memory is not None
                shape = stage.blocks[0].shape
                work = Plan(found, self._remote, mode, shape, stage.memory)
                self.crew = Crew(work, context, care, self)
            if self.local:
                self.share = Share(0, found[: len(self.local)], mode, stage.board)
                self.share.attach(stage.block)
        except BaseException:
            self.close(patience=0)
            raise

    def spaces(self) -> list[Spaces]:
        """Of each environment, once all are made."""
        envs = self.share.envs if self.share is not None else []
        found = [(env.observation_space, env.action_space) for env in envs]
        return found if self.crew is None else found + self.crew.spaces()

    def close(self, *, patience: float | None = None) -> None:
        """Ends the workers and closes all environments. Never raises."""
        crew, share, self.crew, self.share = self.crew, self.share, None, None
        if crew is not None:
            if patience is None:
                crew.close()
            else:
                crew.close(patience=patience)
        if share is not None:
            share.close()

    # -- anything but steps --------------------------------------------------------------------

    def ask(self, message: Callable[[Sequence[int]], Any], env_ids: Sequence[int]) -> list[Any]:
        """Asks all processes for something about these environments; the answers, in their order.

        Raises:
            EnvFailed: One raised; the first of them.
        """
        results: dict[int, Any] = {}
        failures: list[EnvFailed] = []
        asked = []
        for worker, part in enumerate(self._remote):
            if theirs := [i for i in env_ids if i in part]:
                asked.append((worker, theirs, message(theirs)))
                self._crew.begin(worker, asked[-1][2])
        if ours := [i for i in env_ids if i in self.local]:
            assert self.share is not None
            try:
                results.update(zip(ours, perform(self.share, message(ours)), strict=True))
            except EnvFailed as failed:
                failures.append(failed)
        for worker, theirs, question in asked:
            answer = self._crew.end(worker, question)
            if isinstance(answer, EnvFailed):
                failures.append(answer)
            else:
                results.update(zip(theirs, answer, strict=True))
        if failures:
            raise failures[0]
        return [results[i] for i in env_ids]

    def reset(
        self, env_ids: Ids, seeds: Sequence[int | None], options: Info | None
    ) -> dict[int, Info]:
        """Resets some environments; their infos."""
        slots = self.stage.first_slots(env_ids)
        place = {int(env_id): i for i, env_id in enumerate(env_ids)}
        if self.crew is not None:
            for i, seed in zip(place, seeds, strict=True):
                self.crew.seeds[i] = self.crew.seeds[i] if seed is None else seed

        def message(some: Sequence[int]) -> Reset:
            at = [place[i] for i in some]
            return Reset(list(some), [int(slots[k]) for k in at], [seeds[k] for k in at], options)

        self._cut.difference_update(place)
        answers = self.ask(message, list(place))
        self._cut.difference_update(place)  # of workers that were replaced meanwhile
        return dict(zip(place, answers, strict=True))

    def enter(self, number: int) -> None:
        """Lets steps take place in another block, from its row 0 on."""
        self.stage.enter(number)
        if self.share is not None:
            self.share.attach(self.stage.block)

    @property
    def _crew(self) -> Crew:
        assert self.crew is not None
        return self.crew

    # -- all environments at once --------------------------------------------------------------

    def begin_all(self, actions: Any) -> None:
        """Lets the workers step; the parent does so in ``finish_all``."""
        if self._cut:
            self.stage.row  # noqa: B018  brings all environments to the same row
            self.stage.begin(self._env_ids, actions)
            self.send(self._env_ids)
            return
        self._row = self.stage.begin_all(actions)
        if self.crew is not None:
            self.crew.post_all()

    def finish_all(self) -> tuple[Row, dict[int, Info]]:
        """Steps the parent's share, and waits for the workers.

        Returns:
            The step, and for some environments an info.
        """
        if self._row is None:
            self.receive(None, self._env_ids)
            return self.stage.results(self._env_ids), self.infos_of(self._env_ids)
        found = self._infos
        if self.share is not None:
            step = self.share.step
            for env_id in self.local:
                try:
                    if info := step(env_id):
                        found[env_id] = info
                except Exception as error:
                    raise self.share.failure(error, env_id, "step") from error
        if self.crew is not None:
            _, theirs = self.crew.collect(self._num_remote)
            found.update(theirs)
        row, self._row, self._infos = self._row, None, {}
        return self.stage.end_all(row), found

    # -- some environments ---------------------------------------------------------------------

    def busy(self, env_ids: Ids) -> Ids:
        """Which of these were sent and not received."""
        return env_ids[self._state[env_ids] != _IDLE]

    def send(self, env_ids: Ids) -> None:
        """Lets these step, as ``stage.begin`` says. They are idle, and each is there once."""
        self._state[env_ids] = _SENT
        self.under_way += len(env_ids)
        if self._cut:
            env_ids = np.array([i for i in env_ids.tolist() if not self._cut_now(i)], np.int64)
        ours = env_ids < len(self.local)
        self._due.extend(env_ids[ours].tolist())
        if self.crew is not None:
            self.crew.post(env_ids[~ours])

    def receive(self, count: int | None, env_ids: Ids | None) -> Ids:
        """Waits for the first ``count`` answers, or those of ``env_ids``.

        Returns:
            The environments, in the order in which they answered or as asked for.
        """
        while True:
            if env_ids is None:
                missing = (count or 0) - len(self._answered)
            else:
                missing = int(np.count_nonzero(self._state[env_ids] == _SENT))
            if missing <= 0:
                break
            self._wait(missing, env_ids)
        if env_ids is None:
            env_ids = np.array(self._answered[:count], np.int64)
            del self._answered[:count]
        else:
            received = set(env_ids.tolist())
            self._answered = [i for i in self._answered if i not in received]
        self._state[env_ids] = _IDLE
        self.under_way -= len(env_ids)
        return env_ids

    def infos_of(self, env_ids: Ids) -> dict[int, Info]:
        """The infos of received environments; they are given once."""
        if not self._infos:
            return {}
        return {i: self._infos.pop(i) for i in env_ids.tolist() if i in self._infos}

    def _wait(self, missing: int, env_ids: Ids | None) -> None:
        """Brings some answers."""
        ours = self._next_due(env_ids)
        if self.crew is not None:
            self._take(*self.crew.collect(missing if ours is None else 1, wait=ours is None))
        if ours is not None:
            assert self.share is not None
            self._due.remove(ours)
            try:
                info = self.share.step(ours)
            except Exception as error:
                raise self.share.failure(error, ours, "step") from error
            self._take(np.array([ours]), {ours: info} if info else {})

    def _next_due(self, env_ids: Ids | None) -> int | None:
        """The environment that the parent should step now."""
        if not self._due or env_ids is None:
            return self._due[0] if self._due else None
        wanted = set(env_ids.tolist())
        return next((i for i in self._due if i in wanted), None)

    def _take(self, env_ids: Ids, found: dict[int, Info]) -> None:
        self.stage.end(env_ids)
        self._state[env_ids] = _ANSWERED
        self._answered += env_ids.tolist()
        self._infos.update(found)

    # -- environments that were lost -----------------------------------------------------------

    def last_action(self, env_id: int) -> Any:
        """As ``Listener`` says."""
        return self.stage.action(env_id)

    def on_restart(self, env_ids: range, lost: list[int]) -> None:
        """As ``Listener`` says: their episodes end here, truncated."""
        if not self.was_reset:
            return
        self._cut.update(set(env_ids).difference(lost))
        for env_id in lost:
            if self._begins_anew(env_id):
                self._crew.post(np.array([env_id]))
            else:
                self._answer_cut(env_id)

    def _begins_anew(self, env_id: int) -> bool:
        """Was its step to be a reset? Then no episode is lost, and the new worker resets it."""
        return self._mode is AutoresetMode.NEXT_STEP and bool(self.stage.ended[env_id])

    def _cut_now(self, env_id: int) -> bool:
        """Answers for an environment that lost its episode since its last step; did it?"""
        if env_id not in self._cut:
            return False
        self._cut.discard(env_id)
        if self._begins_anew(env_id):
            return False
        self._answer_cut(env_id)
        return True

    def _answer_cut(self, env_id: int) -> None:
        self.stage.cut(env_id)
        info: Info = {RESTARTED: True}
        if self._mode is AutoresetMode.SAME_STEP:
            slot = self.stage.slot_of_outcome(env_id)
            (worker,) = (w for w, part in enumerate(self._remote) if env_id in part)
            question = Reset([env_id], [slot], [None], None)
            self._crew.begin(worker, question)
            answer = self._crew.end(worker, question)
            if isinstance(answer, EnvFailed):
                raise answer
            info = {"final_info": info, **info, **answer[0]}
        if self._row is None:
            self._take(np.array([env_id]), {env_id: info})
        else:
            self._infos[env_id] = info
