"""Line search in a trust region."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from machin_fast.functional._checks import check_positive


def line_search(
    evaluate: Callable[[float], tuple[Tensor, Tensor]],
    loss: Tensor,
    expected: Tensor,
    max_kl: float,
    backtracks: int = 10,
    accept_ratio: float = 0.1,
) -> float:
    """The largest of 1, 1/2, 1/4, ... of a step that lowers the loss and keeps the policy near.

    Source: Schulman et al. 2015 (TRPO), arXiv:1502.05477, appendix C.

    Args:
        evaluate: From a part of the step to the loss and the mean KL(old policy || policy) after
            it, each ``[]``. It is waited for, once each trial.
        loss: ``[]``, before the step.
        expected: ``[]``, what the whole step should gain: ``-gradient @ step``.
        max_kl: How far the policy may go, above 0.
        backtracks: Parts to try.
        accept_ratio: Part of the expected gain that must come true.

    Returns:
        The part to take; 0 if none will do. NaN never does.

    Raises:
        ValueError: ``max_kl`` is out of its range.
    """
    check_positive("line_search", "max_kl", max_kl)
    least = accept_ratio * expected.clamp(min=0)
    for trial in range(backtracks):
        part = 0.5**trial
        new_loss, kl = evaluate(part)
        if ((loss - new_loss > part * least) & (kl <= max_kl)).all():
            return part
    return 0.0
