"""A subclass of A2C that imitates its own good episodes, by the methods and attributes of A2C."""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms.a2c import A2C
from machin.frame.algorithms.utils import hard_update, safe_call, soft_update
from machin.frame.buffers.prioritized_buffer import PrioritizedBuffer
from machin.utils.logging import default_logger as logger
from torch.distributions import Categorical

max_episodes = int(os.environ.get("EPISODES", "1000"))


class Actor(nn.Module):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, action_num)

    def forward(self, state, action=None):
        dist = Categorical(logits=self.fc2(t.relu(self.fc1(state))))
        act = dist.sample().view(-1, 1) if action is None else action
        return act, dist.log_prob(act.view(-1)).view(-1, 1), dist.entropy().view(-1, 1)


class Critic(nn.Module):
    def __init__(self, state_dim):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 1)

    def forward(self, state):
        return self.fc2(t.relu(self.fc1(state)))


class A2CSIL(A2C):
    def __init__(self, *args, sil_update_times=2, sil_replay_size=5000, **kwargs):
        super().__init__(*args, **kwargs)
        self.sil_update_times = sil_update_times
        self.sil_buffer = PrioritizedBuffer(sil_replay_size, "cpu")

    def store_episode(self, episode):
        super().store_episode(episode)
        # what the frame has added is needed
        self.sil_buffer.store_episode(
            episode,
            required_attrs=("state", "action", "next_state", "reward", "terminal", "value"),
        )

    def update(self, update_value=True, update_policy=True, concatenate_samples=True, **__):
        losses = super().update(update_value, update_policy, concatenate_samples)
        self.actor.train()
        self.critic.train()
        for _ in range(self.sil_update_times):
            size, batch, index, weight = self.sil_buffer.sample_batch(
                self.batch_size,
                concatenate_samples,
                device="cpu",
                sample_attrs=["state", "action", "value"],
                additional_concat_custom_attrs=["value"],
            )
            state, action, returns = batch
            weight = t.tensor(weight, dtype=t.float32).view(size, 1)
            value = self._criticize(state)
            clipped = (returns - value).clamp(min=0)
            _, log_prob, *_ = self._eval_act(state, action)
            policy_loss = -(log_prob * clipped.detach() * weight).mean()
            value_loss = self.value_weight * (clipped**2 * weight).mean()
            for loss, net, optim in (
                (policy_loss, self.actor, self.actor_optim),
                (value_loss, self.critic, self.critic_optim),
            ):
                optim.zero_grad()
                self.backward_function(loss)
                nn.utils.clip_grad_norm_(net.parameters(), self.grad_max)
                optim.step()
            self.sil_buffer.update_priority(clipped.detach().flatten().numpy(), index)
        self.actor.eval()
        self.critic.eval()
        return (*losses, value_loss.item())


if __name__ == "__main__":
    env = gym.make("CartPole-v1", max_episode_steps=200)
    frame = A2CSIL(
        Actor(4, 2),
        Critic(4),
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        batch_size=50,
        gradient_max=5.0,
        sil_update_times=3,
    )
    average = Critic(4)
    hard_update(average, frame.critic)
    for episode in range(max_episodes):
        terminal = False
        state = t.tensor(env.reset()[0]).view(1, 4)
        steps = []
        while not terminal:
            old_state = state
            action = frame.act({"state": old_state})[0]
            state, reward, done, cut, _ = env.step(action.item())
            state = t.tensor(state).view(1, 4)
            terminal = done or cut
            steps.append(
                {
                    "state": {"state": old_state},
                    "action": {"action": action},
                    "next_state": {"state": state},
                    "reward": reward,
                    "terminal": terminal,
                }
            )
        frame.store_episode(steps)
        policy_value, value_loss, sil_loss = frame.update()
        soft_update(average, frame.critic, 0.1)
        (value,) = safe_call(average, {"state": state, "other": None})
        logger.info(
            f"Episode {episode} reward={len(steps)} policy_loss={-policy_value} "
            f"value_loss={value_loss} sil_loss={sil_loss} value={value.item():.2f}"
        )
