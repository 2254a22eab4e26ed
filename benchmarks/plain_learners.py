"""The same algorithms in plain torch, each as one readable script would have it (CleanRL's manner).

Losses are not waited for, nothing is checked, and replays are tensors that are indexed: so these
are what our overhead is measured against. With ``fused=True`` optimizers are torch's fused ones,
which is what a user can do who knows of them.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn
from torch.distributions import Categorical, Normal, kl_divergence

from benchmarks import learners
from benchmarks.learners import (
    ALPHA,
    ATOMS,
    BETA,
    BOUND,
    CLIP,
    CRITIC_STEPS,
    DAMPING,
    DELAY,
    DISCOUNT,
    DIVERGENCE,
    ENVS,
    HIGH,
    ITERATIONS,
    LAMBDA,
    LOW,
    NOISE,
    RATE,
    SEARCHES,
    STEPS,
    TEMPERATURE,
    Task,
    Update,
    restorer,
    tensors,
)
from machin_fast.data import Batch

Rows = dict[str, Tensor]


def plain(task: Task, *, fused: bool = False) -> Update:
    update: Update = LEARNERS[task.algorithm](task, fused=fused).update
    return update


def mlp(
    inputs: int, outputs: int, hidden: int, activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), activation(),
        nn.Linear(hidden, hidden), activation(),
        nn.Linear(hidden, outputs),
    )  # fmt: skip


class Learner:
    """What all have in common.

    Attributes:
        nets: In the order of our class's ``top_models``.
    """

    def __init__(self, task: Task, *, fused: bool = False) -> None:
        self.task = task
        self.more = {"fused": True} if fused else {}
        self.nets: list[nn.Module] = []
        torch.manual_seed(0)
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def optimizer(self, *nets: nn.Module) -> torch.optim.Optimizer:
        parameters = itertools.chain(*(net.parameters() for net in nets))
        made: torch.optim.Optimizer = self.task.optimizer(
            parameters, lr=self.task.learning_rate, **self.more
        )
        return made

    def update(self) -> object:
        raise NotImplementedError


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def follow(target: nn.Module, online: nn.Module) -> None:
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.data.copy_(RATE * fast.data + (1 - RATE) * slow.data)


# -- off-policy ---------------------------------------------------------------------------------


class OffPolicy(Learner):
    def __init__(self, task: Task, *, fused: bool = False) -> None:
        self.updates = 0
        self.rows: Rows = {}
        super().__init__(task, fused=fused)

    def store(self, rows: Rows) -> None:
        self.rows = rows
        self.mass = torch.ones(len(rows["reward"]), dtype=torch.float64)

    def update(self) -> object:
        if not self.rows:
            self.store(self.stored())
        if self.task.prioritized:
            return self.update_prioritized()
        index = torch.randint(self.task.rows, (self.task.batch,))
        return self.learn({name: x[index] for name, x in self.rows.items()})[:2]

    def update_prioritized(self) -> object:
        """At 1e5 rows, to scan all priorities is faster than a tree written in Python."""
        n = self.task.batch
        sums = self.mass.cumsum(0)
        draws = (torch.arange(n) + torch.rand(n, dtype=torch.float64)) * (sums[-1] / n)
        index = torch.searchsorted(sums, draws, right=True).clamp_(max=len(sums) - 1)
        mass = self.mass[index]
        weight = (mass / mass.min()).pow(-BETA).float()
        rows = {name: x[index] for name, x in self.rows.items()}
        loss, _, error = self.learn(rows, weight)
        self.mass[index] = (error.abs().double() + 1e-6).pow(ALPHA)
        return loss

    def stored(self) -> Rows:
        return tensors(self.task)

    def learn(self, rows: Rows, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Value loss, policy loss if there is one, and TD errors."""
        raise NotImplementedError


