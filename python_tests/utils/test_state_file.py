"""States as files: what goes in comes out, of the same types, or is refused by its place."""

from __future__ import annotations

import json
import math
import pickle
import random
from collections import Counter, OrderedDict
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from machin_fast.utils import tensor_file
from machin_fast.utils.state_file import load_state, save_state
from saving import files_beside


def assert_same(got: Any, wanted: Any) -> None:
    """Equal bit for bit and type by type."""
    if isinstance(wanted, Tensor):
        assert type(got) is Tensor
        assert (got.dtype, got.shape, got.device) == (wanted.dtype, wanted.shape, wanted.device)
        assert bits(got) == bits(wanted)
        return
    assert type(got) is type(wanted)
    if isinstance(wanted, np.ndarray | np.generic):
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        assert got.tobytes() == wanted.tobytes()
    elif isinstance(wanted, dict):
        assert [(type(key), key) for key in got] == [(type(key), key) for key in wanted]
        for key, value in wanted.items():
            assert_same(got[key], value)
    elif isinstance(wanted, list | tuple):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_same(one, other)
    else:
        assert repr(got) == repr(wanted)  # NaN, and 0.0 beside -0.0


def bits(tensor: Tensor) -> list[int]:
    dense = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
    return dense.flatten().view(torch.uint8).tolist() if tensor.numel() else []


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "a.state"


def through_file(state: Any, path: Path, **arguments: Any) -> Any:
    save_state(path, state, kind="test")
    return load_state(path, kind="test", **arguments)


# -- what goes in comes out --------------------------------------------------------------------

BASE = torch.arange(12.0)


@pytest.mark.parametrize(
    "state",
    [
        None, True, 1, -(2**200), 0.1, -0.0, math.inf, -math.inf, math.nan, "", "weiß \ud800 \0",
        [], (), {}, [[], (), {}, [()]], ((),), {"": {}}, {0: {}}, {"a": {1: (2, [3, None])}},
        {"0": 0, 0: "0", -1: [1]}, OrderedDict(b=1, a=(2,)), Counter({3: 1, 5: 2}),
        {"!tensor": ["a", "cpu"]}, {"!": 1}, [{"!tuple": []}], {"b": {"!dict": []}, "!a": 1},
        torch.tensor(3), torch.tensor(0.5, dtype=torch.bfloat16), torch.zeros(0, 3),
        torch.arange(12).view(3, 4).T, {"a": BASE, "b": BASE[::5], "c": BASE},
        {"a['b']": torch.ones(1), "a": {"b": torch.zeros(1)}},
        nn.Parameter(torch.ones(2)).detach(), torch.linspace(0, 1, 4).expand(3, 4),
        np.arange(6).reshape(2, 3), np.array(7), np.zeros((0, 2), np.float32), np.ones(3)[::-1],
        np.arange(6.0).reshape(2, 3).T, np.array([True, False]), np.uint16([1, 65535]),
        np.float32(0.1), np.float64(0.1), np.int8(-3), np.bool_(True), np.uint64(2**64 - 1),
        np.complex64(1 + 2j), np.float16("nan"),
    ],
    ids=lambda state: repr(state)[:40],
)  # fmt: skip
def test_everything_comes_back(state, path):
    assert_same(through_file(state, path), state)


DTYPES = [np.bool_, np.uint8, np.int64, np.float16, np.float32, np.float64, np.uint32]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    ARRAYS, ARRAYS.map(lambda x: torch.from_numpy(x.copy())),
    st.floats(width=32).map(np.float32), st.integers(-128, 127).map(np.int8),
)  # fmt: skip
KEYS = st.integers() | st.text(st.sampled_from("!a'[]\"0"), max_size=3)
STATES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict),
    ),
    max_leaves=12,
)


@given(state=STATES)
def test_any_state_comes_back(state, path):
    assert_same(through_file(state, path), state)


def test_what_comes_back_shares_no_memory(path):
    array, tensor = np.ones(3), torch.ones(3)
    array.flags.writeable = False
    found = through_file([array, array, tensor, tensor.view(3)], path)
    for i, one in enumerate(found):
        one[:] = i + 2  # it can be written into
    assert [float(one[0]) for one in found] == [2, 3, 4, 5]
    assert array[0] == tensor[0] == 1


