"""DQNPer: what the memory draws, weighs and is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from algorithm_contract import AlgorithmTests
from experience import DISCRETE, after_sgd, episode, parameters, seeded
from machin_fast.algorithms import DQNPer
from machin_fast.buffers import PrioritizedBuffer
from machin_fast.data import Batch, Replay
from networks import QNet


def made(**options: Any) -> DQNPer:
    settings = {"learning_rate": 0.1, "update_rate": 0.5, **options}
    nets = seeded(QNet).float(), seeded(QNet, seed=1).float()
    return DQNPer(*nets, torch.optim.SGD, nn.MSELoss(), **settings)


class TestContract(AlgorithmTests):
    frame = DQNPer
    models = ["networks.QNet", "networks.QNet"]
    rates = {"qnet_optim": 0}
    flags = {"update_value": ("qnet",), "update_target": ("qnet_target",)}

    def make(self, **options: Any) -> DQNPer:
        np.random.seed(0)  # noqa: NPY002 (what the memory draws by)
        return made(**options)

    def episode(self, steps: int, **options: Any) -> list[dict[str, Any]]:
        return episode(steps, DISCRETE, **options)


def watched(dqn: DQNPer) -> list[Batch]:
    """Batches that it learns from, as they come."""
    seen: list[Batch] = []
    learn = dqn.learn

    def wrapped(batch: Batch, **flags: Any) -> dict[str, Tensor]:
        seen.append(batch)
        return learn(batch, **flags)

    dqn.learn = wrapped  # type: ignore[method-assign]
    return seen


def td_errors(dqn: DQNPer, batch: Batch) -> Tensor:
    """Of double Q-learning, with the graph of the predictions."""
    errors = []
    for i in range(len(batch)):
        state, after = batch["state/state"][i : i + 1], batch["next_state/state"][i : i + 1]
        best = int(dqn.qnet(after).argmax())
        value = 0 if batch.terminated[i] else float(dqn.qnet_target(after)[0, best].detach())
        target = float(batch.reward[i]) + dqn.discount * value
        errors.append(dqn.qnet(state)[0, int(batch["action/action"][i])] - target)
    return torch.stack(errors)


@pytest.mark.parametrize("kind", ["buffer", "replay"])
def test_an_update_is_weighted_and_sets_priorities(kind: str) -> None:
    memory: Any = None
    if kind == "replay":
        memory = Replay(50, priority="step", alpha=0.6, beta=0.4, epsilon=1e-2, seed=0)
    dqn = made(replay_buffer=memory, batch_size=7)
    memory = dqn.replay_buffer
    dqn.store_episode(episode(10, DISCRETE))
    np.random.seed(0)  # noqa: NPY002
    given = np.linspace(0.1, 2, 10)
    if kind == "buffer":
        assert isinstance(memory, PrioritizedBuffer)
        memory.update_priority(given, np.arange(10))
        memory.curr_beta = 0.4
    else:
        memory.update_priority(torch.arange(10), torch.from_numpy(given))
    seen = watched(dqn)
    before = [dqn.qnet, dqn.qnet_target]
    mass = (given + 1e-2) ** 0.6
    state = {id(each): {k: x.clone() for k, x in each.state_dict().items()} for each in before}
    loss = dqn.update()
    (batch,) = seen
    after = parameters(dqn.qnet)
    for each in before:
        each.load_state_dict(state[id(each)])

    # Importance weights: (N p) ** -beta, over the largest one: of the batch, or of the memory.
    chance = mass[batch.index] / mass.sum()
    raw = (10 * chance) ** -0.4
    largest = raw.max() if kind == "buffer" else ((10 * mass / mass.sum()) ** -0.4).max()
    assert_close(batch.weight.numpy(), (raw / largest).astype(np.float32), rtol=1e-5, atol=0)
    errors = td_errors(dqn, batch)
    wanted = (batch.weight * errors.square()).mean()
    assert_close(loss, float(wanted.detach()), rtol=1e-5, atol=1e-6)
    assert_close(after, after_sgd(dqn.qnet, wanted, 0.1), rtol=1e-5, atol=1e-6)
    for i, size in zip(batch.index.tolist(), errors.detach().abs().tolist(), strict=True):
        mass[i] = (size + 1e-2) ** 0.6
    got = memory.wt_tree.get_leaf_all_weights()[:10] if kind == "buffer" else memory.masses()
    assert_close([float(x) for x in got], mass.tolist(), rtol=1e-4, atol=0)


def test_a_criterion_must_be_of_rows() -> None:
    nets = QNet(), QNet()
    with pytest.raises(RuntimeError, match="Criterion does not have the 'reduction' property"):
        DQNPer(*nets, torch.optim.Adam, lambda a, b: (a - b).sum())
    criterion = nn.SmoothL1Loss(reduction="sum")
    dqn = DQNPer(*nets, torch.optim.Adam, criterion)
    assert dqn.criterion is criterion and criterion.reduction == "none"
    assert isinstance(dqn.replay_buffer, PrioritizedBuffer) and dqn.mode == "double"


@pytest.mark.parametrize("kind", ["buffer", "replay"])
def test_priorities_of_rows_that_nobody_can_learn_from(kind: str) -> None:
    steps = episode(4, DISCRETE)
    steps[2]["reward"] = float("nan")

    def memory() -> Any:
        return Replay(9, priority="step", seed=0) if kind == "replay" else PrioritizedBuffer(9)

    dqn = made(replay_buffer=memory(), batch_size=4)
    dqn.store_episode(steps)
    before = parameters(dqn.qnet)
    with pytest.raises(ValueError, match="value loss must be finite, got nan"):
        dqn.update()
    dqn = made(replay_buffer=memory(), batch_size=4, lazy=True)
    dqn.store_episode(steps)
    seen = watched(dqn)
    assert torch.isnan(dqn.update())  # type: ignore[arg-type]
    assert_close(parameters(dqn.qnet), before, atol=0, rtol=0)
    assert seen[0].reward.isnan().any()
    if kind == "replay":
        mass = dqn.replay_buffer.masses()  # type: ignore[union-attr]
    else:
        leaves = dqn.replay_buffer.wt_tree.get_leaf_all_weights()  # type: ignore[union-attr]
        mass = torch.tensor(leaves[:4].tolist())
    assert mass[2] == mass.min() and mass.isfinite().all()
