"""``machin-fast launch``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from machin_fast.auto import machin_form
from machin_fast.auto.checks import read_config
from machin_fast.auto.cli import Launch
from machin_fast.auto.commands.train import told_in_one_line, train
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import Experiment


def run(options: Launch) -> int:
    """Trains what a configuration describes.

    Args:
        options: Of the command line.

    Returns:
        As ``commands.train.run``.

    Raises:
        CommandError: The configuration is wrong.
    """
    config = read_config(options.config)
    machins = machin_form.is_machins(config)
    if machins:
        machin_form.check(config, allow_import=options.allow_import)
    if options.resume and options.folder is None:
        raise CommandError("--folder must be given with --resume: that of the run to go on with")
    with told_in_one_line():
        if machins and machin_form.has_own_networks(config):
            return _with_own_networks(config, options)
        experiment = machin_form.experiment_of(config) if machins else Experiment.from_json(config)
        hooks = (machin_form.Episodes(config),) if machins else ()
        folder = options.folder or (Path(config["root_dir"]) if machins else None)
        if options.engine == "lightning":
            from machin_fast.auto.lightning import fit

            patience = config.get("early_stopping_patience") if machins else None
            return fit(experiment, folder=folder, patience=patience)
        return train(experiment, folder=folder, resume=options.resume, hooks=hooks)


def _with_own_networks(config: dict[str, Any], options: Launch) -> int:
    """Of somebody's modules, who said that they may be imported."""
    if not options.allow_import:
        raise CommandError(
            f"config: frame_config: models {config['frame_config']['models']} are nobody's here. "
            "Write module.Class and say --allow-import to import them, or leave what was generated"
        )
    if options.engine == "lightning":
        from machin_fast.auto.config import launch

        launch(config, pl_callbacks=[])
        return 0
    outcome = machin_form.launch_natively(config)
    print(f"Ended ({outcome.message or outcome.reason}) after {outcome.progress.steps:,} steps.")
    return 0
