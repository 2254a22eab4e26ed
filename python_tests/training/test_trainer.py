"""What a trainer does, when and how often."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from machin_fast.training import CheckFinite, Hooks, Settings, Trainer
from machin_fast.training.checkpoint import read
from training.counting import Counter, count_envs

PNG = b"\x89PNG\r\n\x1a\n"


pytestmark = pytest.mark.usefixtures("without_curve")


def trainer(**options: Any) -> Trainer:
    settings = {"steps": 40, "rollout": 5, "evaluation_every": 0, "checkpoint_every": 0}
    given = {name: options.pop(name) for name in [*options] if hasattr(Settings, name)}
    return Trainer(Counter(), count_envs(2), Settings(**{**settings, **given}), **options)


def test_turns_collect_store_and_learn_up_to_the_budget() -> None:
    made = trainer(updates=3)
    outcome = made.train()
    assert (outcome.reason, outcome.message) == ("budget", "")
    assert outcome.progress is made.progress
    assert (made.progress.steps, made.progress.updates, made.progress.episodes) == (40, 12, 8)
    assert made.progress.seconds > 0
    assert made.algorithm.calls == ["store", *["update"] * 3] * 4
    assert [len(each) for each in made.algorithm.stored] == [10] * 4
    assert made.train().reason == "budget"  # at once
    assert made.progress.steps == 40


def test_the_memory_warms_up_first() -> None:
    made = trainer(warm_up=20)
    made.train()
    assert made.algorithm.calls == ["store", *["store", "update"] * 3]


def test_epsilon_falls_with_steps() -> None:
    made = trainer(epsilon_start=0.8, epsilon_end=0.2, epsilon_steps=20)
    made.train()
    assert made.algorithm.epsilons[::5] == pytest.approx([0.8, 0.5, 0.2, 0.2])
    assert Settings(epsilon_end=0.3, epsilon_steps=0).epsilon(0) == 0.3


def test_rewards_are_summed_and_trajectories_prepared() -> None:
    def prepare(trajectory: Any) -> Any:
        return trajectory.with_columns(reward=10 * trajectory["reward"])

    made = trainer(reward_steps=2, prepare=prepare)
    made.train()
    first = made.algorithm.stored[0]
    assert first["reward"][:5].tolist() == [15, 15, 15, 15, 10]
    assert first["discount"][:5].tolist() == [0.25, 0.25, 0.25, 0, 0]


class Notes(Hooks):
    def __init__(self) -> None:
        self.moments: list[Any] = []

    def on_start(self, trainer: Trainer) -> None:
        self.moments.append(("start", trainer.progress.steps))

    def on_rollout(self, trainer: Trainer, trajectory: Any) -> None:
        self.moments.append(("rollout", len(trajectory)))

    def on_update(self, trainer: Trainer, figures: dict[str, float]) -> None:
        self.moments.append(("update", figures))

    def on_evaluation(self, trainer: Trainer, returns: Any) -> None:
        self.moments.append(("evaluation", returns.tolist()))

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        self.moments.append(("checkpoint", path.name))

    def on_end(self, trainer: Trainer, outcome: Any) -> None:
        self.moments.append(("end", outcome.reason, outcome.message))


def test_hooks_are_called_at_six_moments(tmp_path: Path) -> None:
    notes = Notes()
    trainer(
        steps=20, updates=2, warm_up=20, evaluation_every=20, evaluation_episodes=2,
        evaluation_envs=count_envs(2, 7), folder=tmp_path, hooks=[notes],
    ).train()  # fmt: skip
    assert notes.moments == [
        ("start", 0),
        ("rollout", 10), ("update", {}),
        ("rollout", 10), ("update", {"loss": 1.5}),
        ("evaluation", [7.0, 7.0]),
        ("checkpoint", "000001_step_20"),
        ("end", "budget", ""),
    ]  # fmt: skip


def test_a_hook_stops_a_run() -> None:
    class Stop(Hooks):
        def on_rollout(self, trainer: Trainer, trajectory: Any) -> None:
            trainer.stop("enough")

    made = trainer(hooks=[Stop()])
    outcome = made.train()
    assert (outcome.reason, outcome.message) == ("stopped", "enough")
    assert made.algorithm.calls == ["store", "update"]


def test_what_a_hook_raises_ends_a_run_and_all_hooks_hear_of_it(tmp_path: Path) -> None:
    class Fail(Hooks):
        def on_update(self, trainer: Trainer, figures: dict[str, float]) -> None:
            raise KeyError("oh")

    notes = Notes()
    made = trainer(hooks=[Fail(), notes], folder=tmp_path)
    with pytest.raises(KeyError, match="oh"):
        made.train()
    assert notes.moments[-1] == ("end", "error", "'oh'")
    last = (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["reason"] == "error"
    assert not (tmp_path / "checkpoints").exists()  # nobody knows what state it is in


# -- evaluation --------------------------------------------------------------------------------


def test_evaluations_have_environments_and_seeds_of_their_own() -> None:
    envs = count_envs(2, 7)
    made = trainer(evaluation_every=20, evaluation_episodes=3, evaluation_envs=envs, seed=5)
    made.train()
    assert made.progress.evaluations == [(20, 7.0), (40, 7.0)]
    assert made.progress.score == 7.0 and made.progress.best == (20, 7.0)
    seeds = [env.seeds for env in envs.envs]
    assert seeds == [[1_000_005, 1_000_007] * 2, [1_000_006, 1_000_008] * 2]
    assert [env.seeds for env in made.envs.envs] == [[5], [6]]


def test_the_goal_ends_a_run_also_at_its_last_step() -> None:
    options: Any = {"evaluation_envs": count_envs(2, 7), "goal": 7.0}
    made = trainer(evaluation_every=10, **options)
    assert made.train().reason == "goal"
    assert made.progress.steps == 10
    made = trainer(evaluation_every=1000, **options)
    assert made.train().reason == "goal"
    assert made.progress.evaluations == [(40, 7.0)]


def test_nothing_is_written_without_a_folder(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    made = trainer(evaluation_every=10, checkpoint_every=10, evaluation_envs=count_envs(1))
    made.train()
    assert not list(tmp_path.iterdir())
    assert made.last_checkpoint is None
    with pytest.raises(ValueError, match=r"Trainer.save: folder must be given, got None"):
        made.save()
    with pytest.raises(ValueError, match=r"Trainer.resume: path must be given"):
        made.resume()


# -- checkpoints -------------------------------------------------------------------------------


def test_checkpoints_come_and_go(tmp_path: Path) -> None:
    made = trainer(
        steps=70, checkpoint_every=20, checkpoints_kept=2, folder=tmp_path, about={"env": "Count"}
    )
    made.train()
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["000003_step_60", "000004_step_70"]
    assert made.last_checkpoint is not None and made.last_checkpoint.name == kept[-1]
    found = read(made.last_checkpoint)
    assert found.names == ("algorithm", "trainer", "environments")
    assert found.about == {"env": "Count"}


def test_the_best_is_kept_without_memory(tmp_path: Path) -> None:
    class Rising(Hooks):
        lengths = iter([3, 9, 4, 6])

        def on_rollout(self, trainer: Any, trajectory: Any) -> None:
            for env in trainer.evaluation_envs.envs:
                env.length = next(self.lengths)

    made = trainer(
        evaluation_every=10, evaluation_envs=count_envs(1), folder=tmp_path, hooks=[Rising()]
    )
    made.train()
    assert made.progress.evaluations == [(10, 3.0), (20, 9.0), (30, 4.0), (40, 6.0)]
    assert made.progress.best == (20, 9.0)
    (best,) = (tmp_path / "best").iterdir()
    assert best.name == "000002_step_20"
    assert read(best).names == ("algorithm", "environments")
    with pytest.raises(ValueError, match="which is only one to act with"):
        made.resume(best)


def test_episodes_begin_anew_at_checkpoints_if_resuming_shall_be_exact(tmp_path: Path) -> None:
    exact = trainer(checkpoint_every=20, folder=tmp_path / "a", seed=3)
    exact.train()
    seeds = exact.envs.envs[0].seeds
    assert len(seeds) == 2 and seeds[0] == 3
    resumed = trainer(checkpoint_every=20, folder=tmp_path / "a", seed=3)
    resumed.resume(tmp_path / "a/checkpoints/000001_step_20")
    resumed.train()
    assert resumed.envs.envs[0].seeds == seeds[1:]
    assert resumed.progress.steps == 40 and resumed.algorithm.updates == 4
    other = trainer(checkpoint_every=20, folder=tmp_path / "b", exact_resume=False)
    other.train()
    assert len(other.envs.envs[0].seeds) == 1


def test_a_run_goes_on_with_a_larger_budget(tmp_path: Path) -> None:
    trainer(steps=20, folder=tmp_path).train()
    made = trainer(steps=40, folder=tmp_path)
    assert made.resume().step == 20
    assert made.train().reason == "budget"
    assert made.progress.steps == 40 and made.algorithm.updates == 4
    with pytest.raises(FileNotFoundError, match="must have a checkpoint, got"):
        trainer(folder=tmp_path / "none").resume()


def test_what_hooks_draw_at_the_start_changes_nothing(tmp_path: Path) -> None:
    class Drawing(Hooks):
        def on_start(self, trainer: Trainer) -> None:
            torch.rand(3)

    def explore(state: Any) -> torch.Tensor:
        return torch.randint(2, (2,))

    def actions(name: str, **options: Any) -> list[int]:
        made = trainer(checkpoint_every=20, folder=tmp_path / name, explore=explore, **options)
        if options:
            made.resume(tmp_path / "whole/checkpoints/000001_step_20")
        made.train()
        return [each["action"].tolist() for each in made.algorithm.stored]

    torch.manual_seed(0)
    whole = actions("whole")
    assert actions("resumed", hooks=[Drawing()]) == whole[2:]


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    trainer(steps=20, folder=tmp_path).train()
    with pytest.raises(ValueError, match=r"no checkpoints of another run, got 1 in .* Resume th"):
        trainer(folder=tmp_path).train()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_metrics_of_what_is_resumed_are_as_if_it_never_ended(tmp_path: Path) -> None:
    def lines(folder: Path) -> list[Any]:
        told = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return [(line["event"], line["step"], line.get("returns")) for line in told]

    def begin(name: str) -> Trainer:
        return trainer(checkpoint_every=20, log_every=10, folder=tmp_path / name)

    begin("a").train()
    begin("b").train()
    path = tmp_path / "b/metrics.jsonl"
    path.write_text(path.read_text() + '{"event": "train", "st')  # by a kill
    resumed = begin("b")
    resumed.resume(tmp_path / "b/checkpoints/000001_step_20")
    resumed.train()
    whole, found = lines(tmp_path / "a"), lines(tmp_path / "b")
    assert ("resume", 20, None) in found
    found.remove(("resume", 20, None))
    assert found == whole
    assert [line[:2] for line in whole] == [
        ("train", 10), ("train", 20), ("checkpoint", 20), ("train", 30), ("train", 40),
        ("checkpoint", 40), ("end", 40),
    ]  # fmt: skip
    assert sum(len(line[2]) for line in whole if line[0] == "train") == 8


def test_a_full_disk_ends_a_run_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(checkpoint_every=10, folder=tmp_path)
    written = 0

    def fsync(_: int) -> None:
        nonlocal written
        written += 1
        if written > 20:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left on device"):
        made.train()
    monkeypatch.undo()
    resumed = trainer(folder=tmp_path)
    assert resumed.resume().step == 20
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


# -- Ctrl-C ------------------------------------------------------------------------------------


class Interrupting(Hooks):
    def __init__(self, times: int) -> None:
        self.times = times

    def on_rollout(self, trainer: Trainer, trajectory: Any) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_a_run_after_the_turn_with_a_checkpoint_and_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = trainer(folder=tmp_path, hooks=[Interrupting(1)])
    assert made.train().reason == "interrupted"
    assert made.algorithm.calls == ["store", "update"]
    where = tmp_path / "checkpoints/000001_step_10"
    assert capfd.readouterr() == ("", f"Stopped at step 10. Resume it from {where}\n")
    assert read(where).step == 10
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    notes = Notes()
    made = trainer(hooks=[notes, Interrupting(2)])
    with pytest.raises(KeyboardInterrupt):
        made.train()
    assert notes.moments[-1] == ("end", "error", "KeyboardInterrupt")
    assert made.algorithm.calls == []


def test_environments_that_die_of_ctrl_c_are_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    class Dying(Interrupting):
        def on_rollout(self, trainer: Trainer, trajectory: Any) -> None:
            super().on_rollout(trainer, trajectory)
            raise BrokenPipeError("worker 3")

    outcome = trainer(hooks=[Dying(1)]).train()
    assert (outcome.reason, outcome.message) == ("interrupted", "worker 3")
    assert capfd.readouterr().err == "Stopped at step 10. There is no checkpoint of it\n"
    with pytest.raises(BrokenPipeError):
        trainer(hooks=[Dying(0)]).train()


def test_a_handler_of_the_program_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        assert trainer(hooks=[Interrupting(1)]).train().reason == "budget"
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(heard) == 4


# -- numbers that are none ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("reward", r"reward must be finite, got nan at position 3 in the turn up to step 30"),
        ("final", r"what followed in state must be finite, got \[nan"),
        ("figure", r"loss must be finite, got inf in the turn up to step 30"),
        ("network", r"parameters of networks must be finite, got nan in weight"),
    ],
)
def test_nan_ends_a_run_and_the_last_good_checkpoint_is_named(
    where: str, message: str, tmp_path: Path
) -> None:
    class Poison(Hooks):
        def on_rollout(self, trainer: Any, trajectory: Any) -> None:
            if trainer.progress.steps < 30:
                return
            if where == "reward":
                trajectory.columns["reward"][3] = torch.nan
            elif where == "final":
                trajectory.final["state"][0] = torch.nan
            elif where == "figure":
                trainer.algorithm.updates = np.inf
            else:
                trainer.algorithm.top_models[0].weight.data[0, 0] = torch.nan

    made = trainer(folder=tmp_path, checkpoint_every=10, hooks=[Poison(), CheckFinite()])
    made.algorithm.top_models = [torch.nn.Linear(1, 1)]
    with pytest.raises(ValueError, match=message) as error:
        made.train()
    assert str(error.value).endswith(f"Go on from {tmp_path}/checkpoints/000002_step_20")


def test_check_finite_is_a_setting() -> None:
    made = trainer(check_finite=True)
    made.algorithm.updates = np.inf
    with pytest.raises(ValueError, match=r"loss must be finite, got inf .* step 10\.$"):
        made.train()
    made = trainer()
    made.algorithm.updates = np.inf
    made.train()


# -- arguments ---------------------------------------------------------------------------------


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="evaluation_envs must be given to reach a goal of 3"):
        trainer(goal=3, evaluation_every=10)
    with pytest.raises(TypeError, match=r"envs must be a gymnasium.vector.VectorEnv or .* int"):
        Trainer(Counter(), 3)  # type: ignore[arg-type]
    envs = count_envs(1)
    with pytest.raises(ValueError, match="evaluation_envs must be others than envs"):
        Trainer(Counter(), envs, evaluation_envs=envs)
    with pytest.raises(TypeError, match="algorithm must have a method act, got object"):
        Trainer(object(), count_envs(1))
    with pytest.raises(ValueError, match=r"Trainer.evaluate: evaluation_envs must be given"):
        trainer().evaluate()


def test_settings_load_no_torch() -> None:
    program = (
        "import sys; from machin_fast.training import Settings; Settings();"
        "sys.exit('torch' in sys.modules or 'gymnasium' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
