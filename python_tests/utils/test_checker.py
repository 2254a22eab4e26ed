"""Checks of tensors and models."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn

from machin_fast.utils.checker import (
    CheckError,
    check_model,
    check_nan,
    check_shape,
    i_chk_nan,
    i_chk_range,
    mark_as_atom_module,
    mark_module_output,
    o_chk_range,
    p_chk_nan,
    p_chk_range,
)
from machin_fast.utils.helper_classes import Counter


class Writer:
    """Notes what is written: (name, step, figures)."""

    def __init__(self):
        self.scalars = []
        self.histograms = []
        self.flushed = 0

    def add_scalars(self, name, figures, step):
        self.scalars.append((name, step, {key: float(value) for key, value in figures.items()}))

    def add_histogram(self, name, value, step):
        self.histograms.append((name, step))

    def flush(self):
        self.flushed += 1


class Notes:
    """A hook that notes what it is called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, counter, writer, model, module, name, value):
        assert isinstance(counter, Counter) and not torch.is_grad_enabled()
        self.calls.append((counter.get(), writer, model, module, name, value))

    def names(self):
        return [name for _, _, _, _, name, _ in self.calls]


def watch(model, **kwargs):
    """Hooks that note inputs, outputs and parameters, and what ends them."""
    notes = Notes(), Notes(), Notes()
    hooks = [[each] for each in notes]
    cancel = check_model("writer", model, *hooks, **{"param_check_interval": 1, **kwargs})
    return *notes, cancel


# -- tensors ---------------------------------------------------------------------------------------


def test_another_shape_is_refused():
    check_shape(torch.zeros(4, 3), [4, 3])
    check_shape(torch.zeros(4, 3), (4, 3))
    check_shape(torch.zeros(()), [])
    with pytest.raises(CheckError, match=r"check_shape: x must have shape \[4, 3\], got \[4, 2\]"):
        check_shape(torch.zeros(4, 2), [4, 3], "x")
    with pytest.raises(CheckError, match="tensor must have shape"):
        check_shape(torch.zeros(4), [4, 1])


def test_nan_is_refused_and_infinity_is_not():
    check_nan(torch.tensor([1.0, math.inf, -math.inf]))
    check_nan(torch.tensor([1, 2]))
    check_nan(torch.zeros(0))
    bad = torch.zeros(2, 3)
    bad[1, 2] = math.nan
    with pytest.raises(
        CheckError, match=r"x must not contain nan, got 1 of 6 at position \[1, 2\]"
    ):
        check_nan(bad, "x")
    with pytest.raises(CheckError, match=r"tensor must not contain nan, .* at position \[\]"):
        check_nan(torch.tensor(math.nan))


# -- what is checked -------------------------------------------------------------------------------


def test_leaves_are_checked_by_name():
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 1)))
    inputs, outputs, parameters, _ = watch(model, name="net")
    x = torch.ones(4, 2)
    y = model(x)
    assert inputs.names() == ["net.0.input.input", "net.1.0.input.input", "net.1.1.input.input"]
    assert outputs.names() == ["net.0.output.0", "net.1.0.output.0", "net.1.1.output.0"]
    assert parameters.names() == [
        "net.0.param.weight", "net.0.param.bias", "net.1.1.param.weight", "net.1.1.param.bias",
    ]  # fmt: skip
    assert inputs.calls[0][:4] == (1, "writer", model, model[0])
    assert inputs.calls[0][5] is x
    assert torch.equal(outputs.calls[-1][5], y)
    # Machin hands every parameter's hook the last parameter.
    assert [value for *_, value in parameters.calls] == list(model.parameters())


def test_a_name_that_begins_like_another_is_checked():
    model = nn.Sequential(OrderedDict(fc=nn.Linear(1, 1), fc1=nn.Linear(1, 1)))
    inputs, *_ = watch(model)
    model(torch.ones(1, 1))
    assert inputs.names() == ["fc.input.input", "fc1.input.input"]


def test_a_model_that_is_a_leaf_is_checked():
    model = nn.Linear(1, 1)
    inputs, _, parameters, _ = watch(model, name="m")
    model(torch.ones(1, 1))
    assert inputs.names() + parameters.names() == [
        "m.input.input",
        "m.param.weight",
        "m.param.bias",
    ]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(2, 2)
        self.head = nn.Linear(2, 1)

    def forward(self, state, hidden=None, *more, scale=1.0):
        hidden = self.cell(state, hidden)
        return scale * self.head(hidden), hidden


def test_an_atom_is_checked_and_nothing_in_it():
    model = nn.Sequential(Recurrent())
    mark_as_atom_module(model[0])
    mark_module_output(model[0], ["value"])
    inputs, outputs, parameters, _ = watch(model)
    model(torch.ones(1, 2))
    assert inputs.names() == ["0.input.state"]
    assert outputs.names() == ["0.output.value", "0.output.1"]
    assert parameters.names() == [f"0.param.{key}" for key, _ in model[0].named_parameters()]


def test_arguments_by_keyword_and_beyond_the_signature_are_checked():
    model = Recurrent()
    mark_as_atom_module(model)
    inputs, *_ = watch(model, name="m")
    hidden = torch.ones(1, 2)
    model(torch.ones(1, 2), hidden=hidden, scale=2.0)
    assert inputs.names() == ["m.input.state", "m.input.hidden", "m.input.scale"]
    assert inputs.calls[1][5] is hidden
    inputs.calls.clear()
    model(torch.ones(1, 2), hidden, "more")
    assert inputs.names() == ["m.input.state", "m.input.hidden", "m.input.2"]


