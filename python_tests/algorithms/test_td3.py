"""TD3."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from experience import after_sgd, follow, parameters, transitions
from machin_fast.algorithms import TD3
from off_policy import OffPolicyTests, load, make


class TestContract(OffPolicyTests):
    frame = TD3
    models = ["networks.Actor"] * 2 + ["networks.Critic"] * 4
    rates = {"actor_optim": 0, "critic_optim": 1, "critic2_optim": 2}
    flags = {
        "update_value": ("critic", "critic2"),
        "update_policy": ("actor",),
        "update_target": ("actor_target", "critic_target", "critic2_target"),
    }


def next_value(td3: TD3, batch: Any, action: Tensor) -> Tensor:
    """The lower of what the two target critics say of each row."""
    with torch.no_grad():
        found = []
        for state, chosen in zip(batch["next_state"], action, strict=True):
            critics = (td3.critic_target, td3.critic2_target)
            found.append(min(each(state[None], chosen[None]).item() for each in critics))
    return torch.tensor(found, dtype=torch.float64)


def test_an_update_is_that_of_the_equations() -> None:
    td3 = make(TD3)
    batch = transitions(16)
    with torch.no_grad():
        action = td3.actor_target(batch["next_state"])
    y = batch["reward"] + 0.9 * next_value(td3, batch, action) * ~batch["terminated"]
    want: dict[str, list[Tensor]] = {}
    losses = []
    for name in ("critic", "critic2"):
        critic = getattr(td3, name)
        q = critic(batch["state"], batch["action"]).flatten()
        losses.append(((q - y) ** 2).mean())
        want[name] = after_sgd(critic, losses[-1], 0.2)
    critic = copy.deepcopy(td3.critic)
    load(critic, want["critic"])
    policy_loss = -critic(batch["state"], td3.actor(batch["state"])).mean()
    want["actor"] = after_sgd(td3.actor, policy_loss, 0.1)
    for name in list(want):
        want[f"{name}_target"] = follow(parameters(getattr(td3, f"{name}_target")), want[name], 0.1)
    figures = td3.learn(batch)
    assert_close(figures["value_loss"], (losses[0] + losses[1]).detach() / 2)
    assert_close(figures["policy_loss"], policy_loss.detach())
    for name, values in want.items():
        assert_close(parameters(getattr(td3, name)), values)


def test_the_critics_differ_about_who_is_lower() -> None:
    """Else the test above would say little."""
    td3, batch = make(TD3), transitions(16)
    with torch.no_grad():
        action = td3.actor_target(batch["next_state"])
        both = [c(batch["next_state"], action) for c in (td3.critic_target, td3.critic2_target)]
    assert 0 < (both[0] < both[1]).sum() < 16


@pytest.mark.parametrize("hard", [False, True])
def test_actor_and_targets_move_in_every_second_update(hard: bool) -> None:
    rates = {"update_rate": None, "update_steps": 1} if hard else {}
    td3 = make(TD3, policy_delay=2, **rates)
    slow = [td3.actor, td3.actor_target, td3.critic_target, td3.critic2_target]
    before = parameters(*slow)
    for _ in range(2):
        quick = parameters(td3.critic, td3.critic2)
        td3.learn(transitions(5))
        with pytest.raises(AssertionError):
            assert_close(parameters(td3.critic, td3.critic2), quick)
        assert_close(parameters(*slow), before, atol=0, rtol=0)
        td3.learn(transitions(5))
        for network, old in zip(slow, before, strict=False):
            with pytest.raises(AssertionError):
                assert_close(parameters(network)[0], old)
        before = parameters(*slow)


def test_the_delay_goes_on_where_a_state_was_taken() -> None:
    one, other = make(TD3, policy_delay=2), make(TD3, policy_delay=2)
    one.learn(transitions(5))
    other.load_state_dict(one.state_dict())
    before = parameters(other.actor)
    other.learn(transitions(5))
    with pytest.raises(AssertionError):
        assert_close(parameters(other.actor), before)


def test_a_failed_update_is_not_counted() -> None:
    td3 = make(TD3, policy_delay=2)
    with pytest.raises(ValueError, match="TD3: value loss must be finite"):
        td3.learn(transitions(2, reward=torch.full((2,), torch.nan, dtype=torch.float64)))
    before = parameters(td3.actor)
    td3.learn(transitions(5))
    assert_close(parameters(td3.actor), before, atol=0, rtol=0)


@pytest.mark.parametrize("limits", [None, (-0.4, 0.3)])
def test_target_actions_get_clipped_noise(limits: Any) -> None:
    td3 = make(TD3, target_noise=(2.0, 0.5), action_range=limits)
    seen: list[Tensor] = []
    known = td3.critic_target
    known.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["action"]), with_kwargs=True
    )
    batch = transitions(400)
    with torch.no_grad():
        clean = td3.actor_target(batch["next_state"])
    torch.manual_seed(0)
    td3.learn(batch)
    noise = seen[0] - clean
    if limits is None:
        assert_close(noise.abs().max().item(), 0.5)
        inside = noise[noise.abs() < 0.5 - 1e-9]
        # Of a deviation of 2, P(|x| < 0.5) is 0.1974.
        assert 0.14 < inside.numel() / noise.numel() < 0.26
        assert inside.unique().numel() == inside.numel()
    else:
        assert (seen[0].min(), seen[0].max()) == limits


def test_policy_noise_may_be_a_function() -> None:
    batch = transitions(6)

    def half(actions: Tensor, *_: Any) -> Tensor:
        return actions / 2

    one, other = (
        make(TD3),
        make(type("Half", (TD3,), {"policy_noise_function": staticmethod(half)})),
    )
    one.policy_noise_function = half
    with torch.no_grad():
        action = one.actor_target(batch["next_state"]) / 2
    y = batch["reward"] + 0.9 * next_value(one, batch, action) * ~batch["terminated"]
    loss = sum(
        ((c(batch["state"], batch["action"]).flatten() - y) ** 2).mean() / 2
        for c in (one.critic, one.critic2)
    )
    assert_close(one.learn(batch)["value_loss"], loss.detach())
    assert_close(other.learn(batch)["value_loss"], loss.detach())


def test_actions_with_noise_of_a_function_are_clamped_as_well() -> None:
    td3, batch = make(TD3, action_range=(-0.4, 0.3)), transitions(50)
    seen: list[Tensor] = []
    td3.policy_noise_function = lambda actions: actions * 10
    td3.action_transform_function = lambda raw, *_: seen.append(raw) or {"action": raw}
    td3.learn(batch)
    assert (seen[0].min(), seen[0].max()) == (-0.4, 0.3)
    assert seen[1].abs().max() > 0.4  # the policy's own actions are left alone


def test_the_second_critic_can_be_asked() -> None:
    td3, batch = make(TD3), transitions(3)
    state, action = {"state": batch["state"]}, {"action": batch["action"]}
    assert_close(td3._criticize2(state, action), td3.critic2(batch["state"], batch["action"]))
    want = td3.critic2_target(batch["state"], batch["action"])
    assert_close(td3._criticize2(state, action, use_target=True), want)


def test_options_out_of_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="TD3: policy_delay must be at least 1"):
        make(TD3, policy_delay=0)
    with pytest.raises(ValueError, match="TD3: target_noise must be a pair of numbers or None"):
        make(TD3, target_noise=0.2)
    with pytest.raises(ValueError, match="TD3: action_range must be a pair of numbers or None"):
        make(TD3, action_range=(1.0,))
