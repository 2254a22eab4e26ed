"""RAINBOW: what it stores, its targets atom by atom, and its switches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from algorithm_contract import AlgorithmTests
from experience import (
    DISCRETE,
    after_sgd,
    episode,
    follow,
    parameters,
    seeded,
    trajectory,
    transitions,
)
from machin_fast.algorithms import RAINBOW
from machin_fast.buffers import Buffer, PrioritizedBuffer
from machin_fast.data import Batch, Replay, Trajectory
from machin_fast.model.nets import MLP, Distributional, NoisyLinear
from machin_fast.transition import Transition
from networks import ACTIONS, ATOMS, OBS, DistributionNet, QNet, QNetNoisy


def made(
    net: Any = DistributionNet, *, low: float = -2.0, high: float = 3.0, **options: Any
) -> Any:
    settings = {"learning_rate": 0.1, "update_rate": 0.25, **options}
    found = RAINBOW(seeded(net), seeded(net, seed=1), torch.optim.SGD, low, high, **settings)
    found.qnet.load_state_dict(seeded(net, seed=2).state_dict())
    return found


class TestContract(AlgorithmTests):
    frame = RAINBOW
    models = ["networks.DistributionNet", "networks.DistributionNet"]
    rates = {"qnet_optim": 0}
    flags = {"update_value": ("qnet",), "update_target": ("qnet_target",)}

    def make(self, **options: Any) -> RAINBOW:
        np.random.seed(0)  # noqa: NPY002 (what the memory draws by)
        settings = {"learning_rate": 0.1, "update_rate": 0.5, **options}
        nets = seeded(DistributionNet).float(), seeded(DistributionNet, seed=1).float()
        return RAINBOW(*nets, torch.optim.Adam, -1.0, 1.0, **settings)

    def episode(self, steps: int, **options: Any) -> list[dict[str, Any]]:
        return episode(steps, DISCRETE, **options)


# -- storing ----------------------------------------------------------------------------------


def stored(memory: Any) -> list[dict[str, Any]]:
    """Rows of a memory as numbers, in the order in which they came."""
    if isinstance(memory, Replay):
        rows = memory.rows(torch.arange(memory.oldest, memory.appended))
        columns = {name: rows[name] for name in rows.names()}
    else:
        kept = [memory.storage[handle] for handle in range(memory.size())]
        columns = {
            "state/state": torch.cat([x["state"]["state"] for x in kept]),
            "next_state/state": torch.cat([x["next_state"]["state"] for x in kept]),
            "reward": torch.tensor([float(x["reward"]) for x in kept]),
            "terminated": torch.tensor([bool(x["terminal"]) for x in kept]),
            "discount": torch.tensor([float(x["discount"]) for x in kept]),
        }
    return [
        {
            "state": columns["state/state"][i].tolist(),
            "next_state": columns["next_state/state"][i].tolist(),
            "reward": float(columns["reward"][i]),
            # Of no weight where an episode has ended.
            "discount": float(columns["discount"][i]) * (not columns["terminated"][i]),
        }
        for i in range(len(columns["reward"]))
    ]


def summed(steps: list[dict[str, Any]], n: int, gamma: float, end: str) -> list[dict[str, Any]]:
    """n-step transitions of an episode."""
    found = []
    for i in range(len(steps)):
        last = min(i + n, len(steps)) - 1
        over = end == "terminated" and last == len(steps) - 1
        found.append(
            {
                "state": steps[i]["state"]["state"][0].tolist(),
                "next_state": steps[last]["next_state"]["state"][0].tolist(),
                "reward": sum(gamma ** (j - i) * steps[j]["reward"] for j in range(i, last + 1)),
                "discount": 0.0 if over else gamma ** (last + 1 - i),
            }
        )
    return found


def assert_rows(got: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert one["state"] == other["state"] and one["next_state"] == other["next_state"]
        assert_close(one["reward"], other["reward"], rtol=1e-5, atol=1e-6)
        assert_close(one["discount"], other["discount"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("end", ["terminated", "truncated", "cut"])
@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("memory", [Buffer, PrioritizedBuffer, Replay])
def test_steps_are_joined_to_the_end_of_their_episode(memory: Any, n: int, end: str) -> None:
    rainbow = made(replay_buffer=memory(50), reward_future_steps=n, discount=0.9)
    wanted = []
    for seed, steps in enumerate((5, 1, 7)):
        given = episode(steps, DISCRETE, end=end, seed=seed)
        rainbow.store_episode(given)
        rows = summed(given, n, 0.9, end)
        for step, row in zip(given, rows, strict=True):  # as Machin's users may want to see it
            assert_close(step["value"], row["reward"], rtol=1e-5, atol=1e-6)
        wanted += rows
    assert_rows(stored(rainbow.replay_buffer), wanted)


@pytest.mark.parametrize("memory", [Buffer, Replay])
def test_whole_trajectories_are_stored_alike(memory: Any) -> None:
    flat = trajectory([5, 1, 7], DISCRETE, ends="tlc")
    columns = {"state": {"state": flat["state"]}, **flat.without_columns("state").columns}
    steps = Trajectory(columns, flat.bounds, final={"state": {"state": flat.final["state"]}})
    one, other = made(replay_buffer=memory(50)), made(replay_buffer=memory(50))
    one.store(steps)
    for i, end in enumerate(["terminated", "truncated", "cut"]):
        segment = steps.select([i])
        after = segment.next("state/state")
        other.store_episode(
            [
                {
                    "state": {"state": segment["state/state"][j : j + 1]},
                    "action": {"action": segment["action"][j : j + 1]},
                    "next_state": {"state": after[j : j + 1]},
                    "reward": float(segment["reward"][j]),
                    "terminal": bool(segment["terminated"][j]),
                    "truncated": end == "truncated" and j == len(segment) - 1,
                }
                for j in range(len(segment))
            ]
        )
    assert_rows(stored(one.replay_buffer), stored(other.replay_buffer))


def test_transitions_of_machin_are_taken_as_they_are() -> None:
    steps = episode(4, DISCRETE, end="truncated")
    for each in steps:
        each.setdefault("truncated", False)
    objects = [Transition(**each) for each in steps]
    one, other = made(), made()
    one.store_episode(steps)
    other.store_episode(objects)
    assert_rows(stored(one.replay_buffer), stored(other.replay_buffer))
    assert objects[-1].terminal is True


def test_rewards_are_not_summed_twice() -> None:
    with pytest.raises(ValueError, match=r"RAINBOW: replay_buffer must have n_step=1.*got 3"):
        made(replay_buffer=Buffer(10, n_step=3))


# -- learning ---------------------------------------------------------------------------------


def projected(p: list[float], reward: float, discount: float, low: float, high: float) -> Tensor:
    """Bellemare et al. 2017, algorithm 1; an atom that is hit keeps its mass."""
    atoms = len(p)
    width = (high - low) / (atoms - 1)
    m = [0.0] * atoms
    for j in range(atoms):
        moved = min(max(reward + discount * (low + j * width), low), high)
        b = (moved - low) / width
        below, above = math.floor(b), math.ceil(b)
        if below == above:
            m[below] += p[j]
        else:
            m[below] += p[j] * (above - b)
            m[above] += p[j] * (b - below)
    return torch.tensor(m, dtype=torch.float64)


def reference(rainbow: RAINBOW, batch: Batch) -> Tensor:
    """Cross entropies ``[n]``, with their graph."""
    support = torch.linspace(rainbow.v_min, rainbow.v_max, ATOMS, dtype=torch.float64)
    losses = []
    for i in range(len(batch)):
        online = rainbow.qnet(batch.next_state[i : i + 1])[0].detach()
        judge = rainbow.qnet_target(batch.next_state[i : i + 1])[0].detach()
        chooser = online if rainbow.mode == "double" else judge
        best = int((chooser * support).sum(1).argmax())
        discount = float(batch.discount[i]) if "discount" in batch else rainbow.discount
        if batch.terminated[i]:
            discount = 0.0
        target = projected(
            judge[best].tolist(), float(batch.reward[i]), discount, rainbow.v_min, rainbow.v_max
        )
        assert_close(float(target.sum()), 1.0)
        p = rainbow.qnet(batch.state[i : i + 1])[0, int(batch.action[i])]
        losses.append(-(target * p.log()).sum())
    return torch.stack(losses)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_step_is_that_of_the_projected_targets(double: bool, steps: int) -> None:
    rainbow = made(double=double)
    more = {} if steps == 1 else {"discount": torch.linspace(0, 0.9, 9, dtype=torch.float64)}
    rows = transitions(9, DISCRETE, **more)
    told: list[Tensor] = []
    weight = torch.linspace(0.1, 1, 9)
    batch = Batch(
        rows.columns, rows.index, weight, update_priority=lambda _, size: told.append(size)
    )
    each = reference(rainbow, batch)
    loss = (weight * each).mean()
    learned = after_sgd(rainbow.qnet, loss, 0.1)
    followed = follow(parameters(rainbow.qnet_target), learned, 0.25)
    figures = rainbow.learn(batch)
    assert_close(figures["value_loss"], loss.detach())
    assert_close(parameters(rainbow.qnet), learned, atol=1e-12, rtol=0)
    assert_close(parameters(rainbow.qnet_target), followed, atol=1e-12, rtol=0)
    assert_close(told, [each.detach() + 1e-6])
    plain = made(double=double).learn(rows)
    assert_close(plain["value_loss"], each.detach().mean())


def test_returns_that_hit_an_atom_keep_their_mass() -> None:
    """Machin loses it: floor and ceiling are the same there."""
    rainbow = made(low=0.0, high=5.0, discount=1.0)
    rows = transitions(4, DISCRETE)
    rows.columns["reward"] = torch.tensor([0.0, 1.0, 2.0, 50.0], dtype=torch.float64)
    rows.columns["terminated"] = torch.tensor([False, False, True, False])
    following = torch.rand(4, ATOMS, dtype=torch.float64).softmax(1)
    p = following.tolist()
    wanted = [
        p[0],
        [0, *p[1][:4], p[1][4] + p[1][5]],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert_close(rainbow._projected(rows, following), torch.tensor(wanted, dtype=torch.float64))
    assert_close(
        rainbow.learn(rows)["value_loss"],
        reference(made(low=0.0, high=5.0, discount=1.0), rows).mean().detach(),
    )


def test_the_loss_of_what_seems_impossible_is_finite_and_teaches() -> None:
    class Sure(nn.Module):
        """Nearly all mass on one atom: the others' underflow in float32."""

        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([300.0, 0, 0, 0, 0, 0]).repeat(ACTIONS))

        def forward(self, state: Tensor) -> Tensor:
            return self.logits.expand(len(state), -1)

    nets = [Distributional(Sure(), ATOMS) for _ in range(2)]
    rainbow = RAINBOW(*nets, torch.optim.SGD, 0.0, 5.0, learning_rate=1.0)
    rows = transitions(3, DISCRETE)
    columns = {name: x.float() if x.is_floating_point() else x for name, x in rows.columns.items()}
    columns.update(reward=torch.full((3,), 5.0), terminated=torch.ones(3, dtype=torch.bool))
    loss = rainbow.learn(Batch(columns, rows.index, None))["value_loss"]
    assert_close(float(loss), 300.0)
    logits = nets[0].net.logits
    assert (logits != torch.tensor([300.0, 0, 0, 0, 0, 0]).repeat(ACTIONS)).any()


