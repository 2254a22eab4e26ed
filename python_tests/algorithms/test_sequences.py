"""Learning from windows and whole episodes, with networks that remember and others."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from experience import (
    CONTINUOUS,
    DISCRETE,
    after_sgd,
    episode,
    parameters,
    seeded,
    trajectory,
)
from machin_fast.algorithms import A2C, DDPG, DQN, PPO, SAC, TD3, TRPO
from machin_fast.data import Batch, Replay, Trajectory, plans, transforms
from machin_fast.model.nets import Recurrent
from machin_fast.policies import CategoricalPolicy
from networks import Actor, ActorDiscrete, Critic, QNet, QNetExtra, ValueNet
from recurrent_networks import (
    SIZE,
    RecurrentActor,
    RecurrentCritic,
    RecurrentDiscrete,
    RecurrentQ,
    RecurrentValue,
    SureActor,
)

SGD = {"optimizer": torch.optim.SGD, "criterion": nn.MSELoss()}
OFF = {**SGD, "discount": 0.9, "update_rate": 0.1}
LENGTHS, ENDS = (5, 3, 1), "tlc"


class Named(nn.Module):
    """``nn.Linear`` as an encoder with named inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 6)

    def forward(self, state: Tensor) -> Tensor:
        return self.net(state)


def gru_policy() -> CategoricalPolicy:
    """With the library's own recurrent network."""
    return CategoricalPolicy(Recurrent(Named(), 5, head=nn.Linear(5, 3), in_features=6))


def dqn(net: Any = RecurrentQ, mode: str = "double", **options: Any) -> DQN:
    made = DQN(
        seeded(net, seed=1), seeded(net, seed=2), learning_rate=0.1, mode=mode, **OFF, **options
    )
    made.qnet.load_state_dict(seeded(net, seed=3).state_dict())
    return made


def on_policy(frame: Any, actor: Any = RecurrentDiscrete, critic: Any = RecurrentValue) -> Any:
    rates = {"actor_learning_rate": 0.1, "critic_learning_rate": 0.1}
    return frame(
        seeded(actor, seed=1), seeded(critic, seed=2), discount=0.9, gae_lambda=0.8, **SGD, **rates
    )


def actor_critic(
    frame: Any, actor: Any = RecurrentActor, critic: Any = RecurrentCritic, **options: Any
) -> Any:
    networks: dict[str, Any] = {"actor": seeded(actor, seed=1)}
    if frame is not SAC:
        networks["actor_target"] = seeded(actor, seed=2)
    for i, name in enumerate(["critic", "critic2"] if frame is not DDPG else ["critic"]):
        networks[name] = seeded(critic, seed=3 + i)
        networks[f"{name}_target"] = seeded(critic, seed=5 + i)
    rates = {"actor_learning_rate": 0.1, "critic_learning_rate": 0.1}
    made = frame(**networks, **OFF, **rates, **options)
    for i, name in enumerate(["actor", *made._critics]):
        if frame is not SAC or i:
            fresh = seeded(actor if not i else critic, seed=10 + i)
            getattr(made, name).load_state_dict(fresh.state_dict())
    return made


# -- the reference: one step after another, one segment after another ---------------------------


def unrolled(net: nn.Module, *steps: Tensor, hidden: Tensor | None = None) -> list[Any]:
    """What a network says of each step of one sequence, and the states before each step."""
    names = ("state", "action")[: len(steps)]
    found, states = [], []
    for rows in zip(*steps, strict=True):
        states.append(torch.zeros(1, SIZE, dtype=torch.float64) if hidden is None else hidden)
        inputs = {name: x[None] for name, x in zip(names, rows, strict=True)}
        *result, hidden = net(**inputs, hidden=hidden)
        found.append(result)
    return [found, states]


def segments(data: Trajectory) -> Iterator[slice]:
    for begin, end in zip(data.bounds.tolist(), data.bounds[1:].tolist(), strict=False):
        yield slice(begin, end)


