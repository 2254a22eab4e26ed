"""Noise on the parameters of a network.

Source: Plappert et al. 2018, Parameter Space Noise for Exploration, arXiv:1706.01905.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from machin_fast.noise._draws import check_spread
from machin_fast.noise._noisy_parameters import NoisyParameters, Source
from machin_fast.noise.generator import NormalNoiseGen


class Switch(Protocol):
    """What is on or off."""

    def get(self) -> bool:
        """Whether it is on."""


class AdaptiveParamNoise:
    """A standard deviation that makes actions differ about as much as is desired.

    Source: Plappert et al. 2018, arXiv:1706.01905, section 3, adaptive noise scaling.

    Args:
        initial_stddev: At first, above 0.
        desired_action_stddev: Distance of actions that is desired, at least 0.
        adoption_coefficient: Factor of one change, at least 1.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        initial_stddev: float = 0.1,
        desired_action_stddev: float = 0.1,
        adoption_coefficient: float = 1.01,
    ) -> None:
        op = "AdaptiveParamNoise"
        if not initial_stddev > 0:
            raise ValueError(f"{op}: initial_stddev must be above 0, got {initial_stddev}")
        check_spread(op, "desired_action_stddev", desired_action_stddev)
        if not adoption_coefficient >= 1:
            raise ValueError(
                f"{op}: adoption_coefficient must be at least 1, got {adoption_coefficient}"
            )
        self.initial_stddev = initial_stddev
        self.desired_action_stddev = desired_action_stddev
        self.adoption_coefficient = adoption_coefficient
        self.current_stddev = initial_stddev

    def adapt(self, distance: float) -> None:
        """Makes noise smaller if actions were too far apart, else larger.

        Args:
            distance: Between actions with and without noise.
        """
        if distance > self.desired_action_stddev:
            self.current_stddev /= self.adoption_coefficient
        else:
            self.current_stddev *= self.adoption_coefficient

    def get_dev(self) -> float:
        """The standard deviation now."""
        return self.current_stddev

    def __repr__(self) -> str:
        return (
            f"AdaptiveParamNoise(i_std={self.initial_stddev}, "
            f"da_std={self.desired_action_stddev}, adpt_coeff={self.adoption_coefficient})"
        )


def l2_distance(noisy: Tensor, clean: Tensor) -> float:
    """Euclidean distance of two outputs."""
    return torch.dist(noisy, clean, 2).item()


def perturb_model(
    model: nn.Module,
    perturb_switch: Switch,
    reset_switch: Switch,
    distance_func: Callable[[Any, Any], float] = l2_distance,
    desired_action_stddev: float = 0.5,
    noise_generator: Callable[..., Callable[[torch.device], Tensor]] = NormalNoiseGen,
    noise_generator_args: Sequence[Any] = (),
    noise_generator_kwargs: Mapping[str, Any] | None = None,
    noise_generate_function: Callable[[torch.Size, torch.device, float], Tensor] | None = None,
    debug_backward: bool = False,
    *,
    adaptive_noise: AdaptiveParamNoise | None = None,
) -> Callable[[], None]:
    """Lets a model run with noise on its parameters.

    While a forward runs, and no longer, noisy tensors stand where the parameters stood, and
    gradients go through them to the parameters. So optimizers, files and copies of the model never
    see noise. Forwards without gradients use the same noisy tensors until the noise or a parameter
    changes; a change through ``parameter.data``, which torch does not count, comes with new noise.

    Whenever there was a forward with noise and one without, the deviation adapts, for noise that
    will be drawn.

    Source: Plappert et al. 2018, arXiv:1706.01905.

    Args:
        model: The network. Copies made of it run without noise.
        perturb_switch: On: forwards run with noise.
        reset_switch: On: each forward with noise draws it anew. Off: it stays the same.
        distance_func: Of the outputs with and without noise; of a tuple the first element counts.
        desired_action_stddev: Distance that is desired.
        noise_generator: Called with the shape of each parameter and the next arguments; what it
            returns is called with a device at each draw, and returns noise of deviation 1.
        noise_generator_args, noise_generator_kwargs: Further arguments, such as a ``generator``.
        noise_generate_function: Called with shape, device and deviation at each draw, instead.
        debug_backward: Print a line for each parameter that gets a gradient.
        adaptive_noise: The deviation. None: a new one, with ``desired_action_stddev``.

    Returns:
        Function that ends it.

    Raises:
        ValueError: ``desired_action_stddev`` is below 0.
    """
    adaptive = adaptive_noise or AdaptiveParamNoise(desired_action_stddev=desired_action_stddev)
    shapes = [parameter.shape for parameter in model.parameters()]
    sources: list[Source]
    if noise_generate_function is not None:
        sources = [partial(noise_generate_function, shape) for shape in shapes]
    else:
        kwargs = noise_generator_kwargs or {}
        sources = [
            _scaled(noise_generator(shape, *noise_generator_args, **kwargs)) for shape in shapes
        ]
    hooks = _Hooks(model, perturb_switch, reset_switch, distance_func, sources, adaptive)
    handles = [
        model.register_forward_pre_hook(hooks.before),
        model.register_forward_hook(hooks.after, always_call=True),
    ]
    if debug_backward:
        handles += [
            parameter.register_hook(partial(_tell, name))
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]

    def cancel() -> None:
        for handle in handles:
            handle.remove()

    return cancel


class _Hooks:
    """Hooks of one model.

    In its copies and files an empty one stands in, which has no model and does nothing.
    """

    _model: nn.Module | None = None

    def __init__(
        self,
        model: nn.Module,
        perturb: Switch,
        reset: Switch,
        distance: Callable[[Any, Any], float],
        sources: Sequence[Source],
        adaptive: AdaptiveParamNoise,
    ) -> None:
        self._model = model
        self._parameters = NoisyParameters(model)
        self._perturb = perturb
        self._reset = reset
        self._distance = distance
        self._sources = sources
        self._adaptive = adaptive
        self._outputs: dict[bool, Any] = {}  # with noise, and without

    def __reduce__(self) -> tuple[Any, ...]:
        return object.__new__, (type(self),)

    def before(self, model: nn.Module, _: Any) -> None:
        if model is not self._model or not self._perturb.get():
            return
        if not self._parameters.drawn or self._reset.get():
            self._parameters.draw(self._sources, self._adaptive.get_dev())
        self._parameters.put()

    def after(self, model: nn.Module, _: Any, output: Any) -> None:
        if model is not self._model:
            return
        noisy = self._parameters.in_place
        self._parameters.put_back()
        action = output[0] if isinstance(output, tuple) else output
        if action is None:  # the forward failed
            return
        self._outputs[noisy] = action.detach().clone()
        if len(self._outputs) == 2:
            distance = self._distance(self._outputs[True], self._outputs[False])
            self._adaptive.adapt(distance)
            self._outputs.clear()


def _scaled(source: Callable[[torch.device], Tensor]) -> Source:
    return lambda device, std: source(device) * std


def _tell(name: str, _: Tensor) -> None:
    print(f"Backward swapped for {name}!")