def test_masked_actions_are_not_expected() -> None:
    rows = transitions(6, DISCRETE)
    mask = torch.zeros(6, ACTIONS, dtype=torch.bool)
    mask[:, 1] = True
    columns = {
        "state/state": rows.state,
        "next_state/state": rows.next_state,
        "next_state/action_mask": mask,
        "action": rows.action,
        "reward": rows.reward,
        "terminated": rows.terminated,
    }
    rainbow = made()
    judge = rainbow.qnet_target(rows.next_state)[:, 1].tolist()
    losses = []
    for i in range(6):
        discount = 0.0 if rows.terminated[i] else 0.99
        target = projected(judge[i], float(rows.reward[i]), discount, -2.0, 3.0)
        p = rainbow.qnet(rows.state[i : i + 1])[0, int(rows.action[i])]
        losses.append(-(target * p.log()).sum().detach())
    loss = rainbow.learn(Batch(columns, rows.index, None))["value_loss"]
    assert_close(loss, torch.stack(losses).mean())


def test_without_distributions_it_learns_values() -> None:
    rainbow = made(QNet, distributional=False, criterion=nn.MSELoss())
    rows = transitions(5, DISCRETE, discount=torch.full((5,), 0.5, dtype=torch.float64))
    value, after = rainbow.qnet(rows.state), rainbow.qnet(rows.next_state)
    judge = rainbow.qnet_target(rows.next_state)
    errors = [
        float(value.detach()[i, int(rows.action[i])] - rows.reward[i])
        - (0 if rows.terminated[i] else 0.5 * float(judge.detach()[i, int(after[i].argmax())]))
        for i in range(5)
    ]
    loss = rainbow.learn(rows)["value_loss"]
    assert_close(float(loss), sum(e**2 for e in errors) / 5)
    assert isinstance(made(QNet, distributional=False).criterion, nn.HuberLoss)