def whole_states(data: Trajectory, i: int, part: slice) -> Tensor:
    return torch.cat([data["state"][part], data.final["state"][i : i + 1]])


def episodes(data: Trajectory) -> Batch:
    return next(iter(plans.episodes(data, batch_size=data.segments, shuffle=False)))


def materialized(batch: Batch, **columns: Any) -> Batch:
    found = {name: batch[name] for name in batch.names()}
    return Batch({**found, **columns}, batch.index, None, mask=batch.mask)


def dqn_loss(made: DQN, data: Trajectory) -> tuple[Tensor, list[list[float]]]:
    total: Any = 0
    errors = []
    for i, part in enumerate(segments(data)):
        whole = whole_states(data, i, part)
        q = [each[0][0] for each in unrolled(made.qnet, whole)[0]]
        judge = [each[0][0].detach() for each in unrolled(made.qnet_target, whole)[0]]
        errors.append([])
        for t in range(part.stop - part.start):
            row = part.start + t
            chosen = judge[t + 1] if made.mode == "fixed_target" else q[t + 1]
            value = q[t + 1] if made.mode == "vanilla" else judge[t + 1]
            after = value[int(chosen.argmax())].detach()
            y = data["reward"][row] + (0 if data["terminated"][row] else 0.9 * after)
            error = q[t][int(data["action"][row])] - y
            errors[-1].append(abs(error.item()))
            total = total + error**2
    return total / len(data), errors


@pytest.mark.parametrize("mode", ["vanilla", "fixed_target", "double"])
def test_a_drqn_learns_step_by_step(mode: str) -> None:
    made = dqn(mode=mode)
    if mode == "vanilla":
        made.qnet_target = made.qnet
    data = trajectory(LENGTHS, DISCRETE, ends=ENDS)
    loss, _ = dqn_loss(made, data)
    want = after_sgd(made.qnet, loss, 0.1)
    assert_close(made.learn(episodes(data))["value_loss"], loss.detach())
    assert_close(parameters(made.qnet), want)


def value_parts(made: Any, data: Trajectory) -> tuple[Tensor, Tensor, Tensor]:
    """Values with their graph, advantages and targets."""
    values, advantages = [], []
    for i, part in enumerate(segments(data)):
        found = [
            each[0].flatten() for each in unrolled(made.critic, whole_states(data, i, part))[0]
        ]
        value = torch.cat(found)
        values.append(value[:-1])
        value = value.detach()
        n = len(value) - 1
        for t in range(n):
            total = 0.0
            for k in range(t, n):
                end = data["terminated"][part.start + k]
                after = 0.0 if end else value[k + 1].item()
                delta = data["reward"][part.start + k].item() + 0.9 * after - value[k].item()
                total += 0.72 ** (k - t) * delta
            advantages.append(total)
    value = torch.cat(values)
    advantage = torch.tensor(advantages, dtype=torch.float64)
    return value, advantage, advantage + value.detach()


def judged(actor: nn.Module, data: Trajectory, result: int = 1) -> Tensor:
    """Log-probabilities of what was done, as the actor gave them step by step."""
    found = []
    for part in segments(data):
        hidden = None
        for t in range(part.start, part.stop):
            row = slice(t, t + 1)
            *results, hidden = actor(
                state=data["state"][row], action=data["action"][row], hidden=hidden
            )
            found.append(results[result].flatten())
    return torch.cat(found)


