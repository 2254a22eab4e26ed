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

from machin_fast._extension import direct_calls
from machin_fast.data import Replay, Trajectory


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


def test_rows_of_a_list_stay_objects_even_if_they_happen_to_be_of_one_shape():
    replay = Replay(6)
    replay.append(path=[[1, 2], [3]], number=torch.arange(2))
    replay.append(path=[[4, 5]], number=torch.arange(2, 3))
    replay.append(path=[], number=torch.arange(3, 3))
    replay.append(path=[[6], [7]], number=torch.arange(3, 5))
    assert replay.rows(torch.arange(5)).path == [[1, 2], [3], [4, 5], [6], [7]]


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


@pytest.mark.skipif(not direct_calls, reason="without direct calls no memory is used again")
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


def chi_square_limit(degrees: int) -> float:
    """The value exceeded with probability 0.001 (Wilson and Hilferty's approximation)."""
    return degrees * (1 - 2 / (9 * degrees) + 3.09 * (2 / (9 * degrees)) ** 0.5) ** 3


@pytest.mark.parametrize("n", [1, 100, 1_000])
@pytest.mark.parametrize("priority", [None, "step"])
def test_a_million_draws_pass_the_chi_square_test(priority, n, device):
    size = 1_000
    replay = Replay(size, device=device, priority=priority, alpha=0.7, seed=4)
    replay.append(**rows(0, 1_700, device))
    oldest = 700
    probability = torch.full((size,), 1 / size, dtype=torch.float64)
    if priority:
        new = torch.rand(size, generator=torch.Generator().manual_seed(1)) ** 3 * 5 + 0.01
        replay.update_priority(torch.arange(oldest, oldest + size, device=device), new.to(device))
        probability = expected_probability(new, 0.7)
    calls = 1_000_000 // n if n > 1 else 20_000
    drawn = torch.zeros(size, dtype=torch.float64)
    for _ in range(calls):
        index = replay.sample(n).index.cpu() - oldest
        drawn += torch.bincount(index, minlength=size)
    expected = calls * n * probability
    assert ((drawn - expected) ** 2 / expected).sum() < chi_square_limit(size - 1)


def test_a_new_row_is_drawn_with_the_largest_priority_over_the_sum(device):
    replay = Replay(5, device=device, priority="step", alpha=0.5, epsilon=0.0, seed=2)
    replay.append(**rows(0, 4, device))
    index = torch.arange(4, device=device)
    replay.update_priority(index, torch.tensor([4.0, 16.0, 1.0, 1.0], device=device))
    replay.append(**rows(4, 1, device))
    drawn = torch.cat([replay.sample(1_000).index for _ in range(120)])
    # 16 ** 0.5 over 2 + 4 + 1 + 1 + 4; stratified, so that no more than an edge is left to chance.
    assert abs(int((drawn == 4).sum()) - 120_000 * 4 / 12) <= 120


def test_rows_of_priority_zero_are_never_drawn_while_another_is_positive(device):
    replay = Replay(10_001, device=device, priority="step", epsilon=0.0, seed=0)
    replay.append(number=torch.arange(10_001, device=device))
    index = torch.arange(10_001, device=device)
    priority = torch.rand(10_001, generator=torch.Generator().manual_seed(0)).to(device) + 1e-6
    replay.update_priority(index, priority * (index % 2))
    for _ in range(10):
        batch = replay.sample(100_000)
        assert (batch.index % 2 == 1).all()
        assert batch.weight.isfinite().all()


def test_rows_of_priority_zero_are_drawn_at_times_by_default(device):
    replay = Replay(4, device=device, priority="step", seed=0)
    replay.append(**rows(0, 4, device))
    replay.update_priority(torch.arange(4, device=device), torch.zeros(4, device=device))
    assert replay.sample(8).index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]  # all alike, stratified


def test_priorities_given_with_rows_are_those_they_enter_with(device):
    replay = Replay(4, device=device, priority="step", alpha=1.0, epsilon=0.0)
    replay.append(**rows(0, 3, device), priority=torch.tensor([0.5, 8.0, 2.0]))
    assert "priority" not in replay.columns
    assert replay.masses().tolist() == [0.5, 8, 2]
    assert replay.max_priority == 8
    replay.append(**rows(3, 2, device))
    assert replay.masses().tolist() == [8, 2, 8, 8]
    # Rows that are gone before anyone sees them set nothing.
    replay.append(**rows(5, 5, device), priority=[99.0, 1.0, 2.0, 3.0, 4.0])
    assert replay.masses().tolist() == [1, 2, 3, 4] and replay.max_priority == 8
    uniform = Replay(4, device=device)
    uniform.append(priority=torch.ones(2))
    assert "priority" in uniform.columns


