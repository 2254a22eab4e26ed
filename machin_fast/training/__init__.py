"""Training: the loop, its settings, checkpoints, figures, evaluation.

Names load when they are first used: settings are read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from machin_fast.training.behaviour import Behaviour
    from machin_fast.training.checkpoint import Checkpoint, DamagedError
    from machin_fast.training.checkpoints import Checkpoints
    from machin_fast.training.evaluation import evaluate
    from machin_fast.training.finite import CheckFinite
    from machin_fast.training.hooks import Hooks
    from machin_fast.training.logs import JsonLines, Log
    from machin_fast.training.profiling.profile import Profile, profile
    from machin_fast.training.progress import Outcome, Progress
    from machin_fast.training.progress_bar import ProgressBar
    from machin_fast.training.seeding import seed_everything
    from machin_fast.training.settings import Settings
    from machin_fast.training.statistics import put_statistics, take_statistics
    from machin_fast.training.tensor_board import TensorBoard
    from machin_fast.training.trainer import Trainer
    from machin_fast.training.video import Video, record
    from machin_fast.training.weights_and_biases import WeightsAndBiases

_WHERE = {
    "Behaviour": "behaviour",
    "Checkpoint": "checkpoint",
    "DamagedError": "checkpoint",
    "Checkpoints": "checkpoints",
    "evaluate": "evaluation",
    "CheckFinite": "finite",
    "Hooks": "hooks",
    "JsonLines": "logs",
    "Log": "logs",
    "Profile": "profiling.profile",
    "profile": "profiling.profile",
    "Outcome": "progress",
    "Progress": "progress",
    "ProgressBar": "progress_bar",
    "seed_everything": "seeding",
    "Settings": "settings",
    "put_statistics": "statistics",
    "take_statistics": "statistics",
    "TensorBoard": "tensor_board",
    "Trainer": "trainer",
    "Video": "video",
    "record": "video",
    "WeightsAndBiases": "weights_and_biases",
}
__all__ = [
    "Behaviour", "CheckFinite", "Checkpoint", "Checkpoints", "DamagedError", "Hooks",
    "JsonLines", "Log", "Outcome", "Profile", "Progress", "ProgressBar", "Settings",
    "TensorBoard", "Trainer", "Video", "WeightsAndBiases", "evaluate", "profile",
    "put_statistics", "record", "seed_everything", "take_statistics",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