@pytest.mark.parametrize("frame", [A2C, PPO])
@pytest.mark.parametrize("actor", [RecurrentDiscrete, gru_policy])
def test_recurrent_policies_learn_step_by_step(frame: Any, actor: Any) -> None:
    made = on_policy(frame, actor)
    made.entropy_weight = -0.2
    data = trajectory(LENGTHS, DISCRETE, ends=ENDS)
    value, advantage, target = value_parts(made, data)
    log_prob = judged(made.actor, data)
    gain = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
    ratio = log_prob if frame is A2C else (log_prob - log_prob.detach()).exp()
    policy_loss = -(ratio * gain).mean() - 0.2 * judged(made.actor, data, 2).mean()
    value_loss = 0.5 * (value - target).square().mean()
    want = after_sgd(made.actor, policy_loss, 0.1), after_sgd(made.critic, value_loss, 0.1)
    ready = made.recipe(data)
    assert_close(ready["advantage"], advantage)
    assert_close(ready["value_target"], target)
    if frame is PPO:
        assert_close(ready["log_prob"].flatten(), log_prob.detach())
    figures = made.learn(episodes(ready))
    assert_close(figures["policy_loss"], policy_loss.detach())
    assert_close(figures["value_loss"], value_loss.detach())
    assert_close(parameters(made.actor), want[0])
    assert_close(parameters(made.critic), want[1])


@pytest.mark.parametrize("frame", [A2C, PPO])
def test_updates_of_recurrent_policies_go_over_episodes(frame: Any) -> None:
    one, other = on_policy(frame), on_policy(frame)
    data = trajectory(LENGTHS, DISCRETE, ends=ENDS)
    for made in (one, other):
        made.actor_update_times = made.critic_update_times = 1
        made.store(data)
    one.epochs = 1
    assert_close(one.update(), other.update())
    assert_close(parameters(*one.top_models), parameters(*other.top_models))
    assert not one._rollouts


@pytest.mark.parametrize("actor", [RecurrentDiscrete, ActorDiscrete])
@pytest.mark.parametrize("frame", [A2C, PPO])
def test_actions_may_be_a_column_of_numbers(frame: Any, actor: Any) -> None:
    found = []
    for narrow in (False, True):
        made = on_policy(frame, actor)
        data = trajectory(LENGTHS, DISCRETE, ends=ENDS)
        if narrow:
            data = data.with_columns(action=data["action"].squeeze(1))
        found.append((made.learn(episodes(made.recipe(data))), parameters(*made.top_models)))
    assert_close(found[1], found[0])


def test_episodes_of_recurrent_policies_are_stored_whole() -> None:
    ppo = on_policy(PPO)
    for network in ppo.top_models:
        network.float()
    for end in ("terminated", "truncated", "cut"):
        ppo.store_episode(episode(4, DISCRETE, end=end))
    assert [each["terminated"].any().item() for each in ppo._rollouts] == [True, False, False]
    before = parameters(*ppo.top_models)
    ppo.update()
    with pytest.raises(AssertionError):
        assert_close(parameters(*ppo.top_models), before)
    with pytest.raises(ValueError, match=r"must be at least 1, got 0"):
        ppo.store_episode([])


def next_values(made: Any, data: Trajectory) -> Tensor:
    """min Q'(s', pi'(s')), where networks saw all that came before, with stored actions in the
    first step and drawn ones after it."""
    found = []
    policy = made.actor if isinstance(made, SAC) else made.actor_target
    for i, part in enumerate(segments(data)):
        whole = whole_states(data, i, part)
        results = unrolled(policy, whole)[0]
        chosen = torch.cat([data["action"][part][:1], *[each[0] for each in results[1:]]])
        each = []
        for name in made._critics:
            said = unrolled(getattr(made, f"{name}_target"), whole, chosen)[0]
            each.append(torch.cat([result[0].flatten() for result in said])[1:])
        value = each[0] if len(each) == 1 else torch.minimum(*each)
        if isinstance(made, SAC):
            value = value - torch.cat([result[1].flatten() for result in results[1:]])
        found.append(value)
    return torch.cat(found).detach()


def judged_by(critic: nn.Module, data: Trajectory, action: Tensor) -> Tensor:
    found = []
    for part in segments(data):
        said = unrolled(critic, data["state"][part], action[part])[0]
        found += [each[0].flatten() for each in said]
    return torch.cat(found)


