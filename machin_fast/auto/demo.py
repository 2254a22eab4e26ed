"""The main job, end to end: Double DQN with prioritized replay learns CartPole-v1."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium
import torch
from gymnasium.spaces import flatdim
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from machin_fast import build_info, ops
from machin_fast.auto.errors import CommandError
from machin_fast.collect import Collector, Rollout
from machin_fast.data import Batch, Replay
from machin_fast.functional import double_q_value, polyak_update_, td_target
from machin_fast.training.curve import draw_learning_curve
from machin_fast.training.evaluation import evaluate
from machin_fast.training.report import throughput_table
from machin_fast.utils.extras import need
from machin_fast.utils.stages import Stages

ENVIRONMENT = "CartPole-v1"
GOAL = 475.0


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters. With them, each of 10 seeds reached the goal within 40,000 steps."""

    num_envs: int = 8
    chunk: int = 16
    """Steps in each environment between two phases of learning."""
    updates: int = 32
    """Gradient steps in a phase of learning."""
    batch_size: int = 64
    hidden: int = 128
    learning_rate: float = 2.3e-3
    max_gradient_norm: float = 10.0
    gamma: float = 0.99
    nstep: int = 3
    target_rate: float = 0.01
    """How far the target network follows in each gradient step."""
    capacity: int = 50_000
    learning_starts: int = 1_000
    epsilon_end: float = 0.05
    epsilon_steps: int = 10_000
    """Steps over which exploration falls from 1 to ``epsilon_end``."""
    evaluation_interval: int = 2_000
    evaluation_episodes: int = 20


class DoubleDQN:
    """Two networks of action values: one learns, the other one follows slowly and judges.

    Sources: Mnih et al. 2015 (doi:10.1038/nature14236); van Hasselt et al. 2016
    (arXiv:1509.06461).
    """

    def __init__(
        self, state_size: int, num_actions: int, settings: Settings, device: torch.device
    ) -> None:
        hidden = settings.hidden
        self.q = nn.Sequential(
            nn.Linear(state_size, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_actions),
        ).to(device)  # fmt: skip
        self.q_target = copy.deepcopy(self.q).requires_grad_(False)
        self.num_actions = num_actions
        self.epsilon = 1.0
        self._settings = settings
        self._device = device
        self._parameters = list(self.q.parameters())
        self._target_parameters = list(self.q_target.parameters())
        self._optimizer = torch.optim.Adam(self._parameters, lr=settings.learning_rate, fused=True)

    @torch.inference_mode()
    def act(self, state: Tensor) -> Tensor:
        """The best actions, ``[envs]``."""
        return self.q(state.to(self._device)).argmax(dim=1).cpu()

    @torch.inference_mode()
    def explore(self, state: Tensor) -> Tensor:
        """The best actions, each replaced by a random one with probability ``epsilon``."""
        n = state.shape[0]
        random = torch.rand(n) < self.epsilon
        return torch.where(random, torch.randint(self.num_actions, (n,)), self.act(state))

    def learn(self, batch: Batch) -> Tensor:
        """Takes one gradient step; returns the sizes of the TD errors, ``[batch]``."""
        with torch.no_grad():
            next_state = batch.next_state
            next_value = double_q_value(self.q(next_state), self.q_target(next_state))
            target = td_target(batch.reward, batch.discount, next_value.squeeze(1))
        value = self.q(batch.state).gather(1, batch.action.unsqueeze(1)).squeeze(1)
        loss = nn.functional.smooth_l1_loss(value, target, reduction="none")
        self._optimizer.zero_grad()
        torch.dot(loss, batch.weight / batch.weight.shape[0]).backward()
        nn.utils.clip_grad_norm_(self._parameters, self._settings.max_gradient_norm, foreach=True)
        self._optimizer.step()
        polyak_update_(self._target_parameters, self._parameters, self._settings.target_rate)
        return (target - value.detach()).abs_()


@dataclass
class History:
    """What the run has shown so far."""

    steps: int = 0
    updates: int = 0
    episodes: list[tuple[int, float]] = field(default_factory=list)
    """Of each training episode the step by which it had ended, and its return."""
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    """Of each evaluation the step and the mean return."""

    @property
    def solved(self) -> bool:
        return bool(self.evaluations) and self.evaluations[-1][1] >= GOAL


