"""The learning curve."""

from __future__ import annotations

import numpy as np
import pytest

from machin_fast.training.curve import _running_mean, draw_learning_curve

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("episodes", [[], [(10, 9.0)], [(10 * i, float(i)) for i in range(100)]])
@pytest.mark.parametrize("evaluations", [[], [(10, 100.0)]])
def test_a_run_of_any_length_is_drawn(tmp_path, episodes, evaluations):
    path = tmp_path / "curve.png"
    draw_learning_curve(path, title="t", episodes=episodes, evaluations=evaluations, goal=475)
    assert path.read_bytes().startswith(PNG)


def test_the_running_mean_begins_with_what_is_there():
    value = np.array([4.0, 2.0, 6.0, 0.0])
    assert _running_mean(value, 2).tolist() == [4.0, 3.0, 4.0, 3.0]
    assert _running_mean(value, 10).tolist() == [4.0, 3.0, 4.0, 3.0]
