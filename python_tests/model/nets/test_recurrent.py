"""Networks with memory: sequences are steps, wherever they are reset."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from machin_fast.data import Trajectory, transforms
from machin_fast.model import safe_call
from machin_fast.model.nets import MLP, Named, NatureCNN, Recurrent, StateActionCritic

kinds = pytest.mark.parametrize("kind", ["gru", "lstm"])
depths = pytest.mark.parametrize("layers", [1, 3])
STEPS, BATCH, SIZE = 9, 5, 4


def net(kind="gru", layers=1, dtype=torch.float64) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(MLP(3, 6, (7,)), SIZE, kind, layers, nn.Linear(SIZE, 2)).to(dtype)


def stepped(model, state, hidden, reset):
    """One step after the other."""
    outputs = []
    for x, flag in zip(state, reset, strict=True):
        output, hidden = model(x, hidden=hidden, reset=flag)
        outputs.append(output)
    return torch.stack(outputs), hidden


def flags(which: str) -> torch.Tensor:
    torch.manual_seed(1)
    reset = {
        "none": torch.zeros(STEPS, BATCH),
        "first row": torch.zeros(STEPS, BATCH),
        "some": torch.rand(STEPS, BATCH) < 0.2,
        "all": torch.ones(STEPS, BATCH),
        "one column": torch.zeros(STEPS, BATCH),
        "last row": torch.zeros(STEPS, BATCH),
    }[which].bool()
    reset[0] |= which == "first row"
    reset[1:, 2] |= which == "one column"
    reset[-1] |= which == "last row"
    return reset


# -- one step ----------------------------------------------------------------------------------


@kinds
@depths
@pytest.mark.parametrize("batch", [1, 5])
def test_one_step_is_that_of_torchs_cells(kind, layers, batch):
    model = net(kind, layers)
    state, hidden = torch.randn(batch, 3).double(), torch.randn(batch, model.hidden_size).double()
    output, new = model(state, hidden=hidden)
    x, parts, expected = model.net(state), hidden.split(SIZE, 1), []
    for layer in range(layers):
        cell = (nn.GRUCell if kind == "gru" else nn.LSTMCell)(x.shape[1], SIZE).double()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(cell, name, getattr(model.rnn, f"{name}_l{layer}"))
        if kind == "gru":
            x = cell(x, parts[layer])
            expected.append((x,))
        else:
            x, c = cell(x, (parts[layer], parts[layers + layer]))
            expected.append((x, c))
    side_by_side = torch.cat([part for group in zip(*expected, strict=True) for part in group], 1)
    torch.testing.assert_close(output, model.head(x))
    torch.testing.assert_close(new, side_by_side)
    assert new.shape == (batch, layers * SIZE * (1 if kind == "gru" else 2))


@kinds
def test_no_state_is_zeros_and_so_is_a_reset_one(kind):
    model = net(kind)
    state = torch.randn(BATCH, 3).double()
    hidden = torch.full((BATCH, model.hidden_size), torch.nan).double()
    hidden[0] = 1
    zeros = torch.zeros_like(hidden)
    expected = model(state, hidden=zeros)
    for output, new in (model(state), model(state, hidden=hidden, reset=torch.ones(BATCH) > 0)):
        assert torch.equal(output, expected[0]) and torch.equal(new, expected[1])
    reset = torch.tensor([False, True, True, True, True])
    output, _ = model(state, hidden=hidden, reset=reset)
    assert torch.equal(output[1:], expected[0][1:]) and not torch.equal(output[0], expected[0][0])


def test_a_module_keeps_no_state():
    model = net()
    state = torch.randn(BATCH, 3).double()
    first, before = model(state), {name: x.clone() for name, x in model.state_dict().items()}
    assert torch.equal(model(state)[0], first[0])
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


# -- sequences ---------------------------------------------------------------------------------


@kinds
@depths
@pytest.mark.parametrize("which", ["none", "first row", "some", "all", "one column", "last row"])
def test_a_sequence_is_its_steps(kind, layers, which):
    model, reset = net(kind, layers), flags(which)
    state = torch.randn(STEPS, BATCH, 3).double()
    hidden = torch.randn(BATCH, model.hidden_size).double().requires_grad_()
    outputs, last = model(state, hidden=hidden, reset=reset)
    expected, expected_last = stepped(model, state, hidden, reset)
    assert outputs.shape == (STEPS, BATCH, 2)
    torch.testing.assert_close(outputs, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(last, expected_last, atol=1e-12, rtol=0)
    wanted = [hidden, *model.parameters()]

    def slopes(y, h):
        loss = (y * torch.arange(STEPS).view(-1, 1, 1)).square().sum() + h.square().sum()
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)]

    for got, exact in zip(slopes(outputs, last), slopes(expected, expected_last), strict=True):
        torch.testing.assert_close(got, exact)


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 4), (6, 1), (2, 2), (33, 7)])
def test_sequences_of_awkward_sizes(steps, batch, device):
    model = net(dtype=torch.float32).to(device)
    generator = torch.Generator().manual_seed(steps)
    state = torch.randn(steps, batch, 3, generator=generator).to(device)
    reset = (torch.rand(steps, batch, generator=generator) < 0.3).to(device)
    hidden = torch.randn(batch, SIZE, generator=generator).to(device)
    with torch.no_grad():
        outputs, last = model(state, hidden=hidden, reset=reset)
        expected, expected_last = stepped(model, state, hidden, reset)
    torch.testing.assert_close(outputs, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(last, expected_last, atol=1e-6, rtol=0)


def test_a_reset_forgets_even_what_is_no_number():
    model, reset = net(), flags("none")
    reset[4, 1] = True
    state = torch.randn(STEPS, BATCH, 3).double()
    state[:4, 1] = torch.nan
    outputs, last = model(state, reset=reset)
    assert outputs[4:].isfinite().all() and last.isfinite().all()
    assert outputs[:4, 1].isnan().all() and outputs[:4, 0].isfinite().all()


def test_one_row_of_flags_resets_before_the_first_step_alone():
    model = net("lstm")
    state, hidden = torch.randn(STEPS, BATCH, 3).double(), torch.randn(BATCH, 2 * SIZE).double()
    first = torch.tensor([[True, False, True, False, False]])
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[0] = first
    outputs, last = model(state, hidden=hidden, reset=first)
    expected, expected_last = model(state, hidden=hidden, reset=reset)
    assert torch.equal(outputs, expected) and torch.equal(last, expected_last)


def test_sequences_take_one_call_of_the_recurrent_network():
    model, calls = net(), []
    model.rnn.register_forward_hook(lambda *_: calls.append(1))
    for which in ("none", "first row", "some"):
        model(torch.randn(STEPS, BATCH, 3).double(), reset=flags(which))
    assert len(calls) == 3


def test_encoders_and_heads_see_plain_batches():
    model = Recurrent(NatureCNN((1, 36, 36), 8), SIZE)
    images = torch.randint(256, (2, 3, 1, 36, 36), dtype=torch.uint8)
    outputs, _ = model(images, reset=torch.zeros(2, 3, dtype=torch.bool))
    assert outputs.shape == (2, 3, SIZE) and model.out_features == SIZE

    class Strict(nn.Module):
        def forward(self, state):
            assert state.dim() == 2
            return state

    model = Recurrent(Strict(), SIZE, head=Strict(), in_features=3)
    assert model(torch.randn(2, 5, 3), reset=torch.ones(2, 5) > 0)[0].shape == (2, 5, SIZE)


# -- as an actor's or a critic's network -------------------------------------------------------


def test_safe_call_finds_arguments_by_name():
    encoder = Named({"position": MLP(3, 4), "goal": MLP(2, 4)})
    model = Recurrent(encoder, SIZE)
    state = {"position": torch.randn(6, 3), "goal": torch.randn(6, 2), "other": 1}
    output, hidden = safe_call(model, state, {"hidden": torch.zeros(6, SIZE)})
    assert output.shape == hidden.shape == (6, SIZE)
    sequences = {key: state[key].view(2, 3, -1) for key in ("position", "goal")}
    outputs, _ = safe_call(model, sequences, {"reset": torch.ones(2, 3, dtype=torch.bool)})
    torch.testing.assert_close(outputs.flatten(0, 1), output, atol=1e-6, rtol=0)
    assert model.input_names == {"position", "goal", "hidden", "reset"} and model.recurrent


def test_critics_of_actions_are_encoders_too():
    model = Recurrent(StateActionCritic(MLP(5, None, (6,))), SIZE, head=MLP(SIZE, 1), in_features=6)
    state, action = torch.randn(2, 3, 3), torch.randn(2, 3, 2)
    reset = torch.zeros(2, 3, dtype=torch.bool)
    value, _ = safe_call(model, {"state": state}, {"action": action}, {"reset": reset})
    again, _ = model(state, action, reset=reset)
    assert value.shape == (2, 3, 1) and torch.equal(value, again)


@kinds
def test_states_are_columns_of_a_replay(kind):
    """What ``transforms.hidden`` stores is what the network saw, in any window."""
    model, lengths = net(kind, 2, torch.float32), (4, 7)
    state = torch.randn(11, 3)
    trajectory = Trajectory({"state": state}, [0, 4, 11])
    with torch.no_grad():
        filled = transforms.hidden(model)(trajectory)
        assert filled["hidden"].shape == (11, model.hidden_size)
        for begin, length in zip((0, 4), lengths, strict=True):
            whole, _ = model(
                state[begin : begin + length].unsqueeze(1), reset=torch.zeros(1, 1) > 0
            )
            window = state[begin + 2 : begin + length].unsqueeze(1)
            stored = filled["hidden"][begin + 2].unsqueeze(0)
            part, _ = model(window, hidden=stored, reset=torch.zeros(1, 1) > 0)
            torch.testing.assert_close(part, whole[2:], atol=1e-6, rtol=0)


def test_copies_and_state_dicts(device):
    model = net(dtype=torch.float32).to(device)
    twin, other = copy.deepcopy(model), net(dtype=torch.float32).to(device)
    nn.init.ones_(other.rnn.weight_hh_l0)
    other.load_state_dict(model.state_dict())
    x = torch.randn(4, 3, device=device)
    for each in (twin, other):
        assert torch.equal(each(x)[0], model(x)[0])
    nn.init.ones_(twin.rnn.weight_hh_l0)
    assert not torch.equal(twin.rnn.weight_hh_l0, model.rnn.weight_hh_l0)


def test_it_begins_with_orthogonal_weights_and_no_bias():
    model = net("lstm", 2)
    weight = model.rnn.weight_hh_l1
    torch.testing.assert_close(weight.T @ weight, torch.eye(SIZE).double(), atol=1e-6, rtol=0)
    assert all((model.rnn.get_parameter(f"bias_{k}_l1") == 0).all() for k in ("ih", "hh"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"reset": torch.zeros(4)}, TypeError, r"reset must be bool, got torch\.float32"),
        ({"reset": torch.ones(3) > 0}, ValueError, r"reset must have shape \[4\], got \[3\]"),
        (
            {"hidden": torch.zeros(4, 3)},
            ValueError,
            r"hidden must have shape \[4, 4\], got \[4, 3\]",
        ),
        (
            {"hidden": torch.zeros(1, 4)},
            ValueError,
            r"hidden must have shape \[4, 4\], got \[1, 4\]",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=rf"Recurrent\.forward: {message}"):
        net(dtype=torch.float32)(torch.zeros(4, 3), **arguments)


def test_flags_of_another_number_of_steps_are_refused():
    with pytest.raises(
        ValueError, match=r"Recurrent\.forward: reset must have shape \[4, 2\], got \[3, 2\]"
    ):
        net(dtype=torch.float32)(torch.zeros(4, 2, 3), reset=torch.ones(3, 2) > 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MLP(3, 2), 4, "rnn"), 'kind must be "gru" or "lstm", got \'rnn\''),
        ((MLP(3, 2), 0), "size must be 1 or more, got 0"),
        ((MLP(3, 2), 4, "gru", 0), "layers must be 1 or more, got 0"),
        (
            (nn.Identity(), 4),
            "in_features must be given if the encoder has no out_features, got Identity",
        ),
    ],
)
def test_wrong_networks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"Recurrent: {message}"):
        Recurrent(*arguments)
