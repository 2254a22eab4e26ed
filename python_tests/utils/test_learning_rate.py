"""Learning rates by step."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from machin_fast.utils.learning_rate import gen_learning_rate_func


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 1e-3), (9, 1e-3), (10, 3e-4), (29, 3e-4), (30, 1e-5), (10**9, 1e-5)]
)
def test_the_rate_is_that_of_the_segment(step, rate):
    assert gen_learning_rate_func([(0, 1e-3), (10, 3e-4), (30, 1e-5)])(step) == rate


def test_before_the_first_step_it_is_the_first_rate():
    assert gen_learning_rate_func([(5, 1.0), (10, 2.0)])(0) == 1.0


def test_a_scheduler_multiplies_by_it():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = LambdaLR(optimizer, gen_learning_rate_func([(0, 1.0), (2, 0.1)]))
    rates = []
    for _ in range(3):
        rates += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert rates == [0.5, 0.5, 0.05]


def test_a_logger_is_told_the_rate():
    class Logger:
        said = []

        def info(self, text):
            self.said.append(text)

    gen_learning_rate_func([(0, 0.25)], Logger())(3)
    assert Logger.said == ["Current learning rate:0.25"]


@pytest.mark.parametrize("wrong", [[], [(1, 0.1), (0, 0.1)], [(1, 0.1), (1, 0.2)]])
def test_steps_that_do_not_ascend_are_refused(wrong):
    with pytest.raises(ValueError, match="lr_map must have one or more ascending steps, got"):
        gen_learning_rate_func(wrong)
