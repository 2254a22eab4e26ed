"""``Replay`` against its contract, and against a plain list of what should be in it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from machin_fast.data import Replay


def rows(first: int, n: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Rows that tell their own number in each column."""
    number = torch.arange(first, first + n, device=device)
    return {
        "state": number[:, None].float() + torch.tensor([0.0, 0.25, 0.5], device=device),
        "pixels": (number % 251).to(torch.uint8)[:, None, None].expand(n, 9, 30),
        "action": number,
        "reward": number.double(),
        "terminated": number % 3 == 0,
    }


def assert_rows(columns: dict[str, Tensor], number: Tensor) -> None:
    """``columns`` are those of ``rows`` with these numbers."""
    first = int(number.min())
    expected = rows(first, int(number.max()) + 1 - first, number.device)
    assert columns.keys() == expected.keys()
    for name, column in columns.items():
        assert column.dtype == expected[name].dtype
        assert torch.equal(column, expected[name][number - first]), name


def snapshot(replay: Replay) -> tuple[object, ...]:
    """All that a call could have changed."""
    columns = {name: column.tolist() for name, column in replay.columns.items()}
    nodes = None if replay._priorities is None else replay._priorities.nodes.tolist()
    return len(replay), columns, nodes, replay.max_priority, replay.stale_updates


# -- the ring ----------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [None, "step"])
@pytest.mark.parametrize("capacity", [1, 7, 64, 65])
@pytest.mark.parametrize("block", [1, 5, 64, 200])
def test_the_newest_rows_are_kept_in_order(capacity, block, priority, device):
    replay = Replay(capacity, device=device, priority=priority, seed=1)
    for first in range(0, 3 * capacity + block, block):
        replay.append(**rows(first, block, device))
        last = first + block
        assert len(replay) == min(last, capacity)
        kept = torch.arange(last - len(replay), last, device=device)
        ring = {name: column[kept % capacity] for name, column in replay.columns.items()}
        assert_rows(ring, kept)
        batch = replay.sample(16)
        assert_rows(batch.columns, batch.index)
        assert kept[0] <= batch.index.min() and batch.index.max() < last


def test_a_batch_offers_columns_as_attributes_and_items():
    replay = Replay(10, seed=0)
    replay.append(**rows(0, 10), **{"goal/position": torch.zeros(10, 2)})
    batch = replay.sample(4)
    assert batch.state is batch["state"] is batch.columns["state"]
    assert batch["goal/position"].shape == (4, 2)
    assert len(batch) == 4
    assert batch.weight.tolist() == [1.0] * 4
    assert all(column.is_contiguous() for column in batch.columns.values())
    with pytest.raises(AttributeError, match="sate"):
        _ = batch.sate


def test_arrays_are_taken_and_copied(device):
    state = np.arange(6, dtype=np.float32).reshape(3, 2)
    replay = Replay(8, device=device)
    replay.append(state=state, reward=np.ones(3))
    state[:] = -1
    assert replay.columns["state"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert replay.columns["reward"].dtype == torch.float64
    replay.append(state=torch.ones(2, 2, requires_grad=True), reward=np.ones(6)[::3])
    assert not replay.sample(2).state.requires_grad


def test_no_rows_are_fine():
    replay = Replay(4, priority="step")
    replay.append(**rows(0, 0))
    assert len(replay) == 0
    replay.append(**rows(0, 3))
    replay.append(**rows(3, 0))
    assert len(replay) == 3
    replay.update_priority(torch.empty(0, dtype=torch.int64), torch.empty(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8, torch.complex128, torch.bool])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 5)])
def test_columns_of_any_dtype_and_shape_share_a_record(dtype, shape):
    values = torch.randint(0, 2, (5, *shape)).to(dtype)
    replay = Replay(5, seed=0)
    replay.append(odd=values, byte=torch.arange(5, dtype=torch.uint8), number=torch.arange(5))
    assert torch.equal(replay.columns["odd"], values)
    batch = replay.sample(9)
    assert torch.equal(batch.odd, values[batch.index])
    assert torch.equal(batch.byte.long(), batch.number)


def test_columns_take_at_most_a_twentieth_more_memory_than_their_rows():
    replay = Replay(1000)
    replay.append(**{name: rows(0, 1)[name] for name in ("state", "action", "reward")})
    assert replay.nbytes() == 1000 * (12 + 8 + 8)  # one record of 32 bytes would be too much
    storage = replay.columns["action"].untyped_storage()
    assert storage.data_ptr() == replay.columns["reward"].untyped_storage().data_ptr()
    replay = Replay(1000)
    replay.append(state=torch.zeros(1, 21), action=torch.zeros(1, dtype=torch.int64))
    assert replay.nbytes() == 1000 * (84 + 8 + 4)


