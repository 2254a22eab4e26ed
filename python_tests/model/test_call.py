"""``safe_call``: what is passed, to where it is moved, what is looked through, what is cached."""

from __future__ import annotations

import copy
import functools
import gc
import types
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from machin_fast.model import call, safe_call, safe_return
from machin_fast.model.nets import dynamic_module_wrapper, static_module_wrapper


class Recorder(nn.Module):
    """Tells what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 1)

    def forward(self, state, action=None, *, hidden=None):
        return state, action, hidden

    def judge(self, state):
        return "judged", state


class Anything(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 1)

    def forward(self, **kwargs):
        return kwargs


X, Y = torch.zeros(1, 2), torch.ones(1, 2)


# -- what is passed ----------------------------------------------------------------------------


def test_arguments_are_passed_by_name_and_others_dropped():
    assert safe_call(Recorder(), {"state": 1, "goal": 2}, {"hidden": 3}) == (1, None, 3)


def test_of_two_values_with_one_name_the_later_counts():
    assert safe_call(Recorder(), {"state": 1, "action": 2}, {"state": 3}) == (3, 2, None)


def test_the_dicts_given_are_left_alone():
    first, second = {"state": X, "goal": 2}, {"state": Y}
    safe_call(Recorder(), first, second)
    assert list(first) == ["state", "goal"] and first["state"] is X and second == {"state": Y}


def test_a_forward_with_kwargs_gets_everything():
    assert safe_call(Anything(), {"state": 1, "goal": 2}) == ({"state": 1, "goal": 2},)


def test_a_forward_with_args_gets_everything_too():
    class Net(nn.Linear):
        def forward(self, state, *args):
            return state

    assert safe_call(Net(2, 1), {"state": 1}) == (1,)
    with pytest.raises(TypeError, match="goal"):
        safe_call(Net(2, 1), {"state": 1, "goal": 2})


def test_missing_arguments_are_named():
    class Net(nn.Linear):
        def forward(self, state, action, *, goal, hidden=None):
            return state

    with pytest.raises(
        RuntimeError,
        match=r"safe_call: named_args must have all of state, action, goal, which "
        r".*Net\.forward requires, got action, hidden; missing required arguments: state, goal",
    ):
        safe_call(Net(2, 1), {"action": 1, "hidden": 2, "other": 3})
    with pytest.raises(RuntimeError, match="got none; missing required arguments: state"):
        safe_call(Recorder())


def test_an_argument_that_has_no_name_is_missing():
    class Net(nn.Linear):
        def forward(self, state, /):
            return state

    with pytest.raises(RuntimeError, match="missing required arguments: state"):
        safe_call(Net(2, 1), {"state": 1})


def test_the_result_is_a_tuple():
    class Net(nn.Linear):
        def forward(self, result):
            return result

    for result, expected in ((1, (1,)), ((1, 2), (1, 2)), ([1, 2], ([1, 2],)), (None, (None,))):
        assert safe_call(Net(2, 1), {"result": result}) == expected


def test_safe_return_takes_one_element_out():
    assert safe_return((1,)) == 1
    assert safe_return((1, 2)) == (1, 2)
    assert safe_return(((1, 2),)) == (1, 2)


def test_another_method_can_be_called():
    assert safe_call(Recorder(), {"state": 1, "action": 2}, method="judge") == ("judged", 1)


def test_hooks_run():
    net, seen = Recorder(), []
    net.register_forward_hook(lambda *_: seen.append("hook"))
    safe_call(net, {"state": 1})
    assert seen == ["hook"]


# -- devices -----------------------------------------------------------------------------------


def test_tensors_are_moved_to_the_model_but_not_those_in_containers(device):
    (given,) = safe_call(Anything().to(device), {"a": X, "b": [X], "c": 1})
    assert given["a"].device.type == device.type
    assert given["b"][0] is X and given["c"] == 1


def test_a_tensor_that_is_there_is_passed_itself(device):
    x = X.to(device)
    assert safe_call(Recorder().to(device), {"state": x})[0] is x


def test_a_model_may_be_moved_at_any_time(device):
    net = Anything()
    assert safe_call(net, {"a": X})[0]["a"].device.type == "cpu"
    for there in ("meta", device, "cpu"):
        net = net.to_empty(device=there)
        assert safe_call(net, {"a": X})[0]["a"].device.type == torch.device(there).type


def test_an_input_device_of_its_own_counts():
    net = static_module_wrapper(Anything(), "meta", "cpu")
    assert safe_call(net, {"a": X})[0]["a"].device.type == "meta"

    class Net(Anything):
        input_device = output_device = torch.device("meta")

    assert safe_call(Net(), {"a": X})[0]["a"].device.type == "meta"


def test_a_model_without_parameters_works():
    class Net(nn.Module):
        def forward(self, state):
            return state + 1

    assert torch.equal(*safe_call(Net(), {"state": X}), Y)


def test_a_model_with_buffers_alone_takes_inputs_there():
    net = nn.Module()
    net.register_buffer("scale", torch.ones(1, device="meta"))
    net.forward = lambda state: state
    assert safe_call(net, {"state": X})[0].device.type == "meta"


def test_parameters_on_several_devices_are_refused():
    net = Recorder()
    net.head = nn.Linear(2, 2, device="meta")
    for _ in range(2):
        with pytest.raises(
            RuntimeError,
            match=r"safe_call: parameters of Recorder must be on one device, got cpu, meta\. "
            r"Failed to automatically determine i/o device of your model: .*static_module_wrapper",
        ):
            safe_call(net, {"state": X})
    assert safe_call(static_module_wrapper(net, "cpu", "meta"), {"state": X})[0] is X


def test_a_model_that_comes_apart_is_refused():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    safe_call(net, {"input": X})
    net[0].to("meta")
    with pytest.raises(RuntimeError, match="must be on one device, got cpu, meta"):
        safe_call(net, {"input": X})


# -- what is looked through --------------------------------------------------------------------


class Replicas(DataParallel):
    """Runs without GPUs, and not its module's forward, so that it can be seen at work."""

    def forward(self, **kwargs):
        return "replicas", kwargs