@pytest.mark.parametrize("frame", [DDPG, TD3, SAC])
def test_recurrent_actors_and_critics_learn_step_by_step(frame: Any) -> None:
    made = actor_critic(frame)
    data = trajectory(LENGTHS, CONTINUOUS, ends=ENDS)
    y = data["reward"] + 0.9 * next_values(made, data) * ~data["terminated"]
    want, losses = {}, []
    for name in made._critics:
        q = judged_by(getattr(made, name), data, data["action"])
        losses.append((q - y).square().mean())
        want[name] = after_sgd(getattr(made, name), losses[-1], 0.1)
    other = copy.deepcopy(made)
    for name, values in want.items():
        with torch.no_grad():
            for x, new in zip(getattr(other, name).parameters(), values, strict=True):
                x.copy_(new)
    results = [
        each for part in segments(data) for each in unrolled(other.actor, data["state"][part])[0]
    ]
    action = torch.cat([each[0] for each in results])
    q = [judged_by(getattr(other, name), data, action) for name in made._critics]
    if frame is SAC:
        log_prob = torch.cat([each[1].flatten() for each in results])
        policy_loss = (log_prob - torch.minimum(*q)).mean()
    else:
        policy_loss = -q[0].mean()
    want["actor"] = after_sgd(other.actor, policy_loss, 0.1)
    figures = made.learn(episodes(data))
    assert_close(figures["value_loss"], sum(losses).detach() / len(losses))
    assert_close(figures["policy_loss"], policy_loss.detach())
    for name, values in want.items():
        assert_close(parameters(getattr(made, name)), values)


# -- padding -------------------------------------------------------------------------------------

LEARNERS = {
    "DQN": (dqn, DISCRETE),
    "DRQN with fixed target": (lambda: dqn(mode="fixed_target"), DISCRETE),
    "feed-forward DQN": (lambda: dqn(QNet), DISCRETE),
    "A2C": (lambda: on_policy(A2C), DISCRETE),
    "PPO": (lambda: on_policy(PPO), DISCRETE),
    "PPO with a GRU": (lambda: on_policy(PPO, gru_policy), DISCRETE),
    "feed-forward PPO": (lambda: on_policy(PPO, ActorDiscrete, ValueNet), DISCRETE),
    "TRPO": (lambda: on_policy(TRPO, gru_policy), DISCRETE),
    "DDPG": (lambda: actor_critic(DDPG), CONTINUOUS),
    "TD3": (lambda: actor_critic(TD3), CONTINUOUS),
    "SAC": (lambda: actor_critic(SAC, target_entropy=0.3), CONTINUOUS),
    "feed-forward SAC": (lambda: actor_critic(SAC, SureActor, Critic), CONTINUOUS),
    "discrete SAC": (lambda: actor_critic(SAC, gru_policy, RecurrentQ, discrete=True), DISCRETE),
}


def prepared(made: Any, kind: str, lengths: tuple[int, ...] = LENGTHS) -> Trajectory:
    data = trajectory(lengths, kind, ends=ENDS)
    return made.recipe(data) if isinstance(made, A2C) else data


@pytest.mark.parametrize("name", LEARNERS)
def test_what_stands_in_padding_does_not_matter(name: str) -> None:
    make, kind = LEARNERS[name]
    found = []
    for bad in (None, float("nan"), 1e30):
        made = make()
        batch = episodes(prepared(made, kind))
        assert batch.mask is not None and not batch.mask.all()
        if bad is not None:
            columns = {}
            for key in batch.names():
                column = batch[key]
                if column.is_floating_point():
                    mask = batch.mask.view(*batch.mask.shape, *[1] * (column.dim() - 2))
                    columns[key] = column.masked_fill(~mask, bad)
            batch = materialized(batch, **columns)
        figures = made.learn(batch)
        found.append((figures, parameters(*made.top_models)))
    assert_close(found[1], found[0], atol=1e-12, rtol=1e-12)
    assert_close(found[2], found[0], atol=1e-12, rtol=1e-12)


