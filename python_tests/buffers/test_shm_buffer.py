"""Batches in shared memory."""

from __future__ import annotations

import torch

from machin_fast.buffers import SHMBuffer


def step(number: int) -> dict:
    state = {"x": torch.full((1, 2), float(number))}
    return {
        "state": state, "action": {"a": torch.ones(1, 1)}, "next_state": state,
        "reward": float(number), "terminal": False, "note": str(number),
    }  # fmt: skip


def test_tensors_of_a_batch_are_in_shared_memory_and_lists_are_lists():
    buffer = SHMBuffer(8)
    buffer.store_episode([step(i) for i in range(5)])
    n, (state, reward, others) = buffer.sample_batch(
        4, sample_method="all", sample_attrs=["state", "reward", "*"]
    )
    assert n == 5
    assert state["x"].is_shared()
    assert reward.is_shared()
    assert reward.flatten().tolist() == [0, 1, 2, 3, 4]
    assert state["x"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert others["note"] == list("01234")
    state["x"].zero_()  # the buffer keeps its own
    assert buffer.sample_batch(1, sample_method="all")[1][0]["x"][1, 0] == 1
