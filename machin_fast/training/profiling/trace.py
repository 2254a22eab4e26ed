"""Stays in stages as a file that Chrome and Perfetto show."""

from __future__ import annotations

import json
import os
from pathlib import Path

from machin_fast.utils.stages import Stages


def write(path: Path, stages: Stages) -> None:
    """Writes Chrome's trace event format, times in microseconds since the beginning.

    Args:
        path: Of the file.
        stages: Which kept its spans.

    Raises:
        OSError: It cannot be written.
    """
    pid = os.getpid()
    with path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ms", "otherData": ')
        json.dump({"spans_left_out": stages.spans_left_out}, file)
        file.write(', "traceEvents": [\n')
        name = {"name": "process_name", "ph": "M", "pid": pid, "args": {"name": "machin_fast"}}
        json.dump(name, file)
        for span in sorted(stages.spans, key=lambda each: each.begin):
            begin = 1e6 * (span.begin - stages.beginning)
            file.write(
                f',\n{{"name": {json.dumps(span.name)}, "ph": "X", "pid": {pid}, "tid": 0, '
                f'"ts": {begin:.3f}, "dur": {1e6 * span.seconds:.3f}}}'
            )
        file.write("\n]}\n")
