"""Runs programs: ``python -m machin_programs as_machin|renamed results names...``.

They run one after the other, in this process, since importing torch takes seconds. For each there
is a line of JSON in the file ``results``.
"""

from __future__ import annotations

import json
import logging
import math
import random
import re
import runpy
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import machin_fast
from machin_fast.utils.logging import default_logger

IMPORT = re.compile(r"^(\s*(?:from|import) )machin\b", re.MULTILINE)
LOSS = re.compile(r"loss=([^\s,]+)")


class Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def run(program: Path) -> dict[str, Any]:
    """How a program ended, and what it did."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (Machin's buffers draw from it)
    messages, steps, fault = Messages(), [0], ""

    def count(*_: Any) -> None:
        steps[0] += 1

    default_logger.addHandler(messages)
    counting = register_optimizer_step_post_hook(count)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*which do nothing")
            runpy.run_path(str(program), run_name="__main__")
    except SystemExit as end:
        fault = f"exit code {end.code}" if end.code else ""
    except BaseException:
        fault = traceback.format_exc()
    finally:
        counting.remove()
        default_logger.removeHandler(messages)
    losses = [float(each) for each in LOSS.findall(" ".join(messages.texts)) if each != "None"]
    return {
        "fault": fault,
        "losses": len(losses),
        "finite": all(map(math.isfinite, losses)),
        "steps": steps[0],
        "last": messages.texts[-1] if messages.texts else "",
    }


def main(how: str, results: str, *names: str) -> None:
    torch.set_num_threads(1)
    programs = {name: Path(__file__).with_name(f"{name}.py") for name in names}
    with tempfile.TemporaryDirectory() as folder, Path(results).open("w") as file:
        if how == "as_machin":
            machin_fast.use_as("machin")
        else:
            for name, program in programs.items():
                text, count = IMPORT.subn(r"\1machin_fast", program.read_text())
                assert count, f"{program} must import machin"
                programs[name] = Path(folder, program.name)
                programs[name].write_text(text)
        for name, program in programs.items():
            print(json.dumps({"name": name, **run(program)}), file=file, flush=True)
    assert ("machin" in sys.modules) == (how == "as_machin")


if __name__ == "__main__":
    main(*sys.argv[1:])