class DQN(OffPolicy):
    def build(self) -> None:
        self.q = mlp(self.task.width, self.task.actions, self.task.hidden)
        self.q_target = copy.deepcopy(self.q)
        self.nets = [self.q, self.q_target]
        self.optim = self.optimizer(self.q)

    def learn(self, rows: Rows, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            best = self.q(rows["next_state"]).argmax(1, keepdim=True)
            following = self.q_target(rows["next_state"]).gather(1, best).squeeze(1)
            target = rows["reward"] + DISCOUNT * following * ~rows["terminated"]
        value = self.q(rows["state"]).gather(1, rows["action"].unsqueeze(1)).squeeze(1)
        error = target - value.detach()
        if weight is None:
            loss = F.mse_loss(value, target)
        else:
            loss = (weight * F.mse_loss(value, target, reduction="none")).mean()
        step(self.optim, loss)
        follow(self.q_target, self.q)
        return loss.detach(), loss.detach(), error


class NoisyLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        most = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-most, most))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-most, most))
        self.weight_std = nn.Parameter(torch.full((outputs, inputs), 0.5 * most))
        self.bias_std = nn.Parameter(torch.full((outputs,), 0.5 * most))

    def forward(self, x: Tensor) -> Tensor:
        of_input, of_output = (scaled_noise(n) for n in reversed(self.weight.shape))
        weight = self.weight + self.weight_std * torch.outer(of_output, of_input)
        return F.linear(x, weight, self.bias + self.bias_std * of_output)


def scaled_noise(size: int) -> Tensor:
    x = torch.randn(size)
    return x.sign() * x.abs().sqrt()


