"""``machin-fast generate``."""

from __future__ import annotations

import json
from typing import Any

from machin_fast.auto import config, names
from machin_fast.auto.cli import Generate
from machin_fast.auto.commands.train import told_in_one_line
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import Experiment
from machin_fast.auto.presets import PRESETS


def run(options: Generate) -> int:
    """Writes a configuration.

    Args:
        options: Of the command line.

    Returns:
        0.

    Raises:
        CommandError: There is no such algorithm or environment, or the file cannot be written.
    """
    algo = names.algorithm(options.algo)
    if options.env in config.get_available_environments():
        made = machins(PRESETS[algo].frame, options.env)
    else:
        made = Experiment.of(algo, options.env).to_json()
    text = json.dumps(made, indent=2)
    if options.print:
        print(text)
        return 0
    with told_in_one_line():
        if options.output.exists():
            raise CommandError(f"--output must be a new file, got {options.output}, which is there")
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n", encoding="utf-8")
    print(f"Wrote {options.output}. Train it: machin-fast launch --config {options.output}")
    return 0


def machins(frame: str, env: str) -> dict[str, Any]:
    """A configuration in Machin's form.

    Args:
        frame: Name of an algorithm's class.
        env: One of ``config.get_available_environments``.

    Returns:
        The configuration.
    """
    made = {"schema_version": config.SCHEMA_VERSION, **config.generate_training_config()}
    made = config.generate_algorithm_config(frame, made)
    found: dict[str, Any] = config.generate_env_config(env, made)
    return found