# -- states ---------------------------------------------------------------------------------------


def states_before(net: nn.Module, data: Trajectory, *names: str) -> Tensor:
    """``[N, size]``."""
    found = []
    for part in segments(data):
        found += unrolled(net, *(data[name][part] for name in names))[1]
    return torch.cat(found).detach()


def inputs_of(name: str, made: Any) -> tuple[str, ...]:
    judges_actions = name.startswith("critic") and isinstance(made, DDPG | SAC)
    return (
        ("state", "action") if judges_actions and not getattr(made, "discrete", 0) else ("state",)
    )


RECURRENT = [name for name in LEARNERS if "forward" not in name]


@pytest.mark.parametrize("name", RECURRENT)
def test_burn_in_only_moves_states_on(name: str) -> None:
    """As if the states that it ends in had been stored, which carry no gradient."""
    make, kind = LEARNERS[name]
    one, other = make(), make()
    data = prepared(one, kind, (6, 4, 7))
    window = plans.windows(data, batch_size=8, length=5, burn_in=2)
    batch = next(iter(window))
    assert batch.burn_in == 2 and not batch.mask.all()
    start, columns = batch.index, {}
    for network in other.get_top_model_names():
        reached = []
        for begin in start.tolist():
            end = min(begin + 2, int(data.bounds[data.bounds > begin][0]))
            steps = [data[each][begin:end] for each in inputs_of(network, other)]
            reached.append(_after(getattr(other, network), *steps))
        columns[f"hidden_{network}"] = torch.cat(reached).detach().expand(3, -1, -1)
    rest = {each: batch[each][2:] for each in batch.names()}
    later = Batch({**rest, **columns}, batch.index, None, mask=batch.mask[2:])
    assert_close(one.learn(batch), other.learn(later))
    assert_close(parameters(*one.top_models), parameters(*other.top_models))


def _after(net: nn.Module, *steps: Tensor) -> Tensor:
    hidden = None
    names = ("state", "action")[: len(steps)]
    for rows in zip(*steps, strict=True):
        inputs = {name: x[None] for name, x in zip(names, rows, strict=True)}
        hidden = net(**inputs, hidden=hidden)[-1]
    assert hidden is not None
    return hidden


def test_a_window_goes_on_from_the_state_that_was_stored() -> None:
    """Errors in its steps are those of the whole episode."""
    made = dqn()
    data = trajectory((9,), DISCRETE)
    remember = transforms.chain(
        transforms.hidden(made.qnet, "hidden_qnet"),
        transforms.hidden(made.qnet_target, "hidden_qnet_target"),
    )
    _, errors = dqn_loss(made, data)
    ready = remember(data)
    assert_close(ready["hidden_qnet"], states_before(made.qnet, data, "state"))
    batch = next(iter(plans.windows(ready, batch_size=6, length=3)))
    assert len(batch.index.unique()) > 1
    want = [errors[0][begin + t] ** 2 for begin in batch.index.tolist() for t in range(3)]
    figures = made.learn(batch)
    assert_close(figures["value_loss"].item(), sum(want) / len(want))


def test_slices_of_an_episode_go_on_from_the_states_that_were_stored() -> None:
    ppo = on_policy(PPO)
    data = trajectory((9,), DISCRETE)
    remember = transforms.chain(
        transforms.hidden(ppo.actor, "hidden_actor"), transforms.hidden(ppo.critic, "hidden_critic")
    )
    whole = remember(data)
    final = torch.stack([data["state"][4], data.final["state"][0]])
    slices = Trajectory(whole.columns, [0, 4, 9], final={"state": final})
    for name in ("value", "log_prob"):
        assert_close(ppo.recipe(slices)[name], ppo.recipe(whole)[name])
    without = slices.without_columns("hidden_actor", "hidden_critic")
    with pytest.raises(AssertionError):
        assert_close(ppo.recipe(without)["value"], ppo.recipe(whole)["value"])