class RainbowNet(nn.Module):
    """Logits of the atoms of all actions."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        hidden, self.actions = task.hidden, task.actions
        self.body = nn.Sequential(NoisyLinear(task.width, hidden), nn.ReLU())
        self.value = nn.Sequential(
            NoisyLinear(hidden, hidden), nn.ReLU(), NoisyLinear(hidden, ATOMS)
        )
        self.advantage = nn.Sequential(
            NoisyLinear(hidden, hidden), nn.ReLU(), NoisyLinear(hidden, task.actions * ATOMS)
        )

    def forward(self, state: Tensor) -> Tensor:
        x = self.body(state)
        advantage = self.advantage(x).view(-1, self.actions, ATOMS)
        value = self.value(x).view(-1, 1, ATOMS)
        logits: Tensor = value + advantage - advantage.mean(1, keepdim=True)
        return logits


class Rainbow(OffPolicy):
    def build(self) -> None:
        self.q = RainbowNet(self.task)
        self.q_target = copy.deepcopy(self.q)
        self.nets = [self.q, self.q_target]
        self.optim = self.optimizer(self.q)
        self.support = torch.linspace(LOW, HIGH, ATOMS)

    def stored(self) -> Rows:
        """Of three steps each, as if no episode ended within: as many rows, of the same size."""
        rows = super().stored()
        return {**rows, "discount": torch.full_like(rows["reward"], DISCOUNT**STEPS)}

    def learn(self, rows: Rows, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        n = len(rows["reward"])
        with torch.no_grad():
            following = self.q_target(rows["next_state"]).softmax(2)
            mean = (self.q(rows["next_state"]).softmax(2) * self.support).sum(2)
            following = following[torch.arange(n), mean.argmax(1)]
            discount = (rows["discount"] * ~rows["terminated"]).unsqueeze(1)
            atoms = (rows["reward"].unsqueeze(1) + discount * self.support).clamp(LOW, HIGH)
            place = (atoms - LOW) / ((HIGH - LOW) / (ATOMS - 1))
            below = place.floor().clamp(0, ATOMS - 1)
            above = place.ceil().clamp(0, ATOMS - 1)
            target = torch.zeros_like(following)
            share = above + (below == above) - place
            target.scatter_add_(1, below.long(), following * share)
            target.scatter_add_(1, above.long(), following * (place - below))
        log_prob = self.q(rows["state"])[torch.arange(n), rows["action"]].log_softmax(1)
        each = -(target * log_prob).sum(1)
        loss = each.mean() if weight is None else (weight * each).mean()
        step(self.optim, loss)
        follow(self.q_target, self.q)
        return loss.detach(), loss.detach(), each.detach()


class Critic(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.net = mlp(task.width + task.actions, 1, task.hidden)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        value: Tensor = self.net(torch.cat([state, action], 1))
        return value


class DDPG(OffPolicy):
    critics = 1

    def build(self) -> None:
        task = self.task
        self.actor = nn.Sequential(*mlp(task.width, task.actions, task.hidden), nn.Tanh())
        self.actor_target = copy.deepcopy(self.actor)
        self.q = [Critic(task) for _ in range(self.critics)]
        self.q_target = copy.deepcopy(self.q)
        first, *rest = itertools.chain(*zip(self.q, self.q_target, strict=True))
        self.nets = [self.actor, first, self.actor_target, *rest]
        self.actor_optim = self.optimizer(self.actor)
        self.q_optim = self.optimizer(*self.q)
        self.policy_loss = torch.zeros(())

    def learn(self, rows: Rows, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        state, action, next_state = rows["state"], rows["action"], rows["next_state"]
        with torch.no_grad():
            next_action = self.target_action(next_state)
            following = [q(next_state, next_action).squeeze(1) for q in self.q_target]
            least = following[0] if len(following) == 1 else torch.min(*following)
            target = rows["reward"] + DISCOUNT * least * ~rows["terminated"]
        values = [q(state, action).squeeze(1) for q in self.q]
        losses = [F.mse_loss(value, target) for value in values]
        step(self.q_optim, losses[0] if len(losses) == 1 else losses[0] + losses[1])
        self.updates += 1
        if self.critics == 1 or self.updates % DELAY == 0:
            self.policy_loss = -self.q[0](state, self.actor(state)).mean()
            step(self.actor_optim, self.policy_loss)
            follow(self.actor_target, self.actor)
            for target_q, q in zip(self.q_target, self.q, strict=True):
                follow(target_q, q)
        value_loss = torch.stack([each.detach() for each in losses]).mean()
        return value_loss, self.policy_loss.detach(), target - values[0].detach()

    def target_action(self, state: Tensor) -> Tensor:
        action: Tensor = self.actor_target(state)
        return action


class TD3(DDPG):
    critics = 2

    def target_action(self, state: Tensor) -> Tensor:
        action = self.actor_target(state)
        noise = (torch.randn_like(action) * NOISE).clamp(-BOUND, BOUND)
        noisy: Tensor = (action + noise).clamp(-1, 1)
        return noisy


class SAC(OffPolicy):
    def build(self) -> None:
        task = self.task
        self.actor = mlp(task.width, 2 * task.actions, task.hidden)
        self.q = [Critic(task) for _ in range(2)]
        self.q_target = copy.deepcopy(self.q)
        self.nets = [self.actor, *itertools.chain(*zip(self.q, self.q_target, strict=True))]
        self.actor_optim = self.optimizer(self.actor)
        self.q_optim = self.optimizer(*self.q)
        self.log_alpha = nn.Parameter(torch.tensor([math.log(TEMPERATURE)]))
        self.alpha_optim = task.optimizer([self.log_alpha], lr=task.learning_rate, **self.more)

    def draw(self, state: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(state).chunk(2, 1)
        normal = Normal(mean, log_std.clamp(-20, 2).exp())
        x = normal.rsample()
        slope = 2 * (math.log(2) - x - F.softplus(-2 * x))
        return x.tanh(), (normal.log_prob(x) - slope).sum(1)

    def learn(self, rows: Rows, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        state, action, next_state = rows["state"], rows["action"], rows["next_state"]
        alpha = self.log_alpha.detach().exp()
        with torch.no_grad():
            next_action, log_prob = self.draw(next_state)
            least = torch.min(*(q(next_state, next_action).squeeze(1) for q in self.q_target))
            following = least - alpha * log_prob
            target = rows["reward"] + DISCOUNT * following * ~rows["terminated"]
        values = [q(state, action).squeeze(1) for q in self.q]
        losses = [F.mse_loss(value, target) for value in values]
        value_loss = losses[0] + losses[1]
        step(self.q_optim, value_loss)

        drawn, log_prob = self.draw(state)
        least = torch.min(*(q(state, drawn).squeeze(1) for q in self.q))
        policy_loss = (alpha * log_prob - least).mean()
        step(self.actor_optim, policy_loss)

        surplus = log_prob.detach() - self.task.actions
        step(self.alpha_optim, (-self.log_alpha.exp() * surplus).mean())
        for target_q, q in zip(self.q_target, self.q, strict=True):
            follow(target_q, q)
        return value_loss.detach() / 2, policy_loss.detach(), target - values[0].detach()


# -- on-policy ----------------------------------------------------------------------------------


class OnPolicy(Learner):
    """``update`` is what follows a rollout: advantages, then gradient steps."""

    def build(self) -> None:
        task = self.task
        self.actor = mlp(task.width, task.actions, task.hidden, nn.Tanh)
        self.critic = mlp(task.width, 1, task.hidden, nn.Tanh)
        self.nets = [self.actor, self.critic]
        self.optim = self.optimizer(self.actor, self.critic)
        self.data: Rows = {}

    @torch.no_grad()
    def collect(self) -> None:
        """What a user has at hand after collecting: values and log-probabilities of what was
        seen, ``[steps, envs, ...]``."""
        rows = {name: x.view(-1, ENVS, *x.shape[1:]) for name, x in tensors(self.task).items()}
        rows["value"] = self.critic(rows["state"]).squeeze(-1)
        rows["last_value"] = self.critic(rows["next_state"][-1]).squeeze(-1)
        rows["log_prob"] = Categorical(logits=self.actor(rows["state"])).log_prob(rows["action"])
        self.data = rows

    def update(self) -> object:
        if not self.data:
            self.collect()
        return self.learn(prepared(self.data))

    def learn(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Means of the value loss and the policy loss."""
        order = np.arange(self.task.rows)
        losses = []
        for _ in range(self.task.epochs):
            np.random.shuffle(order)
            for start in range(0, self.task.rows, self.task.batch):
                index = order[start : start + self.task.batch]
                losses.append(self.learn_batch({name: x[index] for name, x in rows.items()}))
        value, policy = (torch.stack(each).mean() for each in zip(*losses, strict=True))
        return value, policy

    def learn_batch(self, rows: Rows) -> tuple[Tensor, Tensor]:
        log_prob = Categorical(logits=self.actor(rows["state"])).log_prob(rows["action"])
        policy_loss = self.policy_loss(log_prob, normalized(rows["advantage"]), rows["log_prob"])
        value = self.critic(rows["state"]).squeeze(1)
        value_loss = 0.5 * F.mse_loss(value, rows["returns"])
        self.optim.zero_grad()
        (policy_loss + value_loss).backward()
        for net in self.nets:
            nn.utils.clip_grad_norm_(net.parameters(), self.task.norm)
        self.optim.step()
        return value_loss.detach(), policy_loss.detach()

    def policy_loss(self, log_prob: Tensor, advantage: Tensor, old: Tensor) -> Tensor:
        raise NotImplementedError