def test_a_loop_of_somebody_else_runs(device):
    replay = Replay(1_000, device=device, priority="step", alpha=0.6, beta=0.4)
    critic = torch.nn.Linear(3, 1, device=device)
    for step in range(0, 60, 20):
        columns = rows(step, 20, device)
        replay.append(
            state=columns["state"], reward=columns["reward"].float(),
            next_state=columns["state"] + 1, terminated=columns["terminated"],
        )  # fmt: skip
        batch = replay.sample(16)
        next_value = critic(batch.next_state).squeeze(1).detach() * ~batch.terminated
        td = batch.reward + 0.99 * next_value - critic(batch.state).squeeze(1)
        (td**2 * batch.weight).mean().backward()
        replay.update_priority(batch.index, td.abs())
    assert critic.weight.grad is not None
    assert replay.max_priority > 1


# -- reused memory -----------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 3])
def test_a_batch_changes_with_the_documented_sample_and_not_before(batches):
    replay = Replay(1000, seed=0, batches=batches)
    replay.append(**rows(0, 1000))
    first = replay.sample(8)
    index = first.index.clone()
    for _ in range(batches - 1):
        replay.sample(8)
    assert_rows(first.columns, index)
    again = replay.sample(8)
    assert again.state.data_ptr() == first.state.data_ptr()
    assert again.index.data_ptr() == first.index.data_ptr()


def test_batches_drawn_in_inference_mode_can_be_learned_from_later():
    replay = Replay(10, priority="step", seed=0, batches=1)
    with torch.inference_mode():
        replay.append(**rows(0, 10))
        replay.sample(4)
    weight = torch.ones(3, requires_grad=True)
    (replay.sample(4).state * weight).sum().backward()
    assert weight.grad is not None


# -- priorities --------------------------------------------------------------------------------


def expected_probability(priority: Tensor, alpha: float, epsilon: float = 1e-6) -> Tensor:
    mass = (priority.double() + epsilon) ** alpha
    return mass / mass.sum()


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_rows_are_drawn_in_proportion_to_their_priorities(alpha, device):
    replay = Replay(7, device=device, priority="step", alpha=alpha, seed=3)
    replay.append(**rows(0, 7, device))
    priority = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0], device=device)
    replay.update_priority(torch.arange(7, device=device), priority)
    drawn = torch.bincount(torch.cat([replay.sample(1000).index for _ in range(100)]), minlength=7)
    # Stratified draws spread less than independent ones, so 5 of their deviations are ample.
    expected = 100_000 * expected_probability(priority, alpha)
    assert ((drawn - expected).abs() <= 5 * expected.sqrt() + 1).all()


def test_uniform_draws_are_uniform(device):
    replay = Replay(10, device=device, seed=3)
    replay.append(**rows(0, 25, device))
    drawn = Counter(replay.sample(100_000).index.tolist())
    assert set(drawn) == set(range(15, 25))
    chi_square = sum((count - 10_000) ** 2 / 10_000 for count in drawn.values())
    assert chi_square < 27.9  # 9 degrees of freedom, p = 0.001


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("appended", [40, 100, 130])
def test_importance_weights_match_the_formula(appended, beta, device):
    replay = Replay(100, device=device, priority="step", alpha=0.7, beta=beta, seed=0)
    replay.append(**rows(0, appended, device))
    alive = torch.arange(appended - len(replay), appended, device=device)
    priority = torch.rand(len(replay), device=device) * 10
    replay.update_priority(alive, priority)
    batch = replay.sample(64)
    probability = expected_probability(priority, 0.7)
    weight = (len(replay) * probability) ** -beta
    expected = (weight / weight.max())[batch.index - alive[0]]
    torch.testing.assert_close(batch.weight.double(), expected, atol=0, rtol=1e-5)


def test_alpha_is_applied_once_to_rows_that_enter_at_the_largest_priority():
    replay = Replay(8, priority="step", alpha=0.5, epsilon=0.0)
    replay.append(**rows(0, 2))
    replay.update_priority(torch.tensor([0, 1]), torch.tensor([16.0, 4.0]))
    replay.append(**rows(2, 1))
    assert replay.max_priority == 16
    assert replay._priorities is not None
    assert replay._priorities.leaves[:3].tolist() == [4.0, 2.0, 4.0]
    replay.update_priority(torch.tensor([0, 2]), torch.tensor([1.0, 1.0]))
    replay.append(**rows(3, 1))
    assert replay._priorities.leaves[3] == 4  # the largest ever, not the largest now


def test_the_last_of_repeated_rows_counts():
    replay = Replay(4, priority="step", alpha=1.0, epsilon=0.0)
    replay.append(**rows(0, 4))
    replay.update_priority(torch.tensor([2, 1, 2]), torch.tensor([5.0, 6.0, 7.0]))
    assert replay._priorities is not None
    assert replay._priorities.leaves.tolist() == [1.0, 6.0, 7.0, 1.0]


