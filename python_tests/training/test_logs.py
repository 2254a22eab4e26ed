"""Where figures go besides metrics.jsonl."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from rich.console import Console

from machin_fast.training import (
    ProgressBar,
    Settings,
    TensorBoard,
    Trainer,
    Video,
    WeightsAndBiases,
    record,
)
from machin_fast.utils.extras import MissingExtraError
from training.counting import Counter, count_envs


def run(folder: Path | None, steps: int = 40, resume: bool = False, **options: Any) -> Trainer:
    settings = Settings(
        steps=steps, rollout=5, log_every=10, evaluation_every=20, evaluation_episodes=1
    )
    trainer = Trainer(
        Counter(), count_envs(2), settings, evaluation_envs=count_envs(1), folder=folder, **options
    )
    if resume:
        trainer.resume()
    trainer.train()
    return trainer


def test_the_learning_curve_is_drawn(tmp_path: Path) -> None:
    run(tmp_path)
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_tensor_board_shows_figures_once_also_of_a_resumed_run(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, steps=20, logs=[TensorBoard()])
    run(tmp_path, logs=[TensorBoard()], resume=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"train/loss", "train/return_mean", "evaluation/score"} <= {*events.Tags()["scalars"]}
    assert [(x.step, x.value) for x in events.Scalars("train/loss")] == [
        (10, 1), (20, 2), (30, 3), (40, 4),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="TensorBoard: folder must be given where the run has"):
        run(None, logs=[TensorBoard()])


@pytest.mark.parametrize(
    ("make", "package", "extra"),
    [
        (TensorBoard, "tensorboard", "tensorboard"),
        (WeightsAndBiases, "wandb", "wandb"),
        (lambda: Video(gymnasium.make("CartPole-v1")), "moviepy", "video"),
    ],
)
def test_a_missing_extra_is_named(
    make: Any, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    cure = rf"needs {package}, which is not installed. Install it with: pip install 'machin_fast\["
    with pytest.raises(MissingExtraError, match=cure + extra):
        make()


class Wandb(types.ModuleType):
    """As much of wandb as is used, of which it keeps what it was told."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
        self.options: list[Any] = []
        self.told: list[Any] = []
        self.id = "abc"

    def init(self, **options: Any) -> Any:
        self.options.append(options)
        return self

    def log(self, figures: Any) -> None:
        self.told.append(figures)

    def finish(self) -> None:
        self.told.append("finished")


def test_weights_and_biases_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    run(tmp_path, steps=20, logs=[WeightsAndBiases(project="p")], about={"env": "Count"})
    run(tmp_path, logs=[WeightsAndBiases(project="p")], resume=True)
    first, second = wandb.options
    assert first["project"] == "p" and first["dir"] == str(tmp_path)
    assert first["config"]["about"] == {"env": "Count"}
    assert first["config"]["settings"]["rollout"] == 5
    assert "id" not in first and (second["id"], second["resume"]) == ("abc", "allow")
    assert wandb.told.count("finished") == 2
    assert {"step": 10, "train/loss": 1.0}.items() <= wandb.told[0].items()


# -- the terminal ------------------------------------------------------------------------------


def test_a_progress_bar_shows_in_a_terminal_alone() -> None:
    shown, silent = io.StringIO(), io.StringIO()
    run(None, hooks=[ProgressBar(Console(file=shown, force_terminal=True, width=120))])
    assert "40 of 40 steps" in shown.getvalue() and "return 5, score 5" in shown.getvalue()
    run(None, hooks=[ProgressBar(Console(file=silent))])
    assert not silent.getvalue()


# -- videos ------------------------------------------------------------------------------------


class Blink(gymnasium.Env[Any, Any]):
    """Four steps, pictures of its own."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, render_mode: str | None = "rgb_array") -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return np.zeros(1, np.float32), 1.0, self.count == 4, False, {}

    def render(self) -> Any:
        return np.full((32, 32, 3), 60 * self.count, np.uint8)


def left(state: Any) -> torch.Tensor:
    return torch.zeros(len(state["state"]), dtype=torch.int64)


def test_an_episode_is_filmed(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    import imageio.v3

    path = record(Blink(), left, tmp_path, name="one", seed=1)
    assert path == tmp_path / "one.mp4"
    brightness = imageio.v3.imread(path).mean((1, 2, 3))
    assert brightness == pytest.approx([0, 60, 120, 180, 240], abs=8)
    with pytest.raises(ValueError, match=r"render_mode=\"rgb_array\", got render_mode=None"):
        record(Blink(None), left, tmp_path)


def test_evaluations_are_filmed(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    run(tmp_path, hooks=[Video(Blink(), every=2)])
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["step_20.mp4"]
    with pytest.raises(ValueError, match="Video: every must be at least 1, got 0"):
        Video(Blink(), every=0)