def test_the_memory_is_prioritized_unless_another_is_given() -> None:
    assert isinstance(made().replay_buffer, PrioritizedBuffer)
    empty = Replay(10)
    assert made(replay_buffer=empty).replay_buffer is empty
    rainbow = made(DistributionNet, replay_buffer=Buffer(20))
    rainbow.qnet.float(), rainbow.qnet_target.float()
    rainbow.store_episode(episode(6, DISCRETE))
    assert math.isfinite(rainbow.update())


def test_sequences_are_refused() -> None:
    memory = Replay(20, window=3)
    memory.append(trajectory([6], DISCRETE))
    for options in ({}, {"net": QNet, "distributional": False}):
        with pytest.raises(ValueError, match="RAINBOW: batch must be of single rows"):
            made(**options).learn(memory.sample_windows(2))


def test_networks_of_another_output_are_refused() -> None:
    with pytest.raises(ValueError, match=r"RAINBOW: .*must return \[batch, action_num, atom_num\]"):
        made(QNet).learn(transitions(3, DISCRETE))
    with pytest.raises(ValueError, match=r"RAINBOW: .*must return \[batch, action_num\]"):
        made(distributional=False).learn(transitions(3, DISCRETE))


@pytest.mark.parametrize(("name", "value"), [("high", -2.0), ("reward_future_steps", 0)])
def test_numbers_out_of_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=r"RAINBOW: (value_max|reward_future_steps) must be"):
        made(**{name: value})