def test_priorities_of_overwritten_rows_are_skipped_and_counted(device):
    replay = Replay(10, device=device, priority="step", alpha=1.0, epsilon=0.0, seed=0)
    replay.append(**rows(0, 10, device))
    index = torch.arange(10, device=device)
    replay.append(**rows(10, 4, device))  # rows 0 to 3 are gone
    replay.update_priority(index, torch.full((10,), 0.5, device=device))
    assert replay.stale_updates == 4
    assert replay._priorities is not None
    assert replay._priorities.leaves.tolist() == [1.0] * 4 + [0.5] * 6
    replay.append(**rows(14, 100, device))
    replay.update_priority(index, torch.full((10,), 0.5, device=device))
    assert replay.stale_updates == 14
    assert replay._priorities.leaves.tolist() == [1.0] * 10


def test_priorities_of_overwritten_rows_do_not_raise_those_of_new_rows():
    replay = Replay(4, priority="step")
    replay.append(**rows(0, 6))
    replay.update_priority(torch.tensor([1, 4]), torch.tensor([100.0, 0.5]))
    replay.update_priority(torch.tensor([1]), torch.tensor([100.0]))
    assert replay.max_priority == 1 and replay.stale_updates == 2


def test_priorities_may_come_from_a_loss_with_gradients():
    replay = Replay(4, priority="step")
    replay.append(**rows(0, 4))
    error = torch.ones(2, requires_grad=True) * 3
    replay.update_priority(torch.tensor([0, 1]), error.abs())
    assert replay.max_priority == 3


@pytest.mark.parametrize("priority", [None, "step"])
def test_the_same_seed_draws_the_same_rows_bit_for_bit(priority, device):
    def run(seed: int) -> list[list[float]]:
        replay = Replay(50, device=device, priority=priority, seed=seed)
        seen = []
        for first in range(0, 200, 20):
            replay.append(**rows(first, 20, device))
            batch = replay.sample(32)
            if priority:
                replay.update_priority(batch.index, batch.state[:, 0] + 1)
            seen += [batch.index.tolist(), batch.weight.tolist()]
        return seen

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_without_a_seed_torch_s_own_decides():
    def draw() -> list[int]:
        replay = Replay(1000)
        replay.append(**rows(0, 1000))
        return replay.sample(8).index.tolist()

    torch.manual_seed(0)
    first, second = draw(), draw()
    assert first != second
    torch.manual_seed(0)
    assert draw() == first


# -- a plain model -----------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    capacity=st.integers(1, 20),
    program=st.lists(
        st.tuples(st.sampled_from(["append", "update"]), st.integers(0, 45)), max_size=20
    ),
)
def test_any_program_agrees_with_a_plain_dictionary(capacity, program):
    replay = Replay(capacity, priority="step", alpha=1.0, epsilon=0.0, seed=0)
    priorities: dict[int, float] = {}  # of the rows that are alive
    appended = stale = 0
    for step, (call, n) in enumerate(program):
        if call == "append":
            replay.append(number=torch.arange(appended, appended + n))
            for number in range(appended, appended + n):
                priorities[number] = replay.max_priority
                priorities.pop(number - capacity, None)
            appended += n
        elif appended:
            index = torch.randint(appended, (n,), generator=torch.Generator().manual_seed(n))
            replay.update_priority(index, torch.arange(n) + step + 0.5)
            for i, number in enumerate(index.tolist()):
                stale += number not in priorities
                if number in priorities:
                    priorities[number] = i + step + 0.5
    assert len(replay) == len(priorities)
    assert replay.stale_updates == stale
    assert replay._priorities is not None
    leaves = replay._priorities.leaves.tolist()
    assert {number: leaves[number % capacity] for number in priorities} == priorities
    if priorities:
        batch = replay.sample(50)
        assert set(batch.index.tolist()) <= set(priorities)
        assert torch.equal(batch.number, batch.index)


# -- bad arguments -----------------------------------------------------------------------------

GOOD = rows(0, 4)
BAD_APPENDS = [
    ({}, ValueError, r"columns must be .*, got (0|none)$"),
    ({**GOOD, "index": GOOD["action"]}, ValueError, r"index must not be a column"),
    ({**GOOD, "state": torch.tensor(1.0)}, ValueError, r"state must be \[n, ...\], got a single"),
    ({**GOOD, "state": "text"}, TypeError, r"state must be a tensor, an array or a list, got str"),
    ({**GOOD, "reward": torch.zeros(3, dtype=torch.float64)}, ValueError,
     r"reward must have 4 rows like state, got 3"),
]  # fmt: skip
BAD_LATER_APPENDS = [
    *BAD_APPENDS,
    ({"state": GOOD["state"]}, ValueError,
     r"columns must be state, pixels, action, reward, terminated, got state$"),
    ({**GOOD, "state": torch.zeros(4, 2)}, ValueError,
     r"state must have rows of shape \[3\], got \[2\]"),
    ({**GOOD, "reward": torch.zeros(4)}, TypeError,
     r"reward must be torch.float64, got torch.float32"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "error", "message"), BAD_APPENDS)
