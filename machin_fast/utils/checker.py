"""Checks of tensors, and of what goes through a model while it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from machin_fast.utils.helper_classes import Counter

# Called with the counter, the writer, the model, the module, the name and the value.
Hook: TypeAlias = Callable[[Counter, Any, nn.Module, nn.Module, str, Any], object]
Named: TypeAlias = Iterable[tuple[str, Any]]


class CheckError(Exception):
    """A tensor is not what it should be."""


def check_shape(tensor: Tensor, required_shape: Sequence[int], name: str = "") -> None:
    """Refuses a tensor of another shape.

    Args:
        tensor: The tensor.
        required_shape: What its shape should be.
        name: Of the tensor, for the error text.

    Raises:
        CheckError: It is of another shape.
    """
    if list(tensor.shape) != list(required_shape):
        raise CheckError(
            f"check_shape: {name or 'tensor'} must have shape {list(required_shape)}, "
            f"got {list(tensor.shape)}"
        )


def check_nan(tensor: Tensor, name: str = "") -> None:
    """Refuses a tensor with a NaN in it.

    Args:
        tensor: The tensor.
        name: Of the tensor, for the error text.

    Raises:
        CheckError: There is a NaN.
    """
    nan = torch.isnan(tensor)
    if nan.any():
        raise CheckError(
            f"check_nan: {name or 'tensor'} must not contain nan, got {int(nan.sum())} "
            f"of {nan.numel()} at position {nan.nonzero()[0].tolist()}"
        )


# -- hooks, which are called as check_model says ------------------------------------------------


def i_chk_nan(
    _counter: Counter,
    _writer: Any,
    _model: nn.Module,
    _module: nn.Module,
    input_name: str,
    input_val: Any,
) -> None:
    """Refuses an input with a NaN in it.

    Raises:
        CheckError: There is a NaN.
    """
    if isinstance(input_val, Tensor):
        check_nan(input_val, input_name)


def i_chk_range(
    counter: Counter,
    writer: Any,
    _model: nn.Module,
    _module: nn.Module,
    input_name: str,
    input_val: Any,
) -> None:
    """Writes least, largest and mean value of an input."""
    _write_range(writer, input_name, input_val, counter)


def o_chk_nan(
    _counter: Counter,
    _writer: Any,
    _model: nn.Module,
    _module: nn.Module,
    output_name: str,
    output_val: Any,
) -> None:
    """Refuses an output with a NaN in it.

    Raises:
        CheckError: There is a NaN.
    """
    if isinstance(output_val, Tensor):
        check_nan(output_val, output_name)


def o_chk_range(
    counter: Counter,
    writer: Any,
    _model: nn.Module,
    _module: nn.Module,
    output_name: str,
    output_val: Any,
) -> None:
    """Writes least, largest and mean value of an output."""
    _write_range(writer, output_name, output_val, counter)


def p_chk_nan(
    counter: Counter,
    _writer: Any,
    _model: nn.Module,
    _module: nn.Module,
    param_name: str,
    param_val: Tensor,
) -> None:
    """Refuses a parameter with a NaN in it.

    Raises:
        CheckError: There is a NaN.
    """
    check_nan(param_val, f"{param_name}(backward_count={counter.get()})")


def p_chk_range(
    counter: Counter,
    writer: Any,
    _model: nn.Module,
    _module: nn.Module,
    param_name: str,
    param_val: Tensor,
) -> None:
    """Writes least, largest and mean value of a parameter, and a histogram."""
    if _write_range(writer, param_name, param_val, counter):
        writer.add_histogram(param_name, param_val, counter.get())
        writer.flush()


def _write_range(writer: Any, name: str, value: Any, counter: Counter) -> bool:
    """Whether there is a range: not of what is no tensor, empty or complex."""
    if not isinstance(value, Tensor) or not value.numel() or value.is_complex():
        return False
    value = value.float()  # integers have no mean
    figures = {"min": value.min(), "max": value.max(), "mean": value.mean()}
    writer.add_scalars(name, figures, counter.get())
    writer.flush()
    return True


# -- models ----------------------------------------------------------------------------------------


def mark_as_atom_module(module: nn.Module) -> None:
    """Has ``check_model`` check a module as a whole, and not the modules in it.

    Args:
        module: The module.
    """
    module._chk_is_atom = True  # type: ignore[assignment]


def mark_module_output(module: nn.Module, output_names: Sequence[str]) -> None:
    """Names what a module returns, for ``check_model``.

    Args:
        module: The module.
        output_names: One name for each of the values that it returns.
    """
    module._chk_output_names = output_names  # type: ignore[assignment]


def check_model(
    writer: Any,
    model: nn.Module,
    input_check_hooks: Sequence[Hook] = (i_chk_nan, i_chk_range),
    output_check_hooks: Sequence[Hook] = (o_chk_nan, o_chk_range),
    param_check_hooks: Sequence[Hook] = (p_chk_nan, p_chk_range),
    input_check_interval: int = 1,
    output_check_interval: int = 1,
    param_check_interval: int = 100,
    name: str = "",
) -> Callable[[], None]:
    """Checks inputs, outputs and parameters whenever the model is called.

    Modules without others in them are checked, and those of ``mark_as_atom_module``. Values are
    named ``<module>.input.<argument>``, ``<module>.output.<number or name>`` and
    ``<module>.param.<parameter>``. A hook is called as
    ``hook(counter, writer, model, module, name, value)``, without gradients; the counter is the
    number of calls of the model.

    Args:
        writer: A TensorBoard ``SummaryWriter``, or what the hooks want.
        model: The model.
        input_check_hooks, output_check_hooks, param_check_hooks: Called with each of them.
        input_check_interval, output_check_interval, param_check_interval: Calls of the model from
            one check to the next.
        name: Of the model, before the names of its modules.

    Returns:
        A function that ends the checks.

    Raises:
        ValueError: An interval is below 1.
    """
    for what, interval in (
        ("input_check_interval", input_check_interval),
        ("output_check_interval", output_check_interval),
        ("param_check_interval", param_check_interval),
    ):
        if interval < 1:
            raise ValueError(f"check_model: {what} must be at least 1, got {interval}")
    counter = Counter()

    def run(
        module: nn.Module, prefix: str, values: Named, hooks: Sequence[Hook], interval: int
    ) -> None:
        if counter.get() % interval == 0:
            with torch.no_grad():
                for value_name, value in values:
                    for hook in hooks:
                        hook(counter, writer, model, module, f"{prefix}.{value_name}", value)

    def watch(module: nn.Module, name: str) -> Iterator[RemovableHandle]:
        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            values = _inputs(module, args, kwargs)
            run(module, f"{name}.input", values, input_check_hooks, input_check_interval)

        def after(_: nn.Module, __: Any, output: Any) -> None:
            values = _outputs(module, output)
            run(module, f"{name}.output", values, output_check_hooks, output_check_interval)
            values = module.named_parameters()
            run(module, f"{name}.param", values, param_check_hooks, param_check_interval)

        yield module.register_forward_pre_hook(before, with_kwargs=True)
        yield module.register_forward_hook(after)

    handles = [model.register_forward_pre_hook(lambda *_: counter.count())]
    for module, module_name in _atoms(model, name).items():
        handles += watch(module, module_name)

    def cancel() -> None:
        for handle in handles:
            handle.remove()

    return cancel


def _atoms(module: nn.Module, name: str) -> dict[nn.Module, str]:
    """The modules to check; of one that is at several places, the first name."""
    children = list(module.named_children())
    if not children or getattr(module, "_chk_is_atom", False):
        return {module: name}
    atoms: dict[nn.Module, str] = {}
    for child_name, child in children:
        atoms = _atoms(child, f"{name}.{child_name}" if name else child_name) | atoms
    return atoms


def _inputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Named:
    parameters = inspect.signature(module.forward).parameters.values()
    names = [each.name for each in parameters if each.kind <= each.POSITIONAL_OR_KEYWORD]
    yield from _numbered(names, args)
    yield from kwargs.items()


def _outputs(module: nn.Module, output: Any) -> Named:
    if isinstance(output, Mapping):
        return output.items()
    values = output if isinstance(output, tuple | list) else [output]
    return _numbered(getattr(module, "_chk_output_names", ()), values)


def _numbered(names: Sequence[str], values: Sequence[Any]) -> Named:
    """Values by name, those beyond the last name by number."""
    for i, value in enumerate(values):
        yield names[i] if i < len(names) else str(i), value
