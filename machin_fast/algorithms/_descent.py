"""Steps of optimizers: what torch's own do, without what stands around their kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer
from torch.optim import optimizer as torch_optimizer


class _AdamGroup(NamedTuple):
    """Arguments of torch's fused Adam for one group of parameters."""

    group: dict[str, Any]
    parameters: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    largest_squares: list[Tensor]
    counts: list[Tensor]

    def step(self, found_inf: Tensor | None) -> None:
        group = self.group
        kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        torch._foreach_add_(self.counts, 1)
        kernel(
            self.parameters, self.gradients, self.means, self.squares, self.largest_squares,
            self.counts,
            lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
            weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=group["amsgrad"],
            maximize=group["maximize"], found_inf=found_inf,
        )  # fmt: skip
        if found_inf is not None:
            torch._foreach_sub_(self.counts, [found_inf] * len(self.counts))


def step(optimizer: Optimizer, finite: Tensor | None = None) -> None:
    """Takes a step.

    With fused Adam it is the kernel alone: ``optimizer.step()`` takes 30 to 100 us more.

    Args:
        optimizer: Any; of parameters with gradients.
        finite: ``[]``, bool. False: the step is left out, which nobody waits to know if the
            optimizer can step without.
    """
    groups = _adam_groups(optimizer)
    found_inf = None if finite is None else (~finite).float()
    if groups is not None:
        optimizer._opt_called = True  # type: ignore[attr-defined]  # what schedulers look for
        with torch.no_grad():
            for group in groups:
                group.step(found_inf)
    elif found_inf is None:
        optimizer.step()
    elif isinstance(optimizer, Adam | AdamW) and optimizer.defaults.get("fused"):
        # Not SGD: a first step that is left out would leave it with a momentum of garbage.
        # What torch.amp.GradScaler sets; gone afterwards, or later steps would be left out as well.
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        optimizer.found_inf = found_inf  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
    elif finite:
        optimizer.step()


def clip(parameters: Sequence[Tensor], limit: float) -> Tensor:
    """Shortens gradients, taken together, whose norm is above a limit.

    As ``torch.nn.utils.clip_grad_norm_``, which takes 60 us more to sort them by devices.

    Args:
        parameters: Have the gradients.
        limit: Above 0.

    Returns:
        ``[]``, the norm before.
    """
    gradients = [x.grad for x in parameters if x.grad is not None]
    if len({x.device for x in gradients}) != 1:
        return torch.nn.utils.clip_grad_norm_(parameters, limit)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1))
    return norm


def _adam_groups(optimizer: Optimizer) -> list[_AdamGroup] | None:
    """What fused Adam needs, or nothing where torch's own step has more to do than the kernel."""
    if type(optimizer) not in (Adam, AdamW) or _is_watched(optimizer):
        return None
    groups = []
    for group in optimizer.param_groups:
        parameters = [x for x in group["params"] if x.grad is not None]
        if not parameters:
            continue
        first = parameters[0]
        if not group["fused"] or isinstance(group["lr"], Tensor):
            return None
        for x in parameters:
            # A first step makes the state; a kernel takes what is on one device and of one dtype.
            known = x in optimizer.state and not x.grad.is_sparse
            if not known or x.dtype != first.dtype or x.device != first.device:
                return None
        states = [optimizer.state[x] for x in parameters]
        groups.append(
            _AdamGroup(
                group,
                parameters,
                [x.grad for x in parameters],
                [each["exp_avg"] for each in states],
                [each["exp_avg_sq"] for each in states],
                [each["max_exp_avg_sq"] for each in states] if group["amsgrad"] else [],
                [each["step"] for each in states],
            )
        )
    return groups


def _is_watched(optimizer: Optimizer) -> bool:
    """Whether someone wants to know of its steps, or makes them in another way."""
    own = vars(optimizer).get("step")
    return (
        bool(optimizer._optimizer_step_pre_hooks)
        or bool(optimizer._optimizer_step_post_hooks)
        or bool(torch_optimizer._global_optimizer_pre_hooks)
        or bool(torch_optimizer._global_optimizer_post_hooks)
        or (own is not None and not hasattr(own, "_wrapped_by_lr_sched"))
    )
