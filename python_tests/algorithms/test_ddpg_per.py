"""DDPG with prioritized replay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from experience import after_sgd, episode, parameters, transitions
from machin_fast.algorithms import DDPGPer
from machin_fast.buffers import PrioritizedBuffer
from machin_fast.data import Batch
from networks import Actor, Critic
from off_policy import OffPolicyTests, make, reference


class TestContract(OffPolicyTests):
    frame = DDPGPer


def weighted(n: int, written: list[Any]) -> Batch:
    batch = transitions(n)
    weight = torch.linspace(0.2, 1.0, n)
    return Batch(
        batch.columns, torch.arange(n), weight,
        update_priority=lambda index, priority: written.append((index, priority)),
    )  # fmt: skip


@pytest.mark.parametrize("n", [1, 9])
def test_priorities_are_the_errors_of_what_was_stored(n: int) -> None:
    ddpg, written = make(DDPGPer), []
    batch = weighted(n, written)
    want = reference(ddpg, batch)["errors"]
    ddpg.learn(batch)
    (index, priority), = written  # fmt: skip
    assert index.tolist() == list(range(n))
    assert_close(priority.tolist(), want)


def test_each_row_weighs_what_the_batch_says() -> None:
    ddpg = make(DDPGPer)
    batch = weighted(9, [])
    q = ddpg.critic(batch["state"], batch["action"])
    with torch.no_grad():
        after = ddpg.critic_target(batch["next_state"], ddpg.actor_target(batch["next_state"]))
    y = batch["reward"][:, None] + 0.9 * after * ~batch["terminated"][:, None]
    total = sum(w * (a - b) ** 2 for w, a, b in zip(batch.weight.double(), q, y, strict=True))
    want = after_sgd(ddpg.critic, total.squeeze() / 9, 0.2)
    ddpg.learn(batch)
    assert_close(parameters(ddpg.critic), want)


def test_the_memory_is_prioritized_and_gets_its_priorities_back() -> None:
    ddpg = make(DDPGPer, batch_size=6)
    for network in ddpg.top_models:
        network.float()
    assert isinstance(ddpg.replay_buffer, PrioritizedBuffer)
    steps = episode(6)
    ddpg.store_episode(steps)
    before = ddpg.replay_buffer.wt_tree.get_leaf_all_weights().copy()
    errors = []
    with torch.no_grad():
        for i, step in enumerate(steps):
            state, after = step["state"]["state"], step["next_state"]["state"]
            q = ddpg.critic(state, step["action"]["action"]).item()
            end = ddpg.critic_target(after, ddpg.actor_target(after)).item() if i < 5 else 0.0
            errors.append(abs(q - step["reward"] - 0.9 * end))
    np.random.seed(0)  # noqa: NPY002
    ddpg.update()
    after_update = ddpg.replay_buffer.wt_tree.get_leaf_all_weights()
    drawn = np.flatnonzero(after_update[:6] != before[:6])
    assert len(drawn) > 1
    buffer = ddpg.replay_buffer
    want = (np.array(errors) + buffer.epsilon) ** buffer.alpha
    np.testing.assert_allclose(after_update[drawn], want[drawn], rtol=1e-4)


def test_the_criterion_must_have_a_reduction() -> None:
    criterion = nn.MSELoss()
    made = DDPGPer(Actor(), Actor(), Critic(), Critic(), torch.optim.Adam, criterion)
    assert made.criterion.reduction == "none"

    def plain(x: Tensor, y: Tensor) -> Tensor:
        return ((x - y) ** 2).mean()

    with pytest.raises(RuntimeError, match="Criterion does not have the 'reduction' property"):
        DDPGPer(Actor(), Actor(), Critic(), Critic(), torch.optim.Adam, plain)
