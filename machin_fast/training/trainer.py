"""The loop."""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from machin_fast.algorithms._state import rng_state, set_rng_state
from machin_fast.collect import Collector
from machin_fast.data import Trajectory, transforms
from machin_fast.training import checkpoint
from machin_fast.training.behaviour import Act, Behaviour
from machin_fast.training.checkpoint import Checkpoint
from machin_fast.training.checkpoints import Checkpoints
from machin_fast.training.evaluation import evaluate
from machin_fast.training.finite import CheckFinite
from machin_fast.training.hooks import Hooks
from machin_fast.training.interrupt import Interrupt
from machin_fast.training.learning_curve import LearningCurve
from machin_fast.training.logs import JsonLines, Log
from machin_fast.training.metrics import Metrics
from machin_fast.training.progress import Outcome, Progress, Reason
from machin_fast.training.settings import Settings
from machin_fast.training.statistics import Environment, put_statistics, take_statistics
from machin_fast.utils.stages import stage
from machin_fast.utils.tensor_file import Json

EVALUATION_SEEDS = 1_000_000
"""Seeds of evaluations begin so far above those of training."""


class Trainer:
    """Collects, learns, evaluates, writes checkpoints and figures, and ends at a goal or budget.

    A turn is ``rollout`` steps in each environment, then ``updates`` updates: for algorithms that
    learn on policy and off policy alike.

    A run that is resumed goes on as if it had never ended: bit for bit on the CPU, with the same
    settings and environments that do the same when they are seeded alike. No Gymnasium environment
    tells what it is in the middle of, so, with ``exact_resume``, episodes are broken off at each
    checkpoint, and begin anew from seeds that follow from ``seed`` and the step: after a
    checkpoint in the run that goes on, after loading it in the one that is resumed. What is broken
    off counts as neither terminated nor truncated: its values go on. So two runs are equal if they
    have checkpoints at the same steps. Those of Ctrl-C and of ``save`` are additional ones.

    Args:
        algorithm: One of ``machin_fast.algorithms``; or anything with ``store(trajectory)``,
            ``update()``, which returns figures by name, ``state_dict()`` and
            ``load_state_dict(state)``.
        envs: A vector of environments, or a single one.
        settings: See ``Settings``.
        evaluation_envs: Others like these, for evaluations alone. None: there are none.
        folder: Of the run: ``metrics.jsonl``, ``checkpoints``, ``best`` and
            ``learning_curve.png``. None: nothing is written.
        explore, act: See ``Behaviour``.
        prepare: What is done to a trajectory before it is stored.
        hooks: Called at six moments, in this order. See ``Hooks``.
        logs: What figures go to besides ``metrics.jsonl``: ``TensorBoard``, ``WeightsAndBiases``.
        about: What shall stand in each checkpoint for who wants to build all this again.

    Attributes:
        progress: How far the run is.
        collector: What collects; it knows the returns of episodes that ended last.
        behaviour: How the algorithm acts.
        last_checkpoint: Folder of the checkpoint that was written or loaded last.

    Raises:
        ValueError: There is a goal but nothing to evaluate in, or nothing else than ``envs``; or
            see ``Behaviour``.
        TypeError: ``envs`` is something else; or see ``Behaviour``.
    """

    collector: Collector

    def __init__(
        self,
        algorithm: Any,
        envs: Environment,
        settings: Settings | None = None,
        *,
        evaluation_envs: Environment | None = None,
        folder: str | os.PathLike[str] | None = None,
        explore: Act | None = None,
        act: Act | None = None,
        prepare: Callable[[Trajectory], Trajectory] | None = None,
        hooks: Iterable[Hooks] = (),
        logs: Sequence[Log] = (),
        about: Json = None,
    ) -> None:
        self.algorithm = algorithm
        self.envs = envs
        self.settings = settings = settings or Settings()
        self.evaluation_envs = evaluation_envs
        self.folder = None if folder is None else Path(folder)
        self.about = about
        self.progress = Progress()
        self.last_checkpoint: Path | None = None
        if settings.goal is not None and evaluation_envs is None:
            raise ValueError(
                f"Trainer: evaluation_envs must be given to reach a goal of {settings.goal}, "
                "got None"
            )
        if evaluation_envs is envs:
            raise ValueError(
                "Trainer: evaluation_envs must be others than envs, whose episodes they would "
                "break off, got the same"
            )
        if not isinstance(envs, VectorEnv | gymnasium.Env):
            raise TypeError(
                "Trainer: envs must be a gymnasium.vector.VectorEnv or a gymnasium.Env, "
                f"got {type(envs).__name__}"
            )
        space = envs.single_action_space if isinstance(envs, VectorEnv) else envs.action_space
        self.behaviour = Behaviour(algorithm, space, noise=settings.noise, explore=explore, act=act)
        self._prepare = prepare
        if self.folder is not None:
            logs = [JsonLines(self.folder / "metrics.jsonl"), *logs]
            self._checkpoints = Checkpoints(self.folder / "checkpoints", settings.checkpoints_kept)
            self._best = Checkpoints(self.folder / "best", keep=1)
        checks = [CheckFinite()] if settings.check_finite else []
        self._hooks: list[Hooks] = [*checks, Metrics(logs), *hooks, LearningCurve()]
        self._begin_anew = True
        self._rng: Any = None
        self._stopped: str | None = None
        self._saved_at: int | None = None
        self._clock: float | None = None  # when time was counted last, within train

    # -- the run -------------------------------------------------------------------------------

    def train(self) -> Outcome:
        """Trains until the goal is reached, the budget is spent, a hook stops it or Ctrl-C does.

        The first Ctrl-C ends the run after the present turn, with a checkpoint if there is a
        folder; the second one ends it at once, without.

        Returns:
            What came of it.

        Raises:
            ValueError: The folder has checkpoints of a run that this one does not resume; or
                something is not finite: see ``Settings.check_finite``, and the algorithm.
            OSError: A checkpoint cannot be written; earlier ones are as they were.
        """
        self._check_folder()
        self._stopped = None
        self._clock = time.perf_counter()
        outcome = Outcome("error", "", self.progress)
        with Interrupt() as interrupt:
            try:
                self._call("on_start")
                if self._rng is not None:  # hooks may have drawn from it
                    set_rng_state(self._rng)
                    self._rng = None
                while (reason := self._reason_to_end(interrupt.noted)) is None:
                    self.turn()
                self._finish(reason)
                reason = "goal" if self._at_goal else reason
                outcome = Outcome(reason, self._stopped or "", self.progress)
            except BaseException as error:
                message = str(error) or type(error).__name__
                # Ctrl-C reaches processes of environments as well, which may die of it.
                broke_off = interrupt.noted and isinstance(error, Exception)
                outcome = Outcome("interrupted" if broke_off else "error", message, self.progress)
                if not broke_off:
                    raise
            finally:
                self._count_time()
                self._clock = None
                self._call("on_end", outcome)
        if outcome.reason == "interrupted":
            print(f"Stopped at step {self.progress.steps}. {self._to_go_on()}", file=sys.stderr)
        return outcome

    def stop(self, message: str) -> None:
        """Ends the run after the present turn.

        Args:
            message: Why; the outcome repeats it.
        """
        self._stopped = message

    def evaluate(self) -> NDArray[np.float64]:
        """Evaluates the policy as it is, and notes the mean return in ``progress``.

        Episodes begin alike in each evaluation. Wrappers that normalise show what they would in
        training, and learn nothing from it.

        Returns:
            ``[episodes]``, the sum of rewards of each.

        Raises:
            ValueError: There are no environments for it.
        """
        if self.evaluation_envs is None:
            raise ValueError("Trainer.evaluate: evaluation_envs must be given, got None")
        envs, behaviour = self.evaluation_envs, self.behaviour
        with stage("evaluate"):
            put_statistics(envs, take_statistics(self.envs), frozen=True)
            returns = evaluate(
                envs,
                behaviour.act,
                episodes=self.settings.evaluation_episodes,
                seed=self.settings.seed + EVALUATION_SEEDS,
                recurrent=bool(behaviour.recurrent),
            )
        self._count_time()
        best = self.progress.best
        self.progress.evaluations.append((self.progress.steps, float(returns.mean())))
        self._call("on_evaluation", returns)
        if self.folder is not None and self.progress.best != best:
            self._best.save(self._states(memory=False), step=self.progress.steps, about=self.about)
        return returns

    def turn(self) -> None:
        """Collects a rollout and learns; evaluates and writes a checkpoint if it is time to.

        ``train`` does this again and again; another loop may, too.
        """
        settings, progress = self.settings, self.progress
        before = progress.steps
        if hasattr(self.algorithm, "epsilon"):
            self.algorithm.epsilon = settings.epsilon(before)
        if self._begin_anew:
            self._make_collector()
        collected = self.collector.steps(settings.rollout)
        progress.steps += len(collected)
        progress.episodes += len(self.collector.episode_returns)
        self._call("on_rollout", collected)
        with stage("store"):
            self.algorithm.store(self._prepared(collected))
        figures = self._learn() if progress.steps >= settings.warm_up else {}
        self._count_time()
        self._call("on_update", figures)
        if self._evaluates and self._passed(settings.evaluation_every, before):
            self.evaluate()
        if self.folder is not None and self._passed(settings.checkpoint_every, before):
            self.save()

    def _learn(self) -> dict[str, float]:
        """A phase of learning; returns the means of its figures."""
        sums: dict[str, Any] = {}
        for _ in range(self.settings.updates):
            with stage("learn"):
                found = self.algorithm.update()
            for name, value in _by_name(found).items():
                sums[name] = sums.get(name, 0) + value
            if getattr(self.algorithm, "lr_schedulers", None):
                self.algorithm.update_lr_scheduler()
        self.progress.updates += self.settings.updates
        # Tensors of lazy algorithms are waited for here, once.
        return {name: float(value) / self.settings.updates for name, value in sums.items()}

    def _prepared(self, trajectory: Trajectory) -> Trajectory:
        trajectory = self.behaviour.as_learned(trajectory)
        if self._prepare is not None:
            trajectory = self._prepare(trajectory)
        if self.settings.reward_steps > 1:
            several = transforms.nstep(self.settings.reward_steps, self.algorithm.discount)
            trajectory = several(trajectory)
        return trajectory

    def _make_collector(self) -> None:
        """Begins new episodes, from seeds that follow from the step alone."""
        settings, steps = self.settings, self.progress.steps
        words = np.random.SeedSequence([settings.seed, steps]).generate_state(1)
        self.collector = Collector(
            self.envs,
            self.behaviour.explore,
            keep=self.behaviour.keep,
            recurrent=bool(self.behaviour.recurrent),
            seed=int(words[0]) if steps else settings.seed,
        )
        self._begin_anew = False

    def _check_folder(self) -> None:
        """A second run in one folder would make the checkpoints of the first one disappear."""
        if self.folder is None or self.last_checkpoint is not None:
            return
        there = self._checkpoints.all()
        if there:
            raise ValueError(
                f"Trainer.train: folder must have no checkpoints of another run, got {len(there)} "
                f"in {self.folder}. Resume that run, or name another folder"
            )

    # -- its end -------------------------------------------------------------------------------

    @property
    def _evaluates(self) -> bool:
        return self.evaluation_envs is not None and self.settings.evaluation_every > 0

    @property
    def _at_goal(self) -> bool:
        goal, score = self.settings.goal, self.progress.score
        return goal is not None and score is not None and score >= goal

    def _reason_to_end(self, interrupted: bool) -> Reason | None:
        if self._at_goal:
            return "goal"
        if interrupted:
            return "interrupted"
        if self._stopped is not None:
            return "stopped"
        return "budget" if self.progress.steps >= self.settings.steps else None

    def _finish(self, reason: Reason) -> None:
        """Evaluates and saves what the last turn did not."""
        progress = self.progress
        judged = progress.evaluations and progress.evaluations[-1][0] == progress.steps
        if reason == "budget" and self._evaluates and not judged:
            self.evaluate()
        if self.folder is not None and self._saved_at != progress.steps:
            self.save()

    def _to_go_on(self) -> str:
        if self.last_checkpoint is None:
            return "There is no checkpoint of it"
        return f"Resume it from {self.last_checkpoint}"

    # -- checkpoints ---------------------------------------------------------------------------

    def save(self) -> Path:
        """Writes a checkpoint.

        Returns:
            Its folder.

        Raises:
            ValueError: The run has no folder.
            OSError: It cannot be written; earlier ones are as they were.
        """
        if self.folder is None:
            raise ValueError("Trainer.save: folder must be given, got None")
        self._count_time()
        with stage("checkpoint"):
            path = self._checkpoints.save(
                self._states(), step=self.progress.steps, about=self.about
            )
        self.last_checkpoint, self._saved_at = path, self.progress.steps
        self._begin_anew |= self.settings.exact_resume
        self._call("on_checkpoint", path)
        return path

    def resume(self, path: str | os.PathLike[str] | None = None) -> Checkpoint:
        """Makes ``train`` go on from a checkpoint.

        Args:
            path: Its folder. None: the newest whole one of the run; a warning tells of each that
                is passed over.

        Returns:
            The checkpoint.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is damaged, of a later version or of another algorithm; or no folder is
                known.
        """
        if path is None and self.folder is None:
            raise ValueError(
                "Trainer.resume: path must be given for a run without folder, got None"
            )
        found = self._checkpoints.latest() if path is None else checkpoint.read(path)
        if "trainer" not in found.names:
            raise ValueError(
                f"Trainer.resume: path must be of a checkpoint to resume, got {found.path}, which "
                "is only one to act with"
            )
        device = getattr(self.algorithm, "device", None)
        algorithm = found.load("algorithm", device=device)
        state = found.load("trainer", device=device)
        put_statistics(self.envs, found.load("environments", device=device))
        self.algorithm.load_state_dict(algorithm)
        self.progress.load_state_dict(state["progress"])
        self._rng = state["rng"]
        self._begin_anew = True
        self.last_checkpoint, self._saved_at = found.path, found.step
        return found

    def _states(self, *, memory: bool = True) -> dict[str, Any]:
        """What a checkpoint holds; without memory it is to act with, not to resume."""
        states = {"environments": take_statistics(self.envs)}
        if not memory:
            takes_memory = "memory" in inspect.signature(self.algorithm.state_dict).parameters
            options = {"memory": False} if takes_memory else {}
            return {"algorithm": self.algorithm.state_dict(**options), **states}
        trainer = {
            "progress": self.progress.state_dict(),
            "rng": rng_state(),
            "settings": asdict(self.settings),
        }
        return {"algorithm": self.algorithm.state_dict(), "trainer": trainer, **states}

    # -- small things --------------------------------------------------------------------------

    def _call(self, moment: str, *what: Any) -> None:
        for hook in self._hooks:
            getattr(hook, moment)(self, *what)

    def _passed(self, every: int, before: int) -> bool:
        """Whether a multiple of ``every`` was reached by the last turn."""
        return every > 0 and before // every < self.progress.steps // every

    def _count_time(self) -> None:
        if self._clock is not None:
            now = time.perf_counter()
            self.progress.seconds += now - self._clock
            self._clock = now


def _by_name(figures: Any) -> dict[str, Any]:
    """What ``update`` returned, by name."""
    if figures is None:
        return {}
    if isinstance(figures, dict):
        return figures
    if not isinstance(figures, tuple):
        return {"value_loss": figures}
    if len(figures) == 2:  # as Machin's algorithms with an actor do
        return {"policy_objective": figures[0], "value_loss": figures[1]}
    return {f"figure_{i}": figure for i, figure in enumerate(figures)}
