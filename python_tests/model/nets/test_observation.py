"""Encoders of observations."""

from __future__ import annotations

import pytest
import torch

from machin_fast.model.nets import MLP, ChannelsFirst, Flat, Named, OneHot

leading_dimensions = pytest.mark.parametrize("leading", [(), (1,), (7,), (5, 7), (0,)])


@leading_dimensions
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 4)])
def test_arrays_become_vectors(leading, shape):
    flat, x = Flat(shape), torch.randn((*leading, *shape))
    assert flat(x).shape == (*leading, flat.out_features)
    assert torch.equal(flat(x).flatten(), x.flatten())


@leading_dimensions
def test_choices_become_ones_among_zeros(leading):
    net = OneHot([3, 2])
    x = torch.stack([torch.randint(3, leading), torch.randint(2, leading)], -1)
    y = net(x)
    assert y.shape == (*leading, 5) and y.dtype is torch.float32
    torch.testing.assert_close(y @ torch.tensor([0.0, 1, 2, 0, 0]), x[..., 0].float())
    torch.testing.assert_close(y @ torch.tensor([0.0, 0, 0, 0, 1]), x[..., 1].float())
    assert torch.equal(net(x.float()), y), "of a replay that keeps floats"


def test_channels_go_to_the_front():
    x = torch.randn(5, 4, 6, 3)
    assert torch.equal(ChannelsFirst()(x), x.permute(0, 3, 1, 2))
    assert torch.equal(ChannelsFirst(one_channel=True)(x)[:, :, 0], x)


def test_observations_stand_side_by_side_in_the_order_given():
    net = Named({"values": MLP(2, 3), "inner/a": Flat(())})
    state = {"inner/a": torch.randn(4), "values": torch.randn(4, 2)}
    expected = torch.cat([net.encoders[0](state["values"]), state["inner/a"].unsqueeze(1)], 1)
    assert torch.equal(net(**state, other=torch.zeros(1)), expected)
    assert net.out_features == 4 and net.input_names == {"values", "inner/a"}


def test_wrong_observations_are_refused():
    with pytest.raises(
        ValueError, match=r"Flat\.forward: state must be \[\.\.\., 2, 3\], got \[4, 3, 2\]"
    ):
        Flat((2, 3))(torch.zeros(4, 3, 2))
    with pytest.raises(
        ValueError, match=r"OneHot\.forward: state must be \[\.\.\., 2\], got \[4, 3\]"
    ):
        OneHot([2, 2])(torch.zeros(4, 3))
    with pytest.raises(RuntimeError):
        OneHot([2])(torch.tensor([[2]]))
    with pytest.raises(ValueError, match=r"Named\.forward: state must have a, b, got b"):
        Named({"a": Flat(()), "b": Flat(())})(b=torch.zeros(1))


def test_nothing_to_encode_is_refused():
    with pytest.raises(ValueError, match=r"OneHot: len\(sizes\) must be 1 or more, got 0"):
        OneHot([])
    with pytest.raises(ValueError, match=r"OneHot: sizes must be sizes of 1 or more, got \[2, 0\]"):
        OneHot([2, 0])
    with pytest.raises(ValueError, match=r"Named: len\(encoders\) must be 1 or more, got 0"):
        Named({})