class Training:
    """The job: collect, store, learn, evaluate, in turns."""

    def __init__(
        self, *, device: torch.device, seed: int, settings: Settings | None = None
    ) -> None:
        self.settings = s = settings or Settings()
        self.stages = Stages()
        self.history = History()
        torch.manual_seed(seed)
        envs = gymnasium.make_vec(ENVIRONMENT, num_envs=s.num_envs)
        self._evaluation_envs = gymnasium.make_vec(ENVIRONMENT, num_envs=s.evaluation_episodes)
        # Far from the seeds of the training environments.
        self._evaluation_envs.reset(seed=seed + 1_000_000)
        self._agent = DoubleDQN(
            flatdim(envs.single_observation_space), flatdim(envs.single_action_space), s, device
        )
        self._collector = Collector(envs, self._agent.explore, seed=seed, stages=self.stages)
        self._replay = Replay(s.capacity, device=device, priority="step", seed=seed)

    def turn(self) -> None:
        """Collects one chunk, learns from the memory, and evaluates if it is time to."""
        s, history = self.settings, self.history
        self._agent.epsilon = max(s.epsilon_end, 1 - history.steps / s.epsilon_steps)
        rollout = self._collector.steps(s.chunk)
        before, history.steps = history.steps, history.steps + s.chunk * s.num_envs
        history.episodes += ((history.steps, value) for value in rollout.episode_returns)
        with self.stages("store"):
            self._store(rollout)
        if len(self._replay) >= s.learning_starts:
            for _ in range(s.updates):
                self._learn()
        if before // s.evaluation_interval < history.steps // s.evaluation_interval:
            with self.stages("evaluate"):
                returns = evaluate(self._evaluation_envs, self._agent.act)
            history.evaluations.append((history.steps, float(returns.mean())))

    def _store(self, rollout: Rollout) -> None:
        """Appends n-step transitions: the state n steps later comes with what lies between."""
        reward, discount, last_row = ops.nstep_return(
            rollout.reward, rollout.terminated, rollout.truncated,
            gamma=self.settings.gamma, n=self.settings.nstep,
        )  # fmt: skip
        valid = rollout.valid.flatten().nonzero().squeeze(1)
        columns = (rollout.state, rollout.action, reward, discount)
        state, action, reward, discount = ops.gather_rows([x.flatten(0, 1) for x in columns], valid)
        (next_state,) = ops.gather_rows(
            [rollout.next_state.flatten(0, 1)], last_row.flatten()[valid]
        )
        self._replay.append(
            state=state, action=action, reward=reward, discount=discount, next_state=next_state
        )

    def _learn(self) -> None:
        with self.stages("sample"):
            batch = self._replay.sample(self.settings.batch_size)
        with self.stages("learn"):
            error = self._agent.learn(batch)
        with self.stages("priorities"):
            self._replay.update_priority(batch.index, error)
        self.history.updates += 1


def run(*, device: str, seed: int, steps: int, output: Path) -> int:
    """Trains until the goal is reached or the steps are spent, and shows how it went.

    Args:
        device: "cpu" or "cuda".
        seed: Of everything random.
        steps: Most environment steps to take.
        output: Picture to write.

    Returns:
        0 if the goal was reached, else 1.

    Raises:
        CommandError: The device cannot be used, or ``steps`` is less than 1.
        MissingExtraError: matplotlib is not installed.
    """
    need("matplotlib", extra="demo", for_what="machin-fast demo")
    _check_device(device)
    if steps < 1:
        raise CommandError(f"demo: --steps must be at least 1, got {steps}")
    output = output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    console = Console()
    with one_thread():
        training = Training(device=torch.device(device), seed=seed)
        seconds = _train(training, steps, console)
    history = training.history
    console.print(
        throughput_table(
            training.stages,
            seconds=seconds,
            counts={"environment steps": history.steps, "gradient steps": history.updates},
        )
    )
    draw_learning_curve(
        output,
        title=f"Double DQN with prioritized replay on {ENVIRONMENT}, seed {seed}",
        episodes=history.episodes,
        evaluations=history.evaluations,
        goal=GOAL,
    )
    _conclude(history, seconds, console)
    console.print(f"Learning curve: {output}", soft_wrap=True, highlight=False)
    return 0 if history.solved else 1


def _train(training: Training, steps: int, console: Console) -> float:
    """Returns the seconds it took."""
    history = training.history
    progress = Progress(
        TextColumn(ENVIRONMENT),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps  return {task.fields[episode]}  {task.fields[rate]} steps/s"),
        TextColumn(f"evaluation {{task.fields[evaluation]}} of {GOAL:g}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    start = time.perf_counter()
    with progress:
        task = progress.add_task("", total=steps, episode="-", rate="-", evaluation="-")
        while not history.solved and history.steps < steps:
            training.turn()
            rate = history.steps / (time.perf_counter() - start)
            recent = [value for _, value in history.episodes[-20:]]
            progress.update(
                task,
                completed=min(history.steps, steps),
                episode=f"{sum(recent) / len(recent):.0f}" if recent else "-",
                rate=f"{rate:,.0f}",
                evaluation=f"{history.evaluations[-1][1]:.0f}" if history.evaluations else "-",
            )
    return time.perf_counter() - start


def _conclude(history: History, seconds: float, console: Console) -> None:
    took = f"after {history.steps:,} steps and {seconds:.1f} s of training"
    if history.solved:
        mean = history.evaluations[-1][1]
        console.print(
            f"Solved: 20 greedy episodes average {mean:.1f}, the goal is {GOAL:g}, {took}."
        )
        return
    best = max((mean for _, mean in history.evaluations), default=None)
    shown = "none was made" if best is None else f"the best reached {best:.1f}"
    console.print(
        f"Not solved {took}: of the evaluations {shown}, the goal is {GOAL:g}. "
        "Try more --steps or another --seed."
    )


def _check_device(device: str) -> None:
    if device != "cuda":
        return
    if not torch.cuda.is_available():
        raise CommandError(
            f"demo: --device must be one that torch can use, got cuda, and torch "
            f"{torch.__version__} sees no GPU. Use --device cpu"
        )
    info = build_info()
    if info.cuda is None:
        raise CommandError(
            "demo: --device must be one that machin_fast was built for, got cuda, "
            f"and it has no CUDA kernels ({info.cuda_reason})"
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