def test_outputs_that_are_dictionaries_have_their_keys():
    class Heads(nn.Module):
        def forward(self, x):
            return {"mean": x, "std": x + 1}

    model = Heads()
    _, outputs, *_ = watch(model, name="m")
    model(torch.ones(1))
    assert outputs.names() == ["m.output.mean", "m.output.std"]


def test_all_rows_of_an_output_are_checked():
    # Machin goes through the rows of a tensor, and checks the first.
    class Last(nn.Module):
        def forward(self, x):
            return torch.cat([x, torch.full_like(x, math.nan)])

    model = Last()
    check_model(Writer(), model, name="m")
    with pytest.raises(CheckError, match=r"m\.output\.0 must not contain nan, got 1 of 2"):
        model(torch.ones(1, 1))


def test_a_module_at_two_places_is_checked_once_a_call():
    layer = nn.Linear(1, 1)
    model = nn.Sequential(nn.Sequential(layer), nn.Sequential(layer))
    inputs, *_ = watch(model)
    model(torch.ones(1, 1))
    assert inputs.names() == ["0.0.input.input"] * 2


# -- when ------------------------------------------------------------------------------------------


def test_intervals_count_calls_of_the_model():
    model = nn.Sequential(nn.Linear(1, 1))
    inputs, outputs, parameters, _ = watch(
        model, input_check_interval=2, output_check_interval=3, param_check_interval=4
    )
    for _ in range(12):
        model(torch.ones(1, 1))
    assert [call[0] for call in inputs.calls] == [2, 4, 6, 8, 10, 12]
    assert [call[0] for call in outputs.calls] == [3, 6, 9, 12]
    assert [call[0] for call in parameters.calls[::2]] == [4, 8, 12]


def test_parameters_are_checked_at_each_hundredth_call_by_default():
    model = nn.Sequential(nn.Linear(1, 1))
    writer = Writer()
    check_model(writer, model)
    for _ in range(100):
        model(torch.ones(1, 1))
    assert writer.histograms == [("0.param.weight", 100), ("0.param.bias", 100)]


def test_cancel_ends_the_checks():
    model = nn.Sequential(nn.Linear(1, 1))
    inputs, outputs, parameters, cancel = watch(model)
    cancel()
    cancel()
    model(torch.ones(1, 1))
    assert inputs.calls == outputs.calls == parameters.calls == []


@pytest.mark.parametrize(
    "interval", ["input_check_interval", "output_check_interval", "param_check_interval"]
)
def test_an_interval_below_1_is_refused(interval):
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=f"check_model: {interval} must be at least 1, got 0"):
        check_model(Writer(), model, **{interval: 0})
    assert not model._forward_pre_hooks


# -- hooks -----------------------------------------------------------------------------------------


def test_ranges_are_written():
    model = nn.Sequential(nn.Identity())
    writer = Writer()
    check_model(writer, model)
    model(torch.tensor([1.0, 2.0, 6.0]))
    figures = {"min": 1.0, "max": 6.0, "mean": 3.0}
    assert writer.scalars == [("0.input.input", 1, figures), ("0.output.0", 1, figures)]
    assert writer.flushed == 2


@pytest.mark.parametrize(
    ("value", "mean"),
    [
        (torch.tensor([1, 2]), 1.5),
        (torch.tensor([True, False]), 0.5),
        (torch.tensor([1.0, 2.0], dtype=torch.float16), 1.5),
    ],
)
def test_numbers_of_any_dtype_have_a_range(value, mean):
    for hook in (i_chk_range, o_chk_range, p_chk_range):
        writer = Writer()
        hook(Counter(3), writer, None, None, "x", value)
        ((name, step, figures),) = writer.scalars
        assert (name, step, figures["mean"]) == ("x", 3, mean)
        assert len(writer.histograms) == (hook is p_chk_range)


@pytest.mark.parametrize(
    "value", [None, "text", (1, 2), torch.zeros(0), torch.zeros(1, dtype=torch.complex64)]
)
def test_what_has_no_range_is_passed_over(value):
    writer = Writer()
    i_chk_range(Counter(), writer, None, None, "x", value)
    o_chk_range(Counter(), writer, None, None, "x", value)
    i_chk_nan(Counter(), writer, None, None, "x", value)
    assert writer.scalars == []


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda model, x: x.fill_(math.nan), r"m\.0\.input\.input"),
        (lambda model, x: model[0].bias.fill_(math.nan), r"m\.0\.output\.0"),
        # No rows: it shows in the parameters alone.
        (
            lambda model, x: (x.resize_(0, 2), model[0].weight.fill_(math.nan)),
            r"m\.0\.param\.weight\(backward_count=2\)",
        ),
    ],
)
def test_nan_stops_the_call(spoil, name):
    model = nn.Sequential(nn.Linear(2, 1), nn.Softplus())
    check_model(Writer(), model, name="m", param_check_interval=1)
    x = torch.ones(3, 2)
    model(x)
    with torch.no_grad():
        spoil(model, x)
    with pytest.raises(CheckError, match=f"check_nan: {name} must not contain nan"):
        model(x)


def test_nan_of_a_parameter_is_found():
    with pytest.raises(CheckError, match=r"w\(backward_count=7\) must not contain nan"):
        p_chk_nan(Counter(7), None, None, None, "w", torch.tensor([math.nan]))


def test_gradients_are_as_without_checks():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    x = torch.randn(4, 2)
    model(x).sum().backward()
    before = [parameter.grad.clone() for parameter in model.parameters()]
    check_model(Writer(), model, param_check_interval=1)
    model.zero_grad()
    model(x).sum().backward()
    assert all(torch.equal(a, b.grad) for a, b in zip(before, model.parameters(), strict=True))