@pytest.fixture
def process_group():
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_data_parallel_is_called_as_the_module_inside_asks():
    net = Replicas(Recorder())
    assert safe_call(net, {"state": 1, "goal": 2}) == ("replicas", {"state": 1})
    with pytest.raises(RuntimeError, match="missing required arguments: state"):
        safe_call(net, {"goal": 2})
    assert safe_call(net, {"state": 1, "goal": 2}, method="judge") == ("judged", 1)


def test_distributed_data_parallel_is_called_as_the_module_inside_asks(process_group):
    class Net(nn.Linear):
        def forward(self, state):
            return super().forward(state)

    net = DistributedDataParallel(Net(2, 1))
    (value,) = safe_call(net, {"state": Y, "goal": 2})
    value.sum().backward()
    assert net.module.weight.grad.tolist() == [[1, 1]]


def test_wrappers_may_be_nested():
    net = Replicas(dynamic_module_wrapper(Recorder()))
    assert safe_call(net, {"state": 1, "goal": 2}) == ("replicas", {"state": 1})


@pytest.mark.compile
def test_a_compiled_module_is_called_as_the_module_inside_asks():
    class Net(nn.Linear):
        def forward(self, state: Tensor) -> Tensor:
            return super().forward(state)

    net = Net(2, 1)
    compiled = torch.compile(net, backend="eager")
    assert torch.equal(*safe_call(compiled, {"state": Y, "goal": 2}), net(Y))
    net.compile(backend="eager")
    assert torch.equal(*safe_call(net, {"state": Y, "goal": 2}), compiled(Y))


# -- what is cached ----------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """Functions whose signatures were inspected."""
    found = []
    signature = call.inspect.signature

    def read(function):
        found.append(function)
        return signature(function)

    monkeypatch.setattr(call.inspect, "signature", read)
    return found


def test_a_signature_is_read_once_for_all_modules_of_a_class(reads):
    class Net(Recorder):
        def forward(self, state):
            return state

        def judge(self, state):
            return state

    first, second = Net(), Net()
    for net in (first, second, first, copy.deepcopy(first)):
        assert safe_call(net, {"state": 1, "action": 2}) == (1,)
    assert len(reads) == 1
    safe_call(first, {"state": 1}, method="judge")
    safe_call(second, {"state": 1}, method="judge")
    assert len(reads) == 2


def test_a_forward_replaced_in_a_module_is_seen():
    first, second = Recorder(), Recorder()
    assert safe_call(first, {"state": 1}) == (1, None, None)
    first.forward = lambda goal: goal
    assert safe_call(first, {"state": 1, "goal": 2}) == (2,)
    assert safe_call(second, {"state": 1, "goal": 2}) == (1, None, None)
    del first.forward
    assert safe_call(first, {"state": 1, "goal": 2}) == (1, None, None)


def test_a_forward_replaced_in_a_class_is_seen():
    class Net(Recorder):
        def forward(self, state):
            return state

    net = Net()
    assert safe_call(net, {"state": 1, "goal": 2}) == (1,)
    Net.forward = lambda self, goal: goal
    assert safe_call(net, {"state": 1, "goal": 2}) == (2,)


def test_one_function_may_be_a_method_and_a_plain_function():
    def forward(first, second=None):
        return first, second

    class Net(nn.Linear):
        pass

    Net.forward = forward
    net = Net(2, 1)
    assert safe_call(net, {"second": 2}) == (net, 2)
    net.forward = forward
    assert safe_call(net, {"first": 1, "second": 2}) == (1, 2)
    del net.forward
    assert safe_call(net, {"first": 1, "second": 2}) == (net, 2)


def test_partial_methods_are_called_as_they_ask():
    class Net(Recorder):
        act = functools.partialmethod(Recorder.forward, hidden="memory")

    net = Net()
    assert safe_call(net, {"state": 1, "goal": 2}, method="act") == (1, None, "memory")
    net.forward = functools.partial(Recorder.forward, net, action="fixed")
    assert safe_call(net, {"state": 1, "goal": 2}) == (1, "fixed", None)
    assert safe_call(net, {"state": 1, "action": 2}) == (1, 2, None)


def test_a_decorated_forward_is_called_as_the_one_inside_asks():
    class Net(Recorder):
        @torch.no_grad()
        def forward(self, state):
            return self.fc(state)

    (value,) = safe_call(Net(), {"state": Y, "goal": 2})
    assert not value.requires_grad


def test_a_callable_without_weak_references_works():
    class Forward:
        __slots__ = ()

        def __call__(self, state):
            return state

    net = Recorder()
    net.forward = Forward()
    assert safe_call(net, {"state": 1, "goal": 2}) == (1,)


def test_nothing_is_kept_alive():
    class Net(nn.Linear):
        def forward(self, state):
            return state

    net = Net(2, 1)
    net.judge = types.MethodType(lambda self, state: state, net)
    safe_call(net, {"state": X})
    safe_call(net, {"state": X}, method="judge")
    kept = weakref.ref(net)
    del net
    gc.collect()
    assert kept() is None