def test_a_bad_first_append_decides_on_nothing(columns, error, message):
    replay = Replay(10, priority="step")
    with pytest.raises(error, match=f"Replay.append: {message}"):
        replay.append(**columns)
    assert len(replay) == 0 and replay.columns == {}
    replay.append(other=torch.zeros(2))


@pytest.mark.parametrize(("columns", "error", "message"), BAD_LATER_APPENDS)
def test_a_bad_append_changes_nothing(columns, error, message):
    replay = Replay(10, priority="step")
    replay.append(**rows(0, 6))
    before = snapshot(replay)
    with pytest.raises(error, match=f"Replay.append: {message}"):
        replay.append(**columns)
    assert snapshot(replay) == before


@pytest.mark.parametrize(
    ("index", "priority", "error", "message"),
    [
        ([0, 30], [1.0, 2.0], IndexError, r"index must be in \[0, 15\), got 30 at position 1"),
        ([-1], [1.0], IndexError, r"index must be in \[0, 15\), got -1 at position 0"),
        ([14, 13], [1.0, float("nan")], ValueError, "priority must be .*, got nan at position 1"),
        ([14], [float("inf")], ValueError, "priority must be .*, got inf at position 0"),
        ([14], [-0.5], ValueError, "priority must be .*, got -0.5 at position 0"),
        ([2, 14], [1.0, -0.5], ValueError, "priority must be .*, got -0.5 at position 1"),
        ([14], [1.0, 2.0], ValueError, r"priority must have shape \[1\], got \[2\]"),
        ([[14]], [[1.0]], ValueError, r"index must be \[n\], got \[1, 1\]"),
        ([14.0], [1.0], TypeError, "index must be int64, got torch.float32"),
        ([14], [1], TypeError, "priority must be floating point, got torch.int64"),
    ],
)
def test_a_bad_priority_changes_nothing(index, priority, error, message, device):
    replay = Replay(10, device=device, priority="step")
    replay.append(**rows(0, 15, device))
    before = snapshot(replay)
    with pytest.raises(error, match=f"Replay.update_priority: {message}"):
        replay.update_priority(
            torch.tensor(index, device=device), torch.tensor(priority, device=device)
        )
    assert snapshot(replay) == before


def test_a_priority_too_large_for_the_tree_changes_nothing():
    replay = Replay(10, priority="step", alpha=1.0)
    replay.append(**rows(0, 15))
    before = snapshot(replay)
    with pytest.raises(RuntimeError, match="weight must be"):
        replay.update_priority(torch.tensor([0, 14]), torch.tensor([1.0, 3e38]))
    assert snapshot(replay) == before


def test_a_replay_cannot_be_appended_to_itself():
    replay = Replay(10, priority="step")
    replay.append(**rows(0, 4))
    before = snapshot(replay)
    with pytest.raises(RuntimeError, match="must not share memory"):
        replay.append(**replay.columns)
    assert snapshot(replay) == before


def test_calls_that_make_no_sense_say_so():
    replay = Replay(4)
    with pytest.raises(ValueError, match=r"Replay.sample: the memory must hold .* 1 row, got 0"):
        replay.sample(1)
    replay.append(**rows(0, 2))
    with pytest.raises(ValueError, match=r"Replay.sample: n must be at least 1, got 0"):
        replay.sample(0)
    with pytest.raises(ValueError, match=r"the replay must have priorities, got none. Make it"):
        replay.update_priority(torch.tensor([0]), torch.tensor([1.0]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"capacity": 0}, ValueError, "capacity must be at least 1, got 0"),
        ({"capacity": 1e6}, TypeError, "capacity must be an int, got 1000000.0"),
        ({"batches": 0}, ValueError, "batches must be at least 1, got 0"),
        ({"alpha": -0.1}, ValueError, "alpha must be finite and at least 0, got -0.1"),
        ({"epsilon": float("nan")}, ValueError, "epsilon must be finite and .*, got nan"),
        ({"beta": 1.1}, ValueError, r"beta must be in \[0, 1\], got 1.1"),
        ({"priority": "best"}, ValueError, "priority must be None or 'step' or 'window', got 'best'"),
    ],
)
def test_bad_arguments_of_the_constructor_are_named(arguments, error, message):
    with pytest.raises(error, match=f"Replay: {message}"):
        Replay(**{"capacity": 4, **arguments})


def test_data_needs_torch_and_numpy_alone():
    code = (
        "import sys, machin_fast.data; "
        "print([m for m in ('gymnasium', 'rich', 'tyro', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
