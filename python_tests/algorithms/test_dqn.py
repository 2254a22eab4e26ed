"""DQN against the equations, row by row in float64."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from algorithm_contract import AlgorithmTests
from experience import (
    DISCRETE,
    Calls,
    after_sgd,
    episode,
    follow,
    parameters,
    seeded,
    trajectory,
    transitions,
)
from machin_fast.algorithms import DQN
from machin_fast.buffers import Buffer
from machin_fast.data import Batch, Replay, plans
from machin_fast.model.nets import Recurrent
from networks import (
    ACTIONS,
    OBS,
    QNet,
    QNetDropout,
    QNetExtra,
    QNetNorm,
    QNetTwo,
)

MODES = ("vanilla", "fixed_target", "double")


def made(net: type[nn.Module] = QNet, **options: Any) -> DQN:
    """A DQN with SGD in float64, whose target network is another than the one that learns."""
    settings = {"criterion": nn.MSELoss(), "learning_rate": 0.1, "update_rate": 0.25, **options}
    criterion = settings.pop("criterion")
    dqn = DQN(seeded(net), seeded(net, seed=1), torch.optim.SGD, criterion, **settings)
    if dqn.mode != "vanilla":
        dqn.qnet.load_state_dict(seeded(net, seed=2).state_dict())
    return dqn


def value_after(
    online: nn.Module, target: nn.Module, state: Tensor, mode: str, allowed: list[bool]
) -> float:
    """V(s') of one state, ``[1, 4]``."""
    q, judge = online(state)[0].tolist(), target(state)[0].tolist()
    there = [a for a in range(len(q)) if allowed[a]]
    if not there:
        return 0.0
    if mode == "vanilla":
        return max(q[a] for a in there)
    if mode == "fixed_target":
        return max(judge[a] for a in there)
    return judge[max(there, key=lambda a: q[a])]


def reference(dqn: DQN, batch: Batch, *, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Predictions, with their graph, and targets, each ``[n]``."""
    predictions, targets = [], []
    for i in range(len(batch)):
        choices = [True] * ACTIONS if allowed is None else allowed[i].tolist()
        predictions.append(dqn.qnet(batch.state[i : i + 1])[0, int(batch.action[i])])
        after = value_after(
            dqn.qnet, dqn.qnet_target, batch.next_state[i : i + 1], dqn.mode, choices
        )
        discount = float(batch.discount[i]) if "discount" in batch else dqn.discount
        gone = bool(batch.terminated[i])
        targets.append(float(batch.reward[i]) + (0 if gone else discount * after))
    return torch.stack(predictions), torch.tensor(targets, dtype=torch.float64)


class TestContract(AlgorithmTests):
    frame = DQN
    models = ["networks.QNet", "networks.QNet"]
    rates = {"qnet_optim": 0}
    flags = {"update_value": ("qnet",), "update_target": ("qnet_target",)}

    def make(self, **options: Any) -> DQN:
        settings = {"learning_rate": 0.1, "update_rate": 0.5, **options}
        nets = seeded(QNet).float(), seeded(QNet, seed=1).float()
        return DQN(*nets, torch.optim.Adam, nn.MSELoss(), **settings)

    def episode(self, steps: int, **options: Any) -> list[dict[str, Any]]:
        return episode(steps, DISCRETE, **options)


# -- learning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("criterion", "plain"),
    [
        (nn.MSELoss(), lambda e: (e**2).mean()),
        (nn.MSELoss(reduction="sum"), lambda e: (e**2).sum()),
        (nn.MSELoss(reduction="none"), lambda e: (e**2).mean()),
        (lambda value, target: (value - target).abs().max(), lambda e: e.abs().max()),
    ],
    ids=["mean", "sum", "none", "function"],
)
def test_a_step_is_that_of_the_equations(
    mode: str, criterion: Any, plain: Callable[[Tensor], Tensor]
) -> None:
    dqn, batch = made(mode=mode, criterion=criterion), transitions(9, DISCRETE)
    prediction, target = reference(dqn, batch)
    loss = plain(prediction - target)
    learned = after_sgd(dqn.qnet, loss, 0.1)
    followed = follow(parameters(dqn.qnet_target), learned, 0.25)
    figures = dqn.learn(batch)
    assert_close(figures["value_loss"], loss.detach(), atol=1e-13, rtol=1e-13)
    assert_close(figures["value"], prediction.mean().detach(), atol=1e-13, rtol=1e-13)
    assert_close(parameters(dqn.qnet), learned, atol=1e-13, rtol=0)
    wanted = learned if mode == "vanilla" else followed
    assert_close(parameters(dqn.qnet_target), wanted, atol=1e-13, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_actions_that_are_not_there_are_not_expected(mode: str) -> None:
    allowed = torch.rand(9, ACTIONS, generator=torch.Generator().manual_seed(3)) < 0.5
    allowed[:2] = torch.tensor([[False] * 3, [True, False, False]])
    plain = transitions(9, DISCRETE)
    columns = {
        "state/state": plain.state,
        "next_state/state": plain.next_state,
        "next_state/action_mask": allowed,
        "action/action": plain.action,
        "reward": plain.reward,
        "terminated": plain.terminated,
    }
    dqn = made(mode=mode)
    prediction, target = reference(dqn, plain, allowed=allowed)
    figures = dqn.learn(Batch(columns, plain.index, None))
    assert_close(figures["value_loss"], (prediction - target).square().mean().detach())


def test_rows_have_discounts_of_their_own() -> None:
    batch = transitions(5, DISCRETE, discount=torch.linspace(0, 1, 5, dtype=torch.float64))
    dqn = made()
    prediction, target = reference(dqn, batch)
    assert_close(dqn.learn(batch)["value_loss"], (prediction - target).square().mean().detach())


def test_columns_of_one_number_may_have_a_dimension_more() -> None:
    batch = transitions(5, DISCRETE)
    wide = {name: x[:, None] if x.dim() == 1 else x for name, x in batch.columns.items()}
    flat = {name: x.flatten() if name == "action" else x for name, x in batch.columns.items()}
    wanted = made().learn(batch)
    for columns in (wide, flat):
        assert made().learn(Batch(columns, batch.index, None)) == wanted


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_scale_rows_and_errors_become_priorities(reduction: str) -> None:
    told: list[tuple[list[int], Tensor]] = []
    rows = transitions(6, DISCRETE)
    weight = torch.tensor([1.0, 0.5, 0.25, 1.0, 0.125, 0.75])
    batch = Batch(
        rows.columns,
        torch.arange(10, 16),
        weight,
        update_priority=lambda index, size: told.append((index.tolist(), size)),
    )
    dqn = made(criterion=nn.MSELoss(reduction=reduction))
    prediction, target = reference(dqn, batch)
    each = weight * (prediction - target).square()
    loss = each.sum() if reduction == "sum" else each.mean()
    learned = after_sgd(dqn.qnet, loss, 0.1)
    assert_close(dqn.learn(batch)["value_loss"], loss.detach())
    assert_close(parameters(dqn.qnet), learned, atol=1e-13, rtol=0)
    ((index, size),) = told
    assert index == list(range(10, 16))
    # Of what was predicted before the step.
    assert_close(size, (prediction - target).abs().detach(), atol=1e-13, rtol=0)
    assert dqn.criterion.reduction == reduction


def test_weights_need_a_criterion_of_each_row() -> None:
    rows = transitions(3, DISCRETE)
    with pytest.raises(ValueError, match=r"DQN: criterion must have a reduction"):
        made(criterion=lambda a, b: (a - b).sum()).learn(
            Batch(rows.columns, rows.index, torch.ones(3))
        )


def test_networks_learn_in_train_mode_and_targets_stay_in_theirs() -> None:
    dqn = made(QNetDropout)
    dqn.qnet.eval()
    modes: list[tuple[bool, bool]] = []
    dqn.qnet.register_forward_pre_hook(
        lambda *_: modes.append((dqn.qnet.training, dqn.qnet.net[1].training))
    )
    dqn.learn(transitions(3, DISCRETE))
    assert modes == [(True, True)] * 2
    assert not dqn.qnet.training and not dqn.qnet.net[1].training
    assert dqn.qnet_target.training
    with pytest.raises(ValueError, match="must have reward"):
        dqn.learn(_without("reward"))
    assert not dqn.qnet.training  # whatever happens


def _without(name: str) -> Batch:
    rows = transitions(3, DISCRETE)
    return Batch({key: x for key, x in rows.columns.items() if key != name}, rows.index, None)


@pytest.mark.parametrize("name", ["state", "action", "next_state", "reward", "terminated"])
def test_a_missing_column_is_named(name: str) -> None:
    dqn = made()
    before = parameters(dqn.qnet, dqn.qnet_target)
    with pytest.raises(ValueError, match=rf"learn: batch must have {name}"):
        dqn.learn(_without(name))
    assert_close(parameters(dqn.qnet, dqn.qnet_target), before, atol=0, rtol=0)


def test_networks_of_another_output_are_refused() -> None:
    class Flat(QNet):
        def forward(self, state: Tensor) -> Tensor:
            return self.net(state).flatten()

    with pytest.raises(
        ValueError, match=r"DQN: the network must return \[batch, action_num\], got \[9\]"
    ):
        made(Flat).learn(transitions(3, DISCRETE))


def test_hooks_of_a_class_and_of_an_object_are_used() -> None:
    class Mine(DQN):
        @staticmethod
        def action_get_function(sampled_actions: Any) -> Tensor:
            return sampled_actions["index"]

        @staticmethod
        def reward_function(
            reward: Tensor, discount: Any, next_value: Tensor, terminal: Tensor, others: Any
        ) -> Tensor:
            assert terminal.dtype == torch.bool and discount == 0.5
            return reward + others["bonus"][:, None] + 0 * next_value

    rows = transitions(4, DISCRETE)
    columns = {
        "state": rows.state,
        "next_state": rows.next_state,
        "action/index": rows.action,
        "reward": rows.reward,
        "terminated": rows.terminated,
        "bonus": torch.full((4,), 3.0, dtype=torch.float64),
    }
    batch = Batch(columns, rows.index, None)
    nets = seeded(QNet), seeded(QNet, seed=1)
    dqn = Mine(*nets, torch.optim.SGD, nn.MSELoss(), discount=0.5)
    prediction = torch.stack([dqn.qnet(rows.state)[i, int(rows.action[i])] for i in range(4)])
    wanted = (prediction - rows.reward - 3).square().mean().detach()
    assert_close(dqn.learn(batch, update_value=False)["value_loss"], wanted)

    other = made()
    other.reward_function = lambda reward, *_: reward + 3  # type: ignore[method-assign]
    other.action_get_function = lambda action: action["index"]  # type: ignore[method-assign]
    prediction = torch.stack([other.qnet(rows.state)[i, int(rows.action[i])] for i in range(4)])
    wanted = (prediction - rows.reward - 3).square().mean().detach()
    assert_close(other.learn(batch, update_value=False)["value_loss"], wanted)


def test_a_target_of_another_shape_is_refused() -> None:
    dqn = made()
    dqn.reward_function = lambda reward, *_: reward.flatten()  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"reward_function must return \[3, 1\], got \[3\]"):
        dqn.learn(transitions(3, DISCRETE))


# -- following --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fixed_target", "double"])
def test_targets_follow_all_at_once_after_some_updates(mode: str) -> None:
    dqn = made(QNetNorm, mode=mode, update_rate=None, update_steps=3)
    before = copy.deepcopy(dqn.qnet_target.state_dict())
    dqn.qnet_target.eval()
    for update in range(1, 7):
        dqn.learn(transitions(8, DISCRETE, seed=update))
        got = dqn.qnet_target.state_dict()
        wanted = dqn.qnet.state_dict() if update % 3 == 0 else before
        for name, x in wanted.items():  # BatchNorm's statistics included
            assert torch.equal(got[name], x), (update, name)
        if update % 3 == 0:
            before = copy.deepcopy(dqn.qnet.state_dict())


def test_a_target_follows_only_where_it_shall() -> None:
    dqn = made(update_rate=None)
    before = parameters(dqn.qnet_target)
    dqn.learn(transitions(4, DISCRETE))
    dqn.update_rate = 0.5
    dqn.learn(transitions(4, DISCRETE), update_target=False)
    assert_close(parameters(dqn.qnet_target), before, atol=0, rtol=0)


def test_vanilla_has_one_network() -> None:
    qnet, ignored = seeded(QNet), seeded(QNet, seed=1)
    before = parameters(qnet)
    dqn = DQN(qnet, ignored, torch.optim.Adam, nn.MSELoss(), mode="vanilla")
    assert dqn.qnet is dqn.qnet_target is qnet
    assert_close(parameters(dqn.qnet), before, atol=0, rtol=0)


def test_the_online_network_begins_as_its_target() -> None:
    target = seeded(QNetNorm, seed=1)
    target.net[1].running_mean.fill_(3.0)
    wanted = copy.deepcopy(target.state_dict())
    dqn = DQN(seeded(QNetNorm), target, torch.optim.Adam, nn.MSELoss())
    assert dqn.qnet is not dqn.qnet_target
    for state in (dqn.qnet.state_dict(), dqn.qnet_target.state_dict()):
        assert all(torch.equal(state[name], x) for name, x in wanted.items())


def test_modes_are_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Unknown DQN mode.*got 'tripple'"):
        made(mode="tripple")
    dqn = made()
    dqn.store_episode(episode(3, DISCRETE))
    dqn.mode = "tripple"
    with pytest.raises(ValueError, match="Unknown DQN mode"):
        dqn.update()


def test_numbers_are_read_at_each_step() -> None:
    dqn, batch = made(), transitions(5, DISCRETE)
    dqn.discount, dqn.mode = 0.1, "fixed_target"
    prediction, target = reference(dqn, batch)
    assert_close(dqn.learn(batch)["value_loss"], (prediction - target).square().mean().detach())


# -- sequences --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("priority", [None, "window"])
def test_windows_are_learned_from_where_they_are_real(mode: str, priority: Any) -> None:
    steps = trajectory([7, 2, 5], DISCRETE, ends="tlc")
    memory = Replay(50, window=4, priority=priority, seed=0, epsilon=0)
    memory.append(steps)
    batch = memory.sample_windows(8)
    assert batch.mask is not None and not batch.mask.all()
    dqn = made(mode=mode)
    total, weights, sizes = torch.zeros((), dtype=torch.float64), 0.0, []
    for b in range(8):
        weight = float(batch.weight[b])
        errors = []
        for t in range(4):
            if not batch.mask[t, b]:
                continue
            step = {name: batch[name][t, b : b + 1] for name in batch.names()}
            prediction, target = reference(dqn, Batch(step, torch.zeros(1), None))
            total = total + weight * (prediction - target).square().sum()
            errors.append(abs(float(prediction.detach() - target)))
            weights += 1
        sizes.append(0.9 * max(errors) + 0.1 * sum(errors) / len(errors))
    loss = total / weights
    learned = after_sgd(dqn.qnet, loss, 0.1)
    assert_close(dqn.learn(batch)["value_loss"], loss.detach())
    assert_close(parameters(dqn.qnet), learned, atol=1e-13, rtol=0)
    if priority:
        masses = memory.masses()
        for row, size in zip(batch.index.tolist(), sizes, strict=True):
            assert_close(float(masses[row]), size**memory.alpha, rtol=1e-5, atol=0)


@pytest.mark.parametrize("mode", ["vanilla", "double"])
def test_a_recurrent_network_is_unrolled_from_its_burn_in(mode: str) -> None:
    def net() -> Recurrent:
        return Recurrent(QNet(OBS, 5), 5, in_features=5, head=nn.Linear(5, ACTIONS))

    def unrolled(network: nn.Module, states: Tensor, skip: int) -> Tensor:
        """Q of one sequence of states, step by step; the first ones only move the state on."""
        hidden, found = None, []
        for t, state in enumerate(states):
            with torch.set_grad_enabled(t >= skip):
                q, hidden = network(state=state[None], hidden=hidden)
            found.append(q[0])
        return torch.stack(found[skip:])

    steps = trajectory([9, 3, 8], DISCRETE, ends="tlc")
    memory = Replay(50, window=5, seed=1)
    memory.append(steps)
    batch = memory.sample_windows(6, burn_in=2)
    assert batch.mask is not None
    dqn = made(net, mode=mode)  # type: ignore[arg-type]
    total, count = torch.zeros((), dtype=torch.float64), 0
    for b in range(6):
        length = int(batch.mask[:, b].sum())
        states = torch.cat([batch.state[:1, b], batch.next_state[:length, b]])
        q = unrolled(dqn.qnet, states, 2)
        judge = unrolled(dqn.qnet_target, states, 2)
        for t in range(2, length):
            after = q if mode == "vanilla" else judge
            value = float(after.detach()[t - 1, int(q[t - 1].argmax())])
            gone = bool(batch.terminated[t, b])
            target = float(batch.reward[t, b]) + (0 if gone else dqn.discount * value)
            total = total + (q[t - 2, int(batch.action[t, b])] - target) ** 2
            count += 1
    loss = total / count
    learned = after_sgd(dqn.qnet, loss, 0.1)
    assert_close(dqn.learn(batch)["value_loss"], loss.detach())
    assert_close(parameters(dqn.qnet), learned, atol=1e-12, rtol=0)


# -- acting -----------------------------------------------------------------------------------


def test_the_best_actions_are_taken_of_many_states() -> None:
    dqn = made()
    state = {"state": torch.randn(7, OBS, dtype=torch.float64), "unknown": torch.zeros(1)}
    for target, network in ((False, dqn.qnet), (True, dqn.qnet_target)):
        wanted = [int(network(state["state"][i : i + 1]).argmax()) for i in range(7)]
        action = dqn.act_discrete(state, target)
        assert action.dtype == torch.int64 and action.shape == (7, 1)
        assert not action.requires_grad
        assert action.flatten().tolist() == wanted
        dqn.epsilon = 0.0
        assert torch.equal(dqn.act_discrete_with_noise(state, use_target=target), action)
        assert torch.equal(dqn._criticize(state, target), network(state["state"]))


def test_a_mask_leaves_actions_out() -> None:
    dqn = made()
    mask = torch.tensor([[True, False, False], [False, False, True], [False, True, True]])
    state = {"state": torch.randn(3, OBS, dtype=torch.float64), "action_mask": mask}
    dqn.epsilon = 1.0
    for _ in range(20):
        for action in (dqn.act_discrete(state), dqn.act_discrete_with_noise(state)):
            assert mask.gather(1, action).all()


def test_exploration_is_a_draw_for_each_row() -> None:
    torch.manual_seed(0)
    n = 20000
    dqn = made()
    state = {"state": torch.randn(1, OBS, dtype=torch.float64).expand(n, -1)}
    best = int(dqn.act_discrete(state)[0])
    dqn.epsilon = 0.3
    action = dqn.act_discrete_with_noise(state, decay_epsilon=False).flatten()
    assert dqn.epsilon == 0.3
    for a in range(ACTIONS):
        share = 0.3 / ACTIONS + (0.7 if a == best else 0)
        deviation = math.sqrt(share * (1 - share) / n)
        assert abs(float((action == a).double().mean()) - share) < 4 * deviation


def test_epsilon_decays_with_each_exploring_call() -> None:
    dqn = made(epsilon_decay=0.5)
    state = {"state": torch.zeros(5, OBS, dtype=torch.float64)}
    assert dqn.epsilon == 1
    for call in range(1, 4):
        dqn.act_discrete_with_noise(state)
        dqn.act_discrete(state)
        assert dqn.epsilon == 0.5**call


def test_what_else_a_network_returns_is_returned() -> None:
    dqn = made(QNetExtra)
    state = {"state": torch.randn(2, OBS, dtype=torch.float64)}
    for act in (dqn.act_discrete, dqn.act_discrete_with_noise):
        action, total, word = act(state)
        assert action.shape == (2, 1) and word == "extra"
        assert torch.equal(total, state["state"].sum(1, keepdim=True))
    assert math.isfinite(dqn.learn(transitions(3, DISCRETE))["value_loss"])


def test_a_network_takes_what_it_has_arguments_for() -> None:
    def step(terminal: bool) -> dict[str, Any]:
        def state() -> dict[str, Tensor]:
            return {
                "position": torch.randn(1, 3, dtype=torch.float64),
                "goal": torch.randn(1, 1, dtype=torch.float64),
                "scale": torch.full((1, 1), 2.0, dtype=torch.float64),
                "other": torch.zeros(1, 1),
            }

        return {
            "state": state(),
            "action": {"action": torch.tensor([[1]])},
            "next_state": state(),
            "reward": 1.0,
            "terminal": terminal,
        }

    dqn = made(QNetTwo)
    calls = Calls(dqn.qnet)
    dqn.store_episode([step(False), step(True)])
    assert math.isfinite(dqn.update())
    assert [set(each) for each in calls.inputs] == [{"position", "goal", "scale"}] * 2
    assert dqn.act_discrete(step(True)["state"]).shape == (1, 1)
    with pytest.raises(RuntimeError, match="missing required arguments: goal"):
        dqn.act_discrete({"position": torch.zeros(1, 3)})


def test_states_reach_the_network_as_lists_if_wanted() -> None:
    class Lists(QNet):
        def forward(self, state: Any) -> Tensor:
            if isinstance(state, list):
                sizes.append(len(state))
                state = torch.cat(state)
            return self.net(state)

    sizes: list[int] = []
    steps = [
        {**each, "state": {**each["state"], "action_mask": torch.ones(1, 3, dtype=torch.bool)},
         "next_state": {**each["next_state"], "action_mask": torch.ones(1, 3, dtype=torch.bool)}}
        for each in episode(5, DISCRETE)
    ]  # fmt: skip
    for replay in (Buffer(9), Buffer(9, n_step=3)):
        results = []
        for concatenate in (True, False):
            net = lambda: Lists().float()  # noqa: E731
            dqn = DQN(
                seeded(net).float(), seeded(net, seed=1).float(), torch.optim.SGD, nn.MSELoss(),
                replay_buffer=copy.deepcopy(replay), batch_size=5,
            )  # fmt: skip
            dqn.store_episode(steps)
            dqn.replay_buffer.sample_method_random_unique = (  # type: ignore[union-attr]
                dqn.replay_buffer.sample_method_all  # type: ignore[union-attr]
            )
            results.append(dqn.update(concatenate_samples=concatenate))
        assert_close(*results)
    assert sizes == [5] * 6


def test_batches_of_plans_are_learned_from() -> None:
    steps = trajectory([6, 4], DISCRETE, ends="tl")
    dqn, other = made(), made()

    def plan() -> plans.Plan:
        random = torch.Generator().manual_seed(0)
        return plans.epochs(steps, batch_size=5, epochs=2, generator=random)

    found = [other.learn(batch) for batch in plan()]
    assert len(found) == 4
    means = dqn.over(plan())
    assert_close(means["value_loss"], sum(float(x["value_loss"]) for x in found) / 4)
    assert_close(means["value"], sum(float(x["value"]) for x in found) / 4)
    assert_close(parameters(dqn.qnet), parameters(other.qnet), atol=0, rtol=0)
    assert dqn.over([]) == {}
