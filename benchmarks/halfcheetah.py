"""PPO on MuJoCo's HalfCheetah-v5; writes docs/halfcheetah.json and its picture.

``python -m benchmarks.halfcheetah [--steps 500000] [--seeds 0 1 2]``; needs the extra ``mujoco``.

Settings are those of CleanRL's ``ppo_continuous_action``, but with 8 environments of 256 steps
instead of one of 2048, and without clipping of the value loss, of observations and of rewards.
Source: Huang et al. 2022, The 37 Implementation Details of Proximal Policy Optimization.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.wrappers.vector import NormalizeObservation, NormalizeReward, RecordEpisodeStatistics
from torch import nn

from machin_fast.algorithms import PPO
from machin_fast.collect import Collector
from machin_fast.model import for_spaces
from machin_fast.training.evaluation import evaluate

DOCS = Path(__file__).parents[1] / "docs"
ENV, ENVS, CHUNK, EPISODES = "HalfCheetah-v5", 8, 256, 20
DISCOUNT = 0.99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = DOCS / "halfcheetah.json"
    # What was measured before stays, so that single seeds can be repeated.
    runs: dict[str, Any] = json.loads(figures.read_text()) if figures.exists() else {}
    for seed in options.seeds:
        runs[str(seed)] = run = train(seed, options.steps)
        figures.write_text(json.dumps(runs) + "\n")
        print(
            f"seed {seed}: greedy {run['greedy']:.0f} after {run['steps']:,} steps, "
            f"{run['seconds']:.0f} s, {run['cpu_seconds']:.0f} s of them computing"
        )
    draw(runs, DOCS / "halfcheetah.png")


def train(seed: int, steps: int) -> dict[str, Any]:
    """One run; of each training episode the step at which it ended, and its return."""
    torch.manual_seed(seed)
    observed = NormalizeObservation(
        played := RecordEpisodeStatistics(gymnasium.make_vec(ENV, ENVS, "sync"))
    )
    envs = NormalizeReward(observed, gamma=DISCOUNT)
    spaces = envs.single_observation_space, envs.single_action_space
    rollouts = steps // (CHUNK * ENVS)
    falling = (lambda done: 1 - done / rollouts,)
    ppo = PPO(
        *for_spaces(*spaces, "ppo"), torch.optim.Adam, nn.MSELoss(),
        lr_scheduler=torch.optim.lr_scheduler.LambdaLR, lr_scheduler_args=(falling, falling),
        actor_learning_rate=3e-4, critic_learning_rate=3e-4, batch_size=64, epochs=10,
        gae_lambda=0.95, discount=DISCOUNT, gradient_max=0.5,
    )  # fmt: skip
    collector = Collector(envs, ppo.actor, keep=["log_prob"], seed=seed)
    episodes: list[tuple[int, float]] = []
    began, computing = time.perf_counter(), time.process_time()
    for rollout in range(1, rollouts + 1):
        ppo.store(collector.steps(CHUNK))
        ppo.update()
        ppo.update_lr_scheduler()
        step = rollout * CHUNK * ENVS
        episodes += [(step, float(each)) for each in played.return_queue]
        played.return_queue.clear()
        if rollout % 50 == 0:
            print(f"seed {seed}, {step:,} steps: {episodes[-1][1]:.0f}", flush=True)
    seconds, computing = time.perf_counter() - began, time.process_time() - computing
    # As it saw them at the end of training.
    greedy_envs = NormalizeObservation(gymnasium.make_vec(ENV, EPISODES, "sync"))
    greedy_envs.obs_rms, greedy_envs.update_running_mean = observed.obs_rms, False
    greedy = evaluate(greedy_envs, ppo.actor, seed=1_000_000 + seed)
    return {
        "steps": rollouts * CHUNK * ENVS, "seconds": seconds, "cpu_seconds": computing,
        "greedy": float(greedy.mean()), "episodes": episodes,
    }  # fmt: skip


def draw(runs: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for seed, run in sorted(runs.items()):
        steps, returns = np.array(run["episodes"]).T
        at = np.unique(steps)
        means = [returns[steps == step].mean() for step in at]
        (line,) = axes.plot(at, means, lw=1.2, label=f"seed {seed}, training episodes")
        axes.plot(
            run["steps"], run["greedy"], "o", color=line.get_color(),
            label=f"seed {seed}, {EPISODES} greedy episodes at the end",
        )  # fmt: skip
    axes.set(
        title=f"PPO on {ENV}", xlabel="environment steps",
        ylabel="mean return of an episode (sum of 1000 rewards)",
    )  # fmt: skip
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(color="#e4e4e4", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