def normalized(advantage: Tensor) -> Tensor:
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def prepared(data: Rows) -> Rows:
    """Advantages and returns, by a loop over the steps, and all as rows."""
    reward, value = data["reward"], data["value"]
    running = (~data["terminated"]).to(reward.dtype)
    advantage = torch.zeros_like(reward)
    trace: Tensor | float = 0.0
    following = data["last_value"]
    for t in reversed(range(len(reward))):
        delta = reward[t] + DISCOUNT * following * running[t] - value[t]
        advantage[t] = trace = delta + DISCOUNT * LAMBDA * running[t] * trace
        following = value[t]
    return {
        "state": data["state"].flatten(0, 1),
        "action": data["action"].flatten(),
        "log_prob": data["log_prob"].flatten(),
        "advantage": advantage.flatten(),
        "returns": (advantage + value).flatten(),
    }


class A2C(OnPolicy):
    def policy_loss(self, log_prob: Tensor, advantage: Tensor, old: Tensor) -> Tensor:
        return -(log_prob * advantage).mean()


class PPO(OnPolicy):
    def policy_loss(self, log_prob: Tensor, advantage: Tensor, old: Tensor) -> Tensor:
        ratio = (log_prob - old).exp()
        near = ratio.clamp(1 - CLIP, 1 + CLIP)
        return torch.max(-advantage * ratio, -advantage * near).mean()


class TRPO(OnPolicy):
    def build(self) -> None:
        super().build()
        self.optim = self.optimizer(self.critic)
        self.restore: Update | None = None

    def update(self) -> object:
        if self.restore is None:
            self.restore = restorer(self.task, self.actor)
        self.restore()
        return super().update()

    def learn(self, rows: Rows) -> tuple[Tensor, Tensor]:
        policy_loss = self.learn_policy(rows)
        losses = []
        for _ in range(CRITIC_STEPS):
            value = self.critic(rows["state"]).squeeze(1)
            losses.append(0.5 * F.mse_loss(value, rows["returns"]))
            step(self.optim, losses[-1])
        return torch.stack(losses).mean().detach(), policy_loss

    def learn_policy(self, rows: Rows) -> Tensor:
        parameters = list(self.actor.parameters())
        advantage = normalized(rows["advantage"])
        now = Categorical(logits=self.actor(rows["state"]))
        old = Categorical(logits=now.logits.detach())

        def loss_of(policy: Categorical) -> Tensor:
            ratio = (policy.log_prob(rows["action"]) - rows["log_prob"]).exp()
            surrogate: Tensor = -(ratio * advantage).mean()
            return surrogate

        loss = loss_of(now)
        gradient = flat(torch.autograd.grad(loss, parameters, retain_graph=True))
        kl = kl_divergence(old, now).mean()
        slope = flat(torch.autograd.grad(kl, parameters, create_graph=True))

        def product(vector: Tensor) -> Tensor:
            second = torch.autograd.grad(slope @ vector, parameters, retain_graph=True)
            return flat(second) + DAMPING * vector

        direction = conjugate_gradient(product, -gradient)
        full = (2 * DIVERGENCE / (direction @ product(direction))).sqrt() * direction
        gain = -gradient @ full
        start = flat(parameters).detach()
        with torch.no_grad():
            for trial in range(SEARCHES):
                part = 0.5**trial
                nn.utils.vector_to_parameters(start + part * full, parameters)
                new = Categorical(logits=self.actor(rows["state"]))
                gained = loss - loss_of(new) > 0.1 * part * gain
                if gained and kl_divergence(old, new).mean() <= DIVERGENCE:
                    break
            else:
                nn.utils.vector_to_parameters(start, parameters)
        return loss.detach()


