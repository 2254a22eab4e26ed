"""``machin-fast tune``."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from machin_fast.auto.cli import Tune
from machin_fast.auto.commands.train import close, told_in_one_line
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import Experiment, options_of
from machin_fast.auto.presets import PRESETS
from machin_fast.training import Hooks, Trainer
from machin_fast.utils.extras import need


def run(options: Tune) -> int:
    """Trains many times with other settings, and writes the best ones.

    Args:
        options: Of the command line.

    Returns:
        0.

    Raises:
        MissingExtraError: Optuna is not installed.
        CommandError: There is no such algorithm or environment, or it cannot act there.
    """
    need("optuna", extra="tune", for_what="machin-fast tune")
    optuna: Any = importlib.import_module("optuna")
    for name in ("trials", "steps"):
        if getattr(options, name) < 1:
            raise CommandError(f"--{name} must be at least 1, got {getattr(options, name)}")
    console = Console()
    with told_in_one_line():
        base = Experiment.of(options.algo, options.env)
        every = max(1, options.steps // 5)
        base = base.but(
            training={"steps": options.steps, "evaluation_every": every, "seed": options.seed}
        )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=options.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        )

        def objective(trial: Any) -> float:
            experiment = base.but(**suggested(trial, base))
            judge = Judge(trial)
            trainer = experiment.trainer(hooks=[judge])
            try:
                trainer.train()
            finally:
                close(trainer)
            if judge.pruned:
                raise optuna.TrialPruned
            return judge.best

        def tell(study: Any, trial: Any) -> None:
            score = "given up" if trial.value is None else f"{trial.value:.4g}"
            console.print(f"Trial {trial.number + 1}: {score}  {trial.params}", highlight=False)

        study.enqueue_trial(_as_now(base))
        study.optimize(objective, n_trials=options.trials, callbacks=[tell])
        best = base.but(**_changes(study.best_params, base))
        best = replace(best, training=replace(best.training, seed=0))
        options.output.write_text(json.dumps(best.to_json(), indent=2) + "\n", encoding="utf-8")
    console.print(
        f"Best: {study.best_value:.4g}. Train it: machin-fast launch --config {options.output}",
        soft_wrap=True,
        highlight=False,
    )
    return 0


class Judge(Hooks):
    """Tells a trial its scores, and ends it when others were far better.

    Args:
        trial: Of Optuna.
    """

    def __init__(self, trial: Any) -> None:
        self._trial = trial
        self.best = -math.inf
        self.pruned = False

    def on_evaluation(self, trainer: Trainer, returns: NDArray[np.float64]) -> None:
        score = float(returns.mean())
        self.best = max(self.best, score)
        self._trial.report(score, trainer.progress.steps)
        if self._trial.should_prune():
            self.pruned = True
            trainer.stop("others were better")


# What is looked for: the preset's value is the middle of its range.
_FACTOR = {"learning_rate": 10.0}
_BATCHES = [32, 64, 128, 256, 512]
_DISCOUNTS = [0.9, 0.95, 0.98, 0.99, 0.995]


def suggested(trial: Any, base: Experiment) -> dict[str, Any]:
    """Settings to try.

    Args:
        trial: Of Optuna, which chooses.
        base: The preset.

    Returns:
        Changes of it, for ``but``.
    """
    rate = _rate(base)
    factor = _FACTOR["learning_rate"]
    found = {
        "learning_rate": trial.suggest_float("learning_rate", rate / factor, rate * factor,
                                             log=True),
        "batch_size": trial.suggest_categorical("batch_size", _BATCHES),
        "discount": trial.suggest_categorical("discount", _DISCOUNTS),
    }  # fmt: skip
    return _changes(found, base)


def _changes(found: Mapping[str, Any], base: Experiment) -> dict[str, Any]:
    rates = [x for x in options_of(PRESETS[base.algo].frame) if x.endswith("learning_rate")]
    options = {name: x for name, x in found.items() if name != "learning_rate"}
    return {"options": {**dict.fromkeys(rates, found["learning_rate"]), **options}}


def _as_now(base: Experiment) -> dict[str, Any]:
    batch = base.options.get("batch_size", 100)
    return {
        "learning_rate": _rate(base),
        "batch_size": min(_BATCHES, key=lambda each: abs(each - batch)),
        "discount": base.options.get("discount", 0.99),
    }


def _rate(base: Experiment) -> float:
    rates = [x for name, x in base.options.items() if name.endswith("learning_rate")]
    return float(rates[0]) if rates else 1e-3