def test_a_target_starts_from_the_state_of_the_network_that_it_follows() -> None:
    one, other = dqn(), dqn()
    data = trajectory((9,), DISCRETE)
    stored = torch.randn(9, SIZE, dtype=torch.float64)
    alone = data.with_columns(hidden_qnet=stored)
    both = data.with_columns(hidden_qnet=stored, hidden_qnet_target=stored)
    assert_close(one.learn(episodes(alone)), other.learn(episodes(both)))


def test_a_state_of_the_actor_is_not_taken_for_that_of_a_critic() -> None:
    found = []
    for extra in ({}, {"hidden": torch.randn(9, SIZE, dtype=torch.float64)}):
        made = on_policy(A2C)
        data = trajectory(LENGTHS, DISCRETE, ends=ENDS).with_columns(**extra)
        found.append((made.recipe(data)["value"], made.learn(episodes(made.recipe(data)))))
    assert_close(found[0][0], found[1][0])
    assert_close(found[0][1]["value_loss"], found[1][1]["value_loss"])
    with pytest.raises(AssertionError):
        assert_close(found[0][1]["policy_loss"], found[1][1]["policy_loss"])


def test_one_number_an_action_may_be_a_column_of_numbers() -> None:
    class Critic1(RecurrentCritic):
        def __init__(self) -> None:
            super().__init__()
            self.into = nn.Linear(5, SIZE)

    class Actor1(RecurrentActor):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(SIZE, 1)

    data = trajectory((6, 5), CONTINUOUS)
    data = data.with_columns(action=data["action"][:, 0])
    made = actor_critic(DDPG, Actor1, Critic1)
    made.over(plans.windows(data, batch_size=4, length=4, burn_in=2))


# -- priorities -----------------------------------------------------------------------------------


@pytest.mark.parametrize("burn_in", [0, 1])
def test_windows_get_their_priorities_back(burn_in: int) -> None:
    made = dqn()
    data = trajectory((7, 2), DISCRETE, dtype=torch.float64)
    replay = Replay(100, priority="window", window=4, alpha=1.0, epsilon=0.0)
    replay.append(data)
    written: list[tuple[list[int], list[float]]] = []
    put = replay.update_priority

    def update_priority(index: Tensor, priority: Tensor) -> None:
        written.append((index.tolist(), priority.tolist()))
        put(index, priority)

    replay.update_priority = update_priority  # type: ignore[method-assign]
    other = copy.deepcopy(made.qnet), copy.deepcopy(made.qnet_target)
    made.over(plans.windows(replay, batch_size=6, length=4, burn_in=burn_in))
    ((index, priority),) = written
    made.qnet, made.qnet_target = other
    for begin, got in zip(index, priority, strict=True):
        end = 7 if begin < 7 else 9
        size = min(4, end - begin)
        final = data.final["state"][int(end == 9)]
        after = data["state"][begin + size] if begin + size < end else final
        part = Trajectory(
            {name: data[name][begin : begin + size] for name in ("state", "action", "reward")}
            | {"terminated": data["terminated"][begin : begin + size]},
            final={"state": after[None]},
        )
        _, errors = dqn_loss(made, part)
        real = errors[0][burn_in:]
        assert_close(got, 0.9 * max(real) + 0.1 * sum(real) / len(real), atol=1e-5, rtol=1e-5)


# -- networks without memory ----------------------------------------------------------------------