# -- acting -----------------------------------------------------------------------------------


def test_actions_are_those_of_the_highest_mean() -> None:
    rainbow = made()
    state = torch.randn(9, OBS, dtype=torch.float64)
    support = torch.linspace(-2, 3, ATOMS, dtype=torch.float64)
    for target, network in ((False, rainbow.qnet), (True, rainbow.qnet_target)):
        best = (network(state) * support).sum(2).argmax(1)
        action = rainbow.act_discrete({"state": state}, target)
        assert action.shape == (9, 1) and action.flatten().tolist() == best.tolist()
        rainbow.epsilon = 0.0
        assert torch.equal(rainbow.act_discrete_with_noise({"state": state}, target), action)


def test_extra_outputs_pass_through_acting_and_learning() -> None:
    class Extra(DistributionNet):
        def forward(self, state: Tensor) -> Any:
            return super().forward(state), "extra"

    rainbow = made(Extra)
    action, extra = rainbow.act_discrete({"state": torch.zeros(2, OBS, dtype=torch.float64)})
    assert action.shape == (2, 1) and extra == "extra"
    rows = transitions(4, DISCRETE)
    assert_close(rainbow.learn(rows), made().learn(rows))


def test_noisy_layers_explore_but_not_in_act_discrete() -> None:
    torch.manual_seed(0)
    rainbow = made(QNetNoisy, distributional=False, criterion=nn.MSELoss())
    layer = rainbow.qnet.net[0]
    assert isinstance(layer, NoisyLinear)
    with torch.no_grad():
        layer.weight_std.fill_(1.0)
    rainbow.epsilon = 0.0
    state = {"state": torch.randn(1, OBS, dtype=torch.float64)}
    best = int((state["state"] @ layer.weight.T + layer.bias).argmax())
    assert {int(rainbow.act_discrete(state)) for _ in range(30)} == {best}
    assert {int(rainbow.act_discrete_with_noise(state)) for _ in range(30)} == set(range(ACTIONS))
    assert layer.noisy
    deviation = layer.weight_std.clone()
    rainbow.learn(transitions(6, DISCRETE))
    assert not torch.equal(layer.weight_std, deviation)


def test_networks_of_the_library_fit() -> None:
    def net() -> nn.Module:
        return Distributional(MLP(OBS, ACTIONS * ATOMS, (8,)), ATOMS)

    rainbow = made(net)
    assert math.isfinite(rainbow.learn(transitions(4, DISCRETE))["value_loss"])
