"""``Batch``: columns by name, some fetched when asked for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from machin_fast.data import Batch, Replay
from machin_fast.data.batch import RESERVED, full_weight

INDEX = torch.arange(4)


class Fetcher:
    """Counts how often it is asked for a column."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Tensor:
        self.calls += 1
        return INDEX + 1


def batch(**settings) -> Batch:
    columns = {"state": torch.zeros(4, 2), "goal/position": torch.ones(4), "note": list("abcd")}
    return Batch(columns, INDEX, full_weight(INDEX), **settings)


def test_columns_are_attributes_and_items():
    got = batch()
    assert got.state is got["state"] is got.columns["state"]
    assert got["goal/position"].tolist() == [1.0] * 4
    assert got.note == got["note"] == ["a", "b", "c", "d"]
    assert "state" in got and "goal/position" in got and "reward" not in got


def test_a_batch_knows_its_rows():
    got = batch()
    assert len(got) == 4 and got.index is INDEX
    assert got.weight.dtype == torch.float32 and got.weight.tolist() == [1.0] * 4
    assert got.mask is None and got.burn_in == 0


def test_a_batch_of_sequences_is_as_long_as_there_are_sequences():
    mask = torch.ones(7, 4, dtype=torch.bool)
    sequences = Batch(
        {"reward": torch.zeros(7, 4)}, INDEX, full_weight(INDEX), mask=mask, burn_in=2
    )
    assert len(sequences) == 4
    assert sequences.mask is mask and sequences.burn_in == 2


def test_rows_become_sequences_without_a_copy():
    fetch = Fetcher()
    columns = {"reward": torch.rand(3, 4), "note": ["a"] * 12}
    index = torch.arange(12).view(3, 4)
    got = Batch(
        columns, index, full_weight(index), more={"next_reward": fetch},
        update_priority=lambda index, priority: None,
    )  # fmt: skip
    start, mask, weight = index[0], torch.rand(3, 4) < 0.5, torch.rand(4)
    seen = []
    sequences = got.as_sequences(
        start, mask, weight=weight, burn_in=2,
        update_priority=lambda index, priority: seen.append((index, priority)),
    )  # fmt: skip
    assert len(sequences) == 4 and sequences.burn_in == 2
    assert sequences.index is start and sequences.mask is mask and sequences.weight is weight
    assert sequences.reward is columns["reward"] and sequences.note is columns["note"]
    sequences.update_priority(weight)
    assert seen == [(start, weight)]
    assert fetch.calls == 0
    assert sequences.next_reward.tolist() == [1, 2, 3, 4]
    assert got.index is index and got.mask is None and "next_reward" not in got.columns


def test_sequences_weigh_alike_and_take_no_priorities_unless_said_otherwise():
    index = torch.arange(12).view(3, 4)
    got = Batch(
        {"reward": index}, index, full_weight(index), update_priority=lambda index, priority: None
    )
    sequences = got.as_sequences(index[0], index >= 0)
    assert sequences.weight.dtype == torch.float32 and sequences.weight.tolist() == [1.0] * 4
    assert sequences.burn_in == 0
    with pytest.raises(ValueError, match="must come from a prioritized replay"):
        sequences.update_priority(torch.ones(4))


def test_sequences_are_where_the_columns_are(device):
    index = torch.arange(12, device=device).view(3, 4)
    got = Batch({"reward": index}, index, full_weight(index))
    start = torch.arange(4)
    sequences = got.as_sequences(start, index.cpu() >= 0, weight=torch.rand(4))
    for tensor in (sequences.index, sequences.mask, sequences.weight):
        assert tensor is not None and tensor.device == index.device


def test_the_mapping_that_was_given_stays_as_it_was():
    columns = {"state": torch.zeros(4)}
    got = Batch(columns, INDEX, full_weight(INDEX), more={"next_state": Fetcher()})
    assert got.next_state.tolist() == [1, 2, 3, 4]
    assert list(columns) == ["state"]


@pytest.mark.parametrize("way", [getattr, Batch.__getitem__])
def test_more_columns_are_fetched_once_and_when_they_are_asked_for(way):
    fetch = Fetcher()
    got = batch(more={"next_state": fetch})
    assert "next_state" in got and "next_state" not in got.columns
    assert fetch.calls == 0
    assert way(got, "next_state").tolist() == [1, 2, 3, 4]
    assert got["next_state"] is got.next_state is got.columns["next_state"]
    assert fetch.calls == 1


def test_a_missing_column_is_named_with_those_there_are():
    got = batch(more={"next_state": Fetcher()})
    with pytest.raises(
        AttributeError,
        match=r"Batch: sate must be a column, got none of that name among "
        "state, goal/position, note, next_state$",
    ):
        _ = got.sate
    with pytest.raises(KeyError, match="sate"):
        _ = got["sate"]
    assert not hasattr(got, "sate")


def test_a_batch_can_be_copied():
    got = copy.copy(batch(burn_in=3))
    assert got.burn_in == 3 and got.state.shape == (4, 2)
    assert not hasattr(Batch.__new__(Batch), "state")  # as copy and pickle ask, before all else


def test_new_priorities_go_to_whoever_made_the_batch():
    seen = []
    got = batch(update_priority=lambda index, priority: seen.append((index, priority)))
    priority = torch.rand(4)
    got.update_priority(priority)
    assert seen == [(INDEX, priority)]


def test_a_batch_of_no_prioritized_replay_takes_no_priorities():
    message = "Batch.update_priority: the batch must come from a prioritized replay"
    with pytest.raises(ValueError, match=message):
        batch().update_priority(torch.ones(4))
    replay = Replay(4)
    replay.append(number=INDEX)
    with pytest.raises(ValueError, match=message):
        replay.sample(2).update_priority(torch.ones(2))


def test_names_of_a_batch_s_own_are_reserved():
    public = {name for name in vars(batch()) if not name.startswith("_")}
    public |= {name for name in vars(Batch) if not name.startswith("_")}
    assert public == RESERVED
    for name in RESERVED:
        with pytest.raises(ValueError, match=f"Replay.append: {name} must not be a column"):
            Replay(4).append(**{name: INDEX})