def flat(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def conjugate_gradient(product: Callable[[Tensor], Tensor], goal: Tensor) -> Tensor:
    x = torch.zeros_like(goal)
    residual, direction = goal.clone(), goal.clone()
    size = residual @ residual
    for _ in range(ITERATIONS):
        image = product(direction)
        part = size / (direction @ image)
        x += part * direction
        residual -= part * image
        new_size = residual @ residual
        if new_size < 1e-10:
            break
        direction = residual + new_size / size * direction
        size = new_size
    return x


LEARNERS: dict[str, Any] = {
    "DQN": DQN, "DQNPer": DQN, "RAINBOW": Rainbow, "DDPG": DDPG, "TD3": TD3, "SAC": SAC,
    "A2C": A2C, "PPO": PPO, "TRPO": TRPO,
}  # fmt: skip


# -- proofs -------------------------------------------------------------------------------------


def prove_equal(task: Task, **options: Any) -> None:
    """Ours and these take the same steps from the same weights on the same rows.

    In float64, so that what differs is no rounding; a natural gradient amplifies that.

    Args:
        task: Its networks; the steps are plain gradient descent, which hides no wrong gradient.
        **options: Of ours.

    Raises:
        AssertionError: Losses or parameters differ.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        _prove_equal(task, **options)
    finally:
        torch.set_default_dtype(dtype)


def _prove_equal(task: Task, **options: Any) -> None:
    rows = 32 * ENVS
    task = replace(
        task, rows=rows, batch=rows, epochs=1, learning_rate=0.01, norm=1e9,
        optimizer=torch.optim.SGD,
    )  # fmt: skip
    theirs = LEARNERS[task.algorithm](task)
    mine = learners.make(task, **options)
    nets = mine.top_models
    with torch.no_grad():
        for their_net, net in zip(theirs.nets, nets, strict=True):
            for target, source in zip(their_net.parameters(), net.parameters(), strict=True):
                if task.algorithm == "RAINBOW" and "std" in _name(net, source):
                    source.zero_()  # each forward draws its own noise
                target.copy_(source)
    if task.on_policy:
        mine.store(learners.rollout(task))
        policy, value = mine.update()
        pairs = list(zip(theirs.update(), (value, -policy), strict=True))
    else:
        pairs = _learn_both(task, theirs, mine)
    for expected, got in pairs:
        torch.testing.assert_close(torch.as_tensor(got), expected, rtol=1e-5, atol=1e-6)
    for their_net, net in zip(theirs.nets, nets, strict=True):
        for expected, parameter in zip(their_net.parameters(), net.parameters(), strict=True):
            if "std" not in _name(net, parameter):
                torch.testing.assert_close(parameter, expected, rtol=1e-5, atol=1e-6)


def _learn_both(task: Task, theirs: Any, mine: Any) -> list[tuple[Tensor, Any]]:
    rows, weight = theirs.stored(), None
    columns = dict(rows)
    if task.prioritized:
        weight = torch.linspace(0.1, 1, task.rows)
    batch = Batch(columns, torch.arange(task.rows), weight)
    pairs = []
    # Of SAC one step: CleanRL's temperature learns by its logarithm, ours as Machin's does.
    for seed in range(1 if task.algorithm == "SAC" else 4):
        torch.manual_seed(seed)
        value_loss, policy_loss, _ = theirs.learn(rows, weight)
        torch.manual_seed(seed)
        figures = mine.learn(batch)
        pairs.append((value_loss, figures["value_loss"]))
        if "policy_loss" in figures and (task.algorithm != "TD3" or seed % DELAY):
            pairs.append((policy_loss, figures["policy_loss"]))
    return pairs


def _name(net: nn.Module, parameter: Tensor) -> str:
    return next(name for name, each in net.named_parameters() if each is parameter)