def test_of_a_parameter_its_numbers_are_saved(path):
    found = through_file(nn.Parameter(torch.ones(2)), path)
    assert_same(found, torch.ones(2))
    assert not found.requires_grad


# -- states of what there is -------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))


def steps(net: nn.Module, optimizer: torch.optim.Optimizer, n: int, *more: Any) -> list[Tensor]:
    """Takes steps; the parameters after each."""
    seen = []
    for _ in range(n):
        optimizer.zero_grad()
        net(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
        for each in more:
            each.step()
        seen.append(nn.utils.parameters_to_vector(net.parameters()).detach().clone())
    return seen


def adam(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), lr=0.1, fused=True)


def amsgrad(net: nn.Module) -> torch.optim.Optimizer:
    groups = [{"params": [x], "lr": 0.1 * i} for i, x in enumerate(net.parameters())]
    return torch.optim.AdamW(groups, amsgrad=True)


def momentum(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=torch.tensor(0.1), momentum=0.9)


def sequence(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    kinds = torch.optim.lr_scheduler
    parts = [kinds.LinearLR(optimizer, total_iters=3), kinds.MultiStepLR(optimizer, [3, 5, 5])]
    return kinds.SequentialLR(optimizer, parts, milestones=[6])


def by_function(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 / (n + 1))


@pytest.mark.parametrize("schedule", [sequence, by_function])
@pytest.mark.parametrize("optimize", [adam, amsgrad, momentum])
@pytest.mark.parametrize("taken", [0, 4, 8])
def test_training_goes_on_as_if_it_had_not_stopped(optimize, schedule, taken, path):
    net = network()
    optimizer = optimize(net)
    scheduler = schedule(optimizer)
    steps(net, optimizer, taken, scheduler)
    state = {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "rng": torch.get_rng_state(),
    }
    found = through_file(state, path)
    assert_same(found, state)
    expected = steps(net, optimizer, 5, scheduler)

    net = network()
    optimizer = optimize(net)
    scheduler = schedule(optimizer)
    net.load_state_dict(found["net"])
    optimizer.load_state_dict(found["optimizer"])
    scheduler.load_state_dict(found["scheduler"])
    torch.set_rng_state(found["rng"])
    assert_same(steps(net, optimizer, 5, scheduler), expected)


def test_random_generators_go_on(path):
    generators = random.Random(3), np.random.default_rng(3), np.random.RandomState(3)
    python, new, old = generators
    for each in generators:
        each.random()
    old.standard_normal()
    state = [python.getstate(), new.bit_generator.state, old.get_state()]
    found = through_file(state, path)
    assert_same(found, state)
    expected = [each.random() for each in generators]
    python.setstate(found[0])
    new.bit_generator.state = found[1]
    old.set_state(found[2])
    assert [each.random() for each in generators] == expected


# -- devices -----------------------------------------------------------------------------------


def test_tensors_come_back_where_they_were(path, device):
    state = {"there": torch.arange(3, device=device), "rng": torch.get_rng_state()}
    assert_same(through_file(state, path), state)
    on_cpu = through_file(state, path, device="cpu")
    assert {x.device.type for x in on_cpu.values()} == {"cpu"}


def test_only_what_was_on_another_device_is_moved(path):
    tensors = {"a": torch.ones(2), "b": torch.zeros(2)}
    content = {"a": {"!tensor": ["a", "cuda:77"]}, "b": {"!tensor": ["b", "cpu"]}}
    tensor_file.save(path, tensors, content, kind="test")
    found = load_state(path, kind="test", device="meta")
    assert [x.device.type for x in found.values()] == ["meta", "cpu"]
    assert_same(load_state(path, kind="test", device="cpu"), tensors)
    with pytest.raises(ValueError, match=r"^load_state: device must take tensors, got cuda:77 \("):
        load_state(path, kind="test")


# -- what is refused ---------------------------------------------------------------------------


class Point(NamedTuple):
    x: int


class Level(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        ({1, 2}, "got set"), (b"x", "got bytes"), (1j, "got complex"), (object(), "got object"),
        (Point(1), "got Point"), (Level.ONE, "got Level"), (torch.float32, "got dtype"),
        (np.str_("a"), "got str_"), (print, "got builtin_function_or_method"), (int, "got type"),
        (np.ones(2).view(np.recarray), "got recarray"), (Path("a"), "Path"),
        (np.array(["a"]), "must be of a dtype of torch, got <U1"),
        (np.array([None]), "must be of a dtype of torch, got object"),
        (np.ones(2, ">f4"), "must be of a dtype of torch, got >f4"),
        (np.timedelta64(1, "s"), "must be of a dtype of torch, got timedelta64"),
        (torch.eye(2).to_sparse(), "must be dense and .*, got torch.sparse_coo"),
        (torch.ones(2, dtype=torch.complex128), "must be dense and .*, got .*complex128"),
        (np.complex128(1), "must be dense and .*, got .*complex128"),
        (torch.ones(2, device="meta"), "must be dense and .*, got .* meta"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)  # fmt: skip
def test_anything_else_is_named_by_its_place_and_no_file_is_touched(wrong, got, path):
    save_state(path, [1], kind="test")
    before = path.read_bytes()
    state = {"optimizers": {"actor": (0, 1, 2, {7: wrong})}}
    with pytest.raises(TypeError, match=r"state\['optimizers'\]\['actor'\]\[3\]\[7\].*" + got):
        save_state(path, state, kind="test")
    assert path.read_bytes() == before and files_beside(path) == []


@pytest.mark.parametrize("key", [None, True, 0.5, (1, 2), b"a", np.int64(1)])
@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_keys_are_strings_or_ints(key, kind, path):
    with pytest.raises(TypeError, match=r"^save_state: keys of state\['a'\]\[0\] must be str or"):
        save_state(path, {"a": [kind([("b", 1), (key, 2)])]}, kind="test")


def test_a_state_that_holds_itself_is_refused(path):
    state: dict[str, Any] = {}
    state["self"] = [state]
    with pytest.raises(ValueError, match=r"^save_state: state must be less deep"):
        save_state(path, state, kind="test")


def test_files_of_something_else_are_refused(path):
    save_state(path, {}, kind="other")
    with pytest.raises(ValueError, match=f"{path} must be of kind 'test', got 'other'"):
        load_state(path, kind="test")
    tensor_file.save(path, {}, {"a": [{"!later": 1}]}, kind="test")
    with pytest.raises(ValueError, match=r"^load_state: the file must be of this version"):
        load_state(path, kind="test")
    with pytest.raises(FileNotFoundError):
        load_state(f"{path}x", kind="test")


def test_nothing_is_pickled(path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        pytest.fail("pickle was called")

    for module, names in (
        (pickle, ("dump", "dumps", "load", "loads", "Pickler", "Unpickler")),
        (torch, ("load", "save")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, fail)
    through_file({"a": [torch.ones(2), np.ones(2), np.float32(1), (1,)]}, path)


# -- files of earlier versions -----------------------------------------------------------------


def test_a_file_holds_what_it_says(path):
    """Whoever changes this must still read files that were written before."""
    state = {
        "w": torch.ones(2), "t": (1, {2: np.float32(3)}), "a": np.ones(1), "!": None,
        "o": OrderedDict(a=1), "c": Counter("b"), "plain": {"x": [1.5, "y"]},
    }  # fmt: skip
    save_state(path, state, kind="test")
    tensors, content = tensor_file.load(path, kind="test")
    assert set(tensors) == {"state['w']", "state['t'][1][2]", "state['a']"}
    assert json.loads(json.dumps(content)) == {
        "!dict": [
            ["w", {"!tensor": ["state['w']", "cpu"]}],
            ["t", {"!tuple": [1, {"!dict": [[2, {"!number": "state['t'][1][2]"}]]}]}],
            ["a", {"!array": "state['a']"}],
            ["!", None],
            ["o", {"!OrderedDict": [["a", 1]]}],
            ["c", {"!Counter": [["b", 1]]}],
            ["plain", {"x": [1.5, "y"]}],
        ]
    }
