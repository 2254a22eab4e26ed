"""Runs that are killed and resumed by another process, and runs that are not: test_resumed.py.

python resumed.py FOLDER leaves <name>/whole.json and <name>/resumed.json, to be compared.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from torch import nn

from machin_fast import algorithms
from machin_fast.algorithms import PPO
from machin_fast.data import Replay
from machin_fast.model import for_spaces
from machin_fast.training import Hooks, Settings, Trainer, seed_everything
from machin_fast.training.learning_curve import LearningCurve

N = 300  # steps to the checkpoint; as many follow
SAME_STEP = {"autoreset_mode": AutoresetMode.SAME_STEP}


def make(name: str, count: int, *wrappers: Any, **options: Any) -> VectorEnv[Any, Any, Any]:
    return gymnasium.make_vec(
        name, count, vectorization_mode="sync", wrappers=wrappers or None, **options
    )


def ppo(seed: int, folder: Path) -> Trainer:
    """On policy, with wrappers that normalise around each environment."""
    seed_everything(seed)
    wrappers = NormalizeObservation, NormalizeReward
    envs = make("CartPole-v1", 4, *wrappers)
    networks = for_spaces(envs.single_observation_space, envs.single_action_space)
    algorithm = PPO(
        *networks, torch.optim.Adam, nn.MSELoss(), batch_size=32, epochs=2,
        lr_scheduler=torch.optim.lr_scheduler.StepLR, lr_scheduler_args=((3,), (3,)),
    )  # fmt: skip
    settings = Settings(
        steps=2 * N, rollout=25, checkpoint_every=N, evaluation_every=N // 2, evaluation_episodes=2
    )
    evaluated = make("CartPole-v1", 2, NormalizeObservation)
    return Trainer(
        algorithm, envs, settings, evaluation_envs=evaluated, folder=folder, hooks=[Killer(folder)]
    )


def recurrent_ppo(seed: int, folder: Path) -> Trainer:
    """Also with a wrapper around all environments."""
    seed_everything(seed)
    envs = gymnasium.wrappers.vector.NormalizeObservation(make("CartPole-v1", 4))
    networks = for_spaces(
        envs.single_observation_space, envs.single_action_space, recurrent="gru", hidden=(16,)
    )
    algorithm = PPO(*networks, torch.optim.Adam, nn.MSELoss(), batch_size=4, epochs=2)
    settings = Settings(steps=2 * N, rollout=25, checkpoint_every=N)
    return Trainer(algorithm, envs, settings, folder=folder, hooks=[Killer(folder)])


def make_algorithm(name: str, envs: VectorEnv[Any, Any, Any], seed: int) -> Any:
    """With a memory of each kind, learned temperature and the like."""
    file = {"DQNPer": "dqn_per", "DDPGPer": "ddpg_per"}.get(name, name.lower())
    spaces = envs.single_observation_space, envs.single_action_space
    networks = for_spaces(*spaces, file, hidden=(32,))
    options: dict[str, Any] = {"optimizer": torch.optim.Adam, "batch_size": 16}
    if name == "RAINBOW":
        options.update(value_min=-1.0, value_max=1.0)
    else:
        options["criterion"] = nn.MSELoss()
    if name == "SAC":
        options["target_entropy"] = "auto"
    if name in ("DQNPer", "TD3"):
        priority = "step" if name == "DQNPer" else None
        options["replay_buffer"] = Replay(500, priority=priority, seed=seed)
    return getattr(algorithms, name)(*networks, **options)


def any_other(name: str, seed: int, folder: Path) -> Trainer:
    seed_everything(seed)
    env = "CartPole-v1" if name in DISCRETE else "Pendulum-v1"
    envs = make(env, 4, vector_kwargs=SAME_STEP)
    settings = Settings(
        steps=2 * N, rollout=15 if name in ON_POLICY else 5, warm_up=100, checkpoint_every=N,
        epsilon_steps=N, reward_steps=3 if name == "DQN" else 1, evaluation_every=N // 2,
        evaluation_episodes=2,
    )  # fmt: skip
    return Trainer(
        make_algorithm(name, envs, seed), envs, settings, evaluation_envs=make(env, 2),
        folder=folder, hooks=[Killer(folder)],
    )  # fmt: skip


ON_POLICY = ("A2C", "TRPO")
DISCRETE = ("DQN", "DQNPer", "RAINBOW", *ON_POLICY)
OTHERS = (*DISCRETE, "DDPG", "DDPGPer", "HDDPG", "TD3", "SAC")
RUNS: dict[str, Callable[[int, Path], Trainer]] = {
    "PPO": ppo,
    "recurrent PPO": recurrent_ppo,
    **{name: functools.partial(any_other, name) for name in OTHERS},
}


class Killer(Hooks):
    """Kills a run in the folder "resumed" two turns after its first checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.kills = folder.name == "resumed" and not folder.exists()
        self.turns = 0

    def on_rollout(self, trainer: Trainer, trajectory: Any) -> None:
        self.turns += trainer.last_checkpoint is not None
        if self.kills and self.turns == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def digest(state: Any) -> Any:
    """A state with checksums for tensors."""
    if isinstance(state, torch.Tensor):
        return hashlib.sha256(state.detach().contiguous().view(-1).numpy().tobytes()).hexdigest()
    if isinstance(state, dict):
        return {str(key): digest(x) for key, x in state.items()}
    if isinstance(state, list | tuple):
        return [digest(x) for x in state]
    return str(state)


def finish(trainer: Trainer, folder: Path) -> None:
    outcome = trainer.train()
    progress = trainer.progress.state_dict()
    del progress["seconds"]
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    clock = ("seconds", "steps_per_second")
    told = [
        {name: x for name, x in line.items() if name not in clock}
        for line in lines
        if line["event"] != "resume"
    ]
    found = {
        "reason": outcome.reason,
        "progress": progress,
        "algorithm": digest(trainer.algorithm.state_dict()),
        "told": told,
    }
    folder.with_suffix(".json").write_text(json.dumps(found))


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    LearningCurve.on_end = Hooks.on_end  # type: ignore[method-assign]  # matplotlib takes a second
    ppo(0, folder)  # imports what all need, once
    for name, run in RUNS.items():
        place = folder / name

        def whole(place: Path = place, run: Any = run) -> None:
            finish(run(0, place / "whole"), place / "whole")

        def begin(place: Path = place, run: Any = run) -> None:
            run(0, place / "resumed").train()

        def resume(place: Path = place, run: Any = run) -> None:
            trainer = run(99, place / "resumed")  # whatever it begins with does not matter
            trainer.resume()
            finish(trainer, place / "resumed")

        assert [in_child(work) for work in (whole, begin, resume)] == [0, -signal.SIGKILL, 0], name


if __name__ == "__main__":
    main(Path(sys.argv[1]))
