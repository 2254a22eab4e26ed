"""Modules that know their devices."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from machin_fast.model import safe_call
from machin_fast.model.nets import (
    NeuralNetworkModule,
    dynamic_module_wrapper,
    static_module_wrapper,
)

CPU, META = torch.device("cpu"), torch.device("meta")


class Net(NeuralNetworkModule):
    """Takes inputs on the CPU, returns on meta."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.last = nn.Linear(3, 1, device="meta")

    def forward(self, state):
        return self.last(self.first(state).to("meta"))


def apart() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, device="meta"))


def test_devices_are_those_of_the_input_and_output_module():
    net = Net()
    net.set_input_module(net.first)
    net.set_output_module(net.last)
    assert (net.input_device, net.output_device) == (CPU, META)
    (value,) = safe_call(net, {"state": torch.zeros(4, 2)})
    assert value.device == META


def test_without_an_output_module_the_input_device_is_that_of_outputs():
    net = Net()
    net.set_input_module(net.last)
    assert (net.input_device, net.output_device) == (META, META)


def test_a_module_on_one_device_needs_no_input_module(device):
    class Plain(NeuralNetworkModule):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 1)

    net = Plain().to(device)
    assert net.input_device.type == net.output_device.type == device.type


def test_of_a_sequence_the_first_and_last_leaf_count():
    net = NeuralNetworkModule()
    layers = nn.Sequential(apart(), nn.Sequential(nn.Linear(1, 1, device="meta")))
    net.set_input_module(layers)
    net.set_output_module(layers)
    assert (net.input_device, net.output_device) == (CPU, META)
    assert net.find_child(layers) is layers[0][0]
    assert net.find_child(layers, False) is layers[1][0]
    assert net.find_child(layers[1][0]) is layers[1][0]


def test_a_leaf_without_parameters_is_where_what_is_around_it_is():
    net = NeuralNetworkModule()
    net.set_input_module(nn.Sequential(nn.Flatten(), nn.Linear(2, 1, device="meta")))
    assert net.input_device == META
    net.set_input_module(nn.Flatten())
    net.fc = nn.Linear(2, 1)
    assert net.input_device == CPU


def test_modules_inside_may_know_their_devices_themselves():
    inner = Net()
    inner.set_input_module(inner.first)
    inner.set_output_module(inner.last)
    for part in (inner, nn.Sequential(inner)):
        net = NeuralNetworkModule()
        net.set_input_module(part)
        net.set_output_module(part)
        assert (net.input_device, net.output_device) == (CPU, META)


def test_devices_follow_the_module(device):
    net = Net()
    net.set_input_module(net.first)
    assert net.input_device == CPU
    net.first.to(device)
    assert net.input_device.type == device.type
    net.first.to("meta")
    assert net.input_device == META


@pytest.mark.parametrize("end", ["input", "output"])
def test_a_module_on_several_devices_is_no_end(end):
    mixed = Net()
    net = NeuralNetworkModule()
    plain = nn.ModuleList([mixed.first, mixed.last])
    with pytest.raises(
        RuntimeError,
        match=rf"NeuralNetworkModule.set_{end}_module: parameters of ModuleList must be on one "
        rf"device, got cpu, meta\. {end.capitalize()} module must be another NeuralNetworkModule "
        r"or locate on one single device",
    ):
        getattr(net, f"set_{end}_module")(plain)
    assert getattr(net, f"{end}_module") is None
    mixed.last.to_empty(device="cpu")
    getattr(net, f"set_{end}_module")(plain)
    mixed.first.to("meta")
    with pytest.raises(
        RuntimeError,
        match=rf"{end}_device: .* got cpu, meta\. This {end} module contains parameters on "
        "different devices, please consider about splitting it",
    ):
        getattr(net, f"{end}_device")


def test_a_module_of_which_nothing_is_known_has_no_device():
    net = NeuralNetworkModule()
    with pytest.raises(RuntimeError, match=r"got neither\. Input module not set"):
        _ = net.input_device
    with pytest.raises(RuntimeError, match=r"got neither\. Output module not set"):
        _ = net.output_device


def test_the_static_wrapper_writes_on_the_module_itself():
    net = apart()
    assert static_module_wrapper(net, "cpu", META) is net
    assert (net.input_device, net.output_device) == ("cpu", META)


def test_the_dynamic_wrapper_follows_its_module(device):
    net = nn.Linear(2, 1)
    wrapper = dynamic_module_wrapper(net)
    assert isinstance(wrapper, NeuralNetworkModule)
    wrapper.to(device)
    assert wrapper.input_device.type == wrapper.output_device.type == device.type
    assert net.weight.device.type == device.type
    x = torch.ones(3, 2)
    assert torch.equal(*safe_call(wrapper, {"input": x, "goal": x}), net(x.to(device)))


def test_the_dynamic_wrapper_runs_hooks_of_its_module():
    seen = []
    net = nn.Linear(2, 1)
    net.register_forward_hook(lambda *_: seen.append("inside"))
    dynamic_module_wrapper(net)(torch.ones(3, 2))
    assert seen == ["inside"]


def test_copies_of_the_dynamic_wrapper_call_the_copy():
    wrapper = dynamic_module_wrapper(nn.Linear(2, 1))
    x = torch.ones(3, 2)
    for twin in (copy.deepcopy(wrapper), pickle.loads(pickle.dumps(wrapper))):
        nn.init.zeros_(twin.wrapped_module.weight)
        nn.init.zeros_(twin.wrapped_module.bias)
        assert twin(x).count_nonzero() == 0
        assert wrapper(x).count_nonzero() == 3


def test_state_dicts_have_the_names_of_machins():
    names = {f"{part}.{name}" for name in ("weight", "bias")
             for part in ("wrapped_module", "input_module", "output_module")}  # fmt: skip
    assert set(dynamic_module_wrapper(nn.Linear(2, 1)).state_dict()) == names


@pytest.mark.parametrize("wrap", [dynamic_module_wrapper, lambda m: static_module_wrapper(m, 0, 0)])
def test_what_knows_its_devices_is_not_wrapped(wrap):
    with pytest.raises(ValueError, match="Module is already a wrapped NeuralNetworkModule"):
        wrap(Net())


def test_the_dynamic_wrapper_refuses_several_devices():
    with pytest.raises(RuntimeError, match="must be on one device, got cpu, meta"):
        dynamic_module_wrapper(nn.ModuleList(apart()))