FLAT = {
    "DQN": (lambda: dqn(QNet), DISCRETE),
    "vanilla DQN": (lambda: dqn(QNet, "vanilla"), DISCRETE),
    "DQN with more outputs": (lambda: dqn(QNetExtra), DISCRETE),
    "A2C": (lambda: on_policy(A2C, ActorDiscrete, ValueNet), DISCRETE),
    "PPO": (lambda: on_policy(PPO, ActorDiscrete, ValueNet), DISCRETE),
    "DDPG": (lambda: actor_critic(DDPG, Actor, Critic), CONTINUOUS),
    "TD3": (lambda: actor_critic(TD3, Actor, Critic), CONTINUOUS),
    "SAC": (lambda: actor_critic(SAC, SureActor, Critic, target_entropy=0.3), CONTINUOUS),
    "discrete SAC": (
        lambda: actor_critic(SAC, lambda: CategoricalPolicy(QNet()), QNet, discrete=True),
        DISCRETE,
    ),
}


@pytest.mark.parametrize("name", FLAT)
def test_networks_without_memory_learn_from_sequences_as_from_rows(name: str) -> None:
    make, kind = FLAT[name]
    one, other = make(), make()
    data = prepared(one, kind)
    rows = next(iter(plans.full(data)))
    assert_close(one.learn(episodes(data)), other.learn(rows))
    assert_close(parameters(*one.top_models), parameters(*other.top_models))


# -- the program of the design -------------------------------------------------------------------


def test_sac_with_burn_in_learns_from_a_prioritized_replay() -> None:
    sac = actor_critic(SAC, target_entropy="auto")
    replay = Replay(1000, priority="window", window=6)
    remember = transforms.chain(
        transforms.hidden(sac.actor, "hidden_actor"),
        transforms.hidden(sac.critic, "hidden_critic", action="action"),
        transforms.hidden(sac.critic2, "hidden_critic2", action="action"),
    )
    replay.append(remember(trajectory((20, 9, 3), CONTINUOUS, ends=ENDS)))
    before = replay.masses().clone()
    figures = sac.over(plans.windows(replay, batch_size=8, length=6, burn_in=2, batches=3))
    assert set(figures) == {"policy_loss", "value_loss", "alpha", "entropy"}
    assert (replay.masses() != before).any()
    sac.replay_buffer, sac.batch_size = replay, 4
    sac.update()


@pytest.mark.parametrize("make", [dqn, lambda: actor_critic(SAC)])
def test_rewards_of_several_steps_are_refused_as_sequences(make: Any) -> None:
    kind = DISCRETE if make is dqn else CONTINUOUS
    data = trajectory(LENGTHS, kind, ends=ENDS)
    one, other = make(), make()
    discount = torch.full((9,), 0.9, dtype=torch.float64)
    same = one.learn(episodes(data.with_columns(discount=discount)))
    assert_close(same, other.learn(episodes(data)))
    with pytest.raises(ValueError, match="next_state must be the state of the next step in seq"):
        one.learn(episodes(transforms.nstep(3, 0.9)(data)))


def test_weights_are_of_whole_sequences() -> None:
    made = dqn()
    data = trajectory(LENGTHS, DISCRETE, ends=ENDS)
    _, errors = dqn_loss(made, data)
    weight = [0.2, 1.0, 0.6]
    batch = episodes(data)
    batch.weight = torch.tensor(weight)
    total = sum(w * e**2 for w, each in zip(weight, errors, strict=True) for e in each)
    assert_close(made.learn(batch)["value_loss"].item(), total / 9)


def test_wrong_shapes_of_sequences_are_named() -> None:
    batch = episodes(trajectory(LENGTHS, CONTINUOUS, ends=ENDS))
    with pytest.raises(ValueError, match=r"critic_target must return \[6, 3, 1\], got \[6, 3, 3\]"):
        actor_critic(DDPG, critic=RecurrentQ).learn(batch)
    wrong = materialized(batch, reward=torch.zeros(5, 3, 2))
    with pytest.raises(ValueError, match=r"reward must be one number a row, got \[5, 3, 2\]"):
        actor_critic(DDPG).learn(wrong)