@pytest.mark.parametrize("priority", [None, "step", "window"])
def test_only_draws_by_priority_are_weighted(priority, device):
    window = 3 if priority == "window" else None
    for replay in (
        Replay(20, device=device, priority=priority, window=window, seed=0),
        Replay(20, device=device, window=3, evict="segment", seed=0),
    ):
        replay.append(**rows(0, 12, device))
        for _ in range(3):  # the first draw of a size prepares those that follow
            batch = replay.sample_windows(4) if replay.window else replay.sample(4)
            assert batch.weighted == (replay.priority is not None)
            assert batch.weight.shape == (4,) and batch.weight.dtype == torch.float32
        assert not replay.rows(batch.index).weighted


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


# -- segments and windows ----------------------------------------------------------------------


def pieces(*lengths: int, device: torch.device | str = "cpu") -> Trajectory:
    """Segments whose rows tell their own number."""
    bounds = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    return Trajectory({"number": torch.arange(bounds[-1], device=device)}, bounds)


def test_whole_segments_leave(device):
    replay = Replay(10, device=device, evict="segment", priority="step")
    replay.append(pieces(3, 4, 2, device=device))
    assert (replay.oldest, len(replay)) == (0, 9)
    replay.append(number=torch.arange(9, 11, device=device))  # row 0 would leave: 1 and 2 go, too
    assert (replay.oldest, len(replay)) == (3, 8)
    assert replay.segment_starts().tolist() == [3, 7, 9]
    assert replay.left(torch.arange(3, 11, device=device)).tolist() == [4, 3, 2, 1, 2, 1, 2, 1]
    assert set(replay.sample(50).number.tolist()) == set(range(3, 11))
    replay.append(number=torch.arange(11, 21, device=device))
    assert (replay.oldest, len(replay)) == (11, 10)
    assert replay._priorities.leaves.count_nonzero() == 10
    replay.append(pieces(6, 6, device=device))  # only the last of them fits in
    assert (replay.appended, replay.oldest) == (33, 27)


def test_windows_stay_within_their_segment(device):
    replay = Replay(20, device=device, window=3, seed=0)
    replay.append(pieces(5, 2, 3, device=device))
    batch = replay.sample_windows(200, burn_in=2)
    assert batch.burn_in == 2 and batch.weight.tolist() == [1.0] * 200
    assert batch.number.shape == batch.mask.shape == (3, 200)
    seen = {
        int(start): (number, mask)
        for start, number, mask in zip(
            batch.index, batch.number.T.tolist(), batch.mask.T.tolist(), strict=True
        )
    }
    whole = [True] * 3
    assert seen == {
        0: ([0, 1, 2], whole), 1: ([1, 2, 3], whole), 2: ([2, 3, 4], whole),
        5: ([5, 6, 6], [True, True, False]), 7: ([7, 8, 9], whole),
    }  # fmt: skip
    drawn = Counter(replay.sample_windows(1_000).index.tolist())
    assert all(abs(count - 200) <= 1 for count in drawn.values())  # stratified


def test_windows_are_drawn_in_proportion_to_their_priorities(device):
    replay = Replay(
        20, device=device, window=3, priority="window", alpha=1.0, epsilon=0.0, beta=1.0, seed=0
    )
    replay.append(pieces(4, 2, device=device))
    batch = replay.sample_windows(3)
    assert batch.index.tolist() == [0, 1, 4]
    batch.update_priority(torch.tensor([1.0, 6.0, 3.0], device=device))
    assert replay.masses().tolist() == [1, 6, 0, 0, 3, 0]
    batch = replay.sample_windows(1_000)
    assert [int((batch.index == row).sum()) for row in (0, 1, 4)] == [100, 600, 300]
    weight = dict(zip(batch.index.tolist(), batch.weight.tolist(), strict=True))
    assert weight == pytest.approx({0: 1, 1: 1 / 6, 4: 1 / 3})
    replay.append(number=torch.arange(4, device=device))
    assert replay.masses().tolist() == [1, 6, 0, 0, 3, 0, 6, 6, 0, 0]


