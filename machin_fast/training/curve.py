"""The picture of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from machin_fast.utils.extras import need

Point = tuple[int, float]

# More episodes than this would only make a picture slow to draw.
_MOST_POINTS = 20_000


def draw_learning_curve(
    path: Path,
    *,
    title: str,
    episodes: Sequence[Point],
    evaluations: Sequence[Point],
    goal: float | None = None,
    window: int = 20,
) -> None:
    """Draws episode returns and evaluations over environment steps.

    Args:
        path: Of the picture to write; the ending names the format, for example ``.png``.
        title: Stands above the picture.
        episodes: Of each training episode the step at which it ended and its return.
        evaluations: Of each evaluation the step and the mean return.
        goal: Mean return to reach, drawn as a line. None: there is none.
        window: Number of episodes that the running mean is taken over.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    need("matplotlib", extra="demo", for_what="A learning curve")
    # No pyplot: it would want a display and keep the figure.
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    if episodes:
        step, value = np.array(episodes).T
        mean = _running_mean(value, window)
        some = slice(None, None, 1 + len(step) // _MOST_POINTS)
        axes.scatter(
            step[some], value[some], s=7, color="#9db8d2", linewidths=0, label="training episode"
        )
        axes.plot(
            step[some], mean[some], color="#2f6690", linewidth=1.5,
            label=f"mean of the last {window} training episodes",
        )  # fmt: skip
    if evaluations:
        step, value = np.array(evaluations).T
        axes.plot(
            step, value, color="#d1495b", linewidth=1.5, marker="o", markersize=4,
            label="greedy evaluation (mean)",
        )  # fmt: skip
    if goal is not None:
        axes.axhline(goal, color="#3c3c3c", linestyle="--", linewidth=1, label=f"goal: {goal:g}")
    axes.set(title=title, xlabel="environment steps", ylabel="return per episode (sum of rewards)")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path)


def _running_mean(value: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean of each value and those before it, up to ``window`` of them."""
    total = np.concatenate([[0.0], np.cumsum(value)])
    last = np.arange(1, len(value) + 1)
    first = np.maximum(last - window, 0)
    mean: NDArray[np.float64] = (total[last] - total[first]) / (last - first)
    return mean