@pytest.mark.parametrize("settings", [{"evict": "segment"}, {"window": 3}])
def test_a_segment_that_does_not_fit_in_changes_nothing(settings):
    replay = Replay(10, priority=None, **settings)
    replay.append(pieces(4, 3))
    before = replay.state_dict()
    message = r"Replay.append: a segment must have at most 10 rows, got 11\. Make"
    for call in (
        lambda: replay.append(pieces(2, 11, 3)),
        lambda: replay.append(number=torch.arange(11)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
        assert str(replay.state_dict()) == str(before)


def test_what_followed_each_step_is_stored_where_it_is_known(device):
    replay = Replay(10, device=device)
    state = torch.arange(5.0, device=device)
    replay.append(Trajectory({"state": state}, [0, 2, 5], final={"state": [10.0, 20.0]}))
    assert replay.columns["next_state"].tolist() == [1, 10, 3, 4, 20]


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


BAD_TENSORS = {
    "sparse": torch.zeros(2).to_sparse(),
    "without memory": torch.zeros(2, device="meta"),
    "complex": torch.zeros(2, dtype=torch.complex64),
    "none": None,
    "text": "ab",
    "texts": np.array(["a", "b"]),
    "other byte order": np.zeros(2, ">f4"),
    "set": {1.0, 2.0},
    "single": torch.tensor(1.0),
    "half": torch.zeros(2, dtype=torch.float16),
}


@pytest.mark.parametrize("bad", BAD_TENSORS)
@pytest.mark.parametrize("name", ["state", "priority"])
def test_whatever_is_appended_it_is_right_or_refused(name, bad):
    replay = Replay(10, priority="step")
    replay.append(state=torch.arange(6.0), action=torch.arange(6))
    before = snapshot(replay)
    good = {"state": torch.zeros(2), "action": torch.zeros(2, dtype=torch.int64)}
    if (name, bad) == ("priority", "half"):
        replay.append(**good, priority=BAD_TENSORS[bad])
        return
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        replay.append(**{**good, name: BAD_TENSORS[bad]})
    assert snapshot(replay) == before


GOOD_TENSORS = {
    "strided": torch.tensor([3.0, 0.0, 4.0, 0.0])[::2],
    "with gradient": torch.tensor([1.5, 2.0], requires_grad=True) * 2,
    "parameter": torch.nn.Parameter(torch.tensor([3.0, 4.0])),
    "array": np.array([3, 4], np.float32),
    "reversed array": np.array([4, 3], np.float32)[::-1].copy(),
    "list": [3.0, 4.0],
    "shared": torch.tensor([3.0, 4.0]).share_memory_(),
    "of inference": torch.inference_mode()(lambda: torch.tensor([3.0, 4.0]))(),
}


@pytest.mark.parametrize("good", GOOD_TENSORS)
def test_rows_and_priorities_may_come_in_many_ways(good, device):
    replay = Replay(10, device=device, priority="step", alpha=1.0, epsilon=0.0)
    replay.append(state=torch.zeros(2))
    value = GOOD_TENSORS[good]
    replay.append(state=value, priority=value)
    replay.update_priority(torch.tensor([0, 1], device=device), value)
    assert replay.columns["state"].tolist() == [0, 0, 3, 4]
    assert replay.masses().tolist() == [3, 4, 3, 4]
    assert not replay.columns["state"].requires_grad


@pytest.mark.parametrize(
    "index",
    [[2, 3], (2, 3), np.array([2, 3]), torch.arange(6)[2:4], torch.tensor([[2, 0], [3, 0]])[:, 0]],
)
def test_rows_to_update_may_come_in_many_ways(index):
    replay = Replay(10, priority="step", alpha=1.0, epsilon=0.0)
    replay.append(state=torch.zeros(4))
    replay.update_priority(index, torch.tensor([5.0, 6.0]))
    assert replay.masses().tolist() == [1, 1, 5, 6]


@pytest.mark.parametrize("bad", BAD_TENSORS)
@pytest.mark.parametrize("argument", ["index", "priority"])
def test_whatever_is_updated_it_is_right_or_refused(argument, bad):
    replay = Replay(10, priority="step")
    replay.append(state=torch.arange(6.0))
    before = snapshot(replay)
    good = {"index": torch.tensor([0, 1]), "priority": torch.ones(2)}
    if (argument, bad) == ("priority", "half"):
        replay.update_priority(good["index"], BAD_TENSORS[bad])
        return
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        replay.update_priority(**{**good, argument: BAD_TENSORS[bad]})
    assert snapshot(replay) == before


@pytest.mark.parametrize("n", [2.5, "3", None, 2**62, -(2**62)])
def test_a_number_of_draws_that_is_none_is_refused(n, device):
    replay = Replay(10, device=device, priority="step", seed=0)
    replay.append(**rows(0, 6, device))
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        replay.sample(n)
    assert replay._counters.draws == 0
    assert len(replay.sample(3)) == 3


@pytest.mark.parametrize("row", [-1, 4, 15, 2**40, 2**63 - 1, -(2**63)])
def test_rows_that_are_not_there_are_refused(row, device):
    replay = Replay(10, device=device, evict="segment")
    replay.append(pieces(5, 5, 5, device=device))
    replay.rows(torch.tensor([[5], [14]], device=device))
    index = torch.tensor([7, row], device=device)
    for op in ("rows", "left"):
        with pytest.raises(
            IndexError, match=rf"Replay.{op}: index must be in \[5, 15\), got {row}"
        ):
            getattr(replay, op)(index)


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
    with pytest.raises(ValueError, match=r"Replay.draw: the replay must have priorities, got none"):
        replay.draw(1)
    with pytest.raises(ValueError, match=r"Replay.sample_windows: window must be given to Replay"):
        replay.sample_windows(1)
    for op in ("segment_starts", "left", "window_starts"):
        argument = {"left": [torch.tensor([0])], "window_starts": [2]}.get(op, [])
        with pytest.raises(ValueError, match=rf"Replay.{op}: the replay must keep segments, got"):
            getattr(replay, op)(*argument)
    with pytest.raises(ValueError, match=r"Replay.append: columns must be at least 1, got 0"):
        Replay(4, priority="step").append(priority=torch.ones(2))
    windows = Replay(4, window=2)
    windows.append(**rows(0, 3))
    with pytest.raises(ValueError, match=r"Replay.sample: window must be None, got 2. Use sample_"):
        windows.sample(1)
    with pytest.raises(ValueError, match=r"sample_windows: burn_in must be in \[0, 2\), got 2"):
        windows.sample_windows(1, burn_in=2)
    with pytest.raises(
        TypeError, match=r"trajectory must be .* alone, got Trajectory and state\. G"
    ):
        replay.append(pieces(2), state=torch.zeros(2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"capacity": 0}, ValueError, "capacity must be at least 1, got 0"),
        ({"capacity": 1e6}, TypeError, "capacity must be an int, got 1000000.0"),
        ({"batches": 0}, ValueError, "batches must be at least 1, got 0"),
        ({"alpha": -0.1}, ValueError, "alpha must be finite and at least 0, got -0.1"),
        ({"epsilon": float("nan")}, ValueError, "epsilon must be finite and .*, got nan"),
        ({"window": 5}, ValueError, "window must be at most the capacity, .*, got 5"),
        ({"window": 0}, ValueError, "window must be at least 1, got 0"),
        ({"window": 2, "priority": "step"}, ValueError, "window must .* priority='step', got 2"),
        ({"priority": "window"}, ValueError, "window must be given with .*, got None"),
        ({"evict": "none"}, ValueError, "evict must be None or 'step' or 'segment', got 'none'"),
        ({"window": 2, "evict": "step"}, ValueError, "evict must be 'segment' with a window, got"),
        ({"memory": "disk"}, ValueError, "memory must be 'plain' or 'pinned' or .*, got 'disk'"),
        ({"stack": 0}, ValueError, "stack must be at least 1, got 0"),
        ({"stack": None}, TypeError, "stack must be an int, got None"),
        ({"beta_steps": 0}, ValueError, "beta_steps must be at least 1, got 0"),
        ({"beta": 1.1}, ValueError, r"beta must be in \[0, 1\], got 1.1"),
        (
            {"priority": "best"},
            ValueError,
            "priority must be None or 'step' or 'window', got 'best'",
        ),
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


def test_rows_are_alike_where_all_priorities_are_zero(device):
    replay = Replay(10, device=device, priority="step", epsilon=0.0, seed=0)
    replay.append(**rows(0, 10, device))
    zero = torch.zeros(10, device=device)
    replay.update_priority(torch.arange(10, device=device), zero)
    batch = replay.sample(2_000)
    assert (batch.index.bincount(minlength=10) > 100).all()
    assert (batch.weight == 1).all()
    zero[3] = 1
    replay.update_priority(torch.arange(10, device=device), zero)
    assert replay.sample(50).index.unique().tolist() == [3]


def test_windows_are_alike_where_all_priorities_are_zero():
    replay = Replay(20, priority="window", window=3, epsilon=0.0, seed=0)
    replay.append(state=torch.arange(5.0))
    start = replay.window_starts(3)
    replay.update_priority(start, torch.zeros(3))
    assert replay.sample_windows(200).index.unique().tolist() == [0, 1, 2]


def test_beta_is_checked_when_it_is_changed():
    replay = Replay(10, priority="step")
    replay.beta = 0.7
    assert replay.beta == replay.current_beta == 0.7
    with pytest.raises(ValueError, match=r"Replay: beta must be in \[0, 1\], got 1.5"):
        replay.beta = 1.5
    assert replay.beta == 0.7


def test_a_largest_priority_that_becomes_too_large_by_alpha_changes_nothing():
    replay = Replay(10, priority="step", alpha=0.5)
    replay.append(**rows(0, 4))
    replay.update_priority(torch.tensor([0]), torch.tensor([1e30]))
    replay.alpha = 1.3
    before = snapshot(replay)
    with pytest.raises(RuntimeError, match="priority must have a mass of at most"):
        replay.append(**rows(4, 2))
    assert snapshot(replay) == before
