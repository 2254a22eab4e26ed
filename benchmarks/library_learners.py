"""Learners of stable-baselines3 and tianshou, and how they are called.

Each has its own networks of the same sizes, its own replay, and its own figures to report.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

from benchmarks.learners import (
    ALPHA,
    ATOMS,
    BETA,
    BOUND,
    CLIP,
    CRITIC_STEPS,
    DELAY,
    DISCOUNT,
    DIVERGENCE,
    ENVS,
    HIGH,
    LAMBDA,
    LOW,
    NOISE,
    RATE,
    SEARCHES,
    STEPS,
    TEMPERATURE,
    Task,
    Update,
    experience,
    prove_moves,
    restorer,
    tensors,
)
from benchmarks.peers import PeerError, load


class Spaces(gymnasium.Env[Any, Any]):
    """What a library asks for to know the spaces; nobody steps it."""

    def __init__(self, task: Task) -> None:
        self.observation_space, self.action_space = task.spaces()

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return np.zeros(self.observation_space.shape or (), np.float32), {}


# -- stable-baselines3 ----------------------------------------------------------------------------


def stable_baselines3(task: Task) -> Update:
    """``train``, one gradient step as its default is. Its DQN is not double: a forward less."""
    sb3 = load("stable_baselines3")
    if not hasattr(sb3, task.algorithm):
        raise PeerError(f"it has no {task.algorithm}")
    logger = load("stable_baselines3.common.logger").Logger(None, [])
    build = _sb3_on_policy if task.on_policy else _sb3_off_policy
    model, update = build(task, getattr(sb3, task.algorithm))
    model.set_logger(logger)
    prove_moves(update, list(model.policy.parameters()))
    return update


def _sb3_off_policy(task: Task, kind: Any) -> tuple[Any, Update]:
    options: dict[str, Any] = {"tau": RATE}
    if task.algorithm == "DQN":
        options["max_grad_norm"] = math.inf
    elif task.algorithm == "TD3":
        options.update(policy_delay=DELAY, target_policy_noise=NOISE, target_noise_clip=BOUND)
    elif task.algorithm == "SAC":
        options["ent_coef"] = f"auto_{TEMPERATURE}"
    model = kind(
        "MlpPolicy",
        Spaces(task),
        learning_rate=task.learning_rate,
        buffer_size=task.rows,
        batch_size=task.batch,
        gamma=DISCOUNT,
        policy_kwargs={"net_arch": list(task.sizes)},
        device="cpu",
        **options,
    )
    data, buffer = experience(task), model.replay_buffer
    stored = (buffer.observations, buffer.actions, buffer.rewards, buffer.next_observations)
    for column, name in zip(stored, ("state", "action", "reward", "next_state"), strict=True):
        column[:] = data[name].reshape(column.shape)
    buffer.dones[:] = data["terminated"].reshape(buffer.dones.shape)
    buffer.full = True
    if task.algorithm != "DQN":
        return model, lambda: model.train(gradient_steps=1, batch_size=task.batch)
    # Its DQN moves the target while it collects.
    polyak_update = load("stable_baselines3.common.utils").polyak_update
    online, target = list(model.q_net.parameters()), list(model.q_net_target.parameters())

    def update() -> None:
        model.train(gradient_steps=1, batch_size=task.batch)
        polyak_update(online, target, RATE)

    return model, update


def _sb3_on_policy(task: Task, kind: Any) -> tuple[Any, Update]:
    options: dict[str, Any] = {}
    if task.algorithm == "PPO":
        options = {"n_epochs": task.epochs, "batch_size": task.batch, "clip_range": CLIP}
    else:
        options = {"use_rms_prop": False, "normalize_advantage": True}
    vector = load("stable_baselines3.common.vec_env").DummyVecEnv
    steps = task.rows // ENVS
    model = kind(
        "MlpPolicy",
        vector([lambda: Spaces(task) for _ in range(ENVS)]),
        learning_rate=task.learning_rate,
        n_steps=steps,
        gamma=DISCOUNT,
        gae_lambda=LAMBDA,
        max_grad_norm=task.norm,
        policy_kwargs={
            "net_arch": {"pi": list(task.sizes), "vf": list(task.sizes)},
            "activation_fn": nn.Tanh,
        },
        device="cpu",
        **options,
    )
    data, buffer = experience(task), model.rollout_buffer
    with torch.no_grad():
        state, action = torch.from_numpy(data["state"]), torch.from_numpy(data["action"])
        value, log_prob, _ = model.policy.evaluate_actions(state, action)
        last = model.policy.predict_values(torch.from_numpy(data["next_state"][-ENVS:]))
    ended = data["terminated"].reshape(steps, ENVS)
    starts = np.concatenate([np.ones((1, ENVS)), ended[:-1]])

    def update() -> None:
        # What collecting leaves there; ``get`` reshapes it.
        buffer.reset()
        stored = (buffer.observations, buffer.actions, buffer.rewards, buffer.values,
                  buffer.log_probs, buffer.episode_starts)  # fmt: skip
        given = (data["state"], data["action"], data["reward"], value.numpy(), log_prob.numpy(),
                 starts)  # fmt: skip
        for column, rows in zip(stored, given, strict=True):
            column[:] = rows.reshape(column.shape)
        buffer.full = True
        buffer.compute_returns_and_advantage(last, ended[-1])
        model.train()

    return model, update


# -- tianshou -------------------------------------------------------------------------------------


def tianshou(task: Task) -> Update:
    """``update``. Its DQN copies the target network, here at each update, as others move it."""
    made = _tianshou_on_policy(task) if task.on_policy else _tianshou_off_policy(task)
    algorithm, update = made
    algorithm.policy.is_within_training_step = True
    trained = [x for x in algorithm.policy.parameters() if x.requires_grad]
    prove_moves(update, trained)
    return update


def _tianshou_off_policy(task: Task) -> tuple[Any, Update]:
    data = load("tianshou.data")
    rows = experience(task)
    columns = {
        "obs": rows["state"], "act": rows["action"], "rew": rows["reward"],
        "terminated": rows["terminated"], "truncated": np.zeros_like(rows["terminated"]),
        "done": rows["terminated"], "obs_next": rows["next_state"],
    }  # fmt: skip
    if task.prioritized:
        buffer = data.PrioritizedReplayBuffer(task.rows, alpha=ALPHA, beta=BETA)
    else:
        buffer = data.ReplayBuffer(task.rows)
    # As from_data does, whose argument is no prioritized buffer.
    buffer.set_batch(data.Batch(**columns))
    buffer._size = task.rows
    buffer._insertion_idx = 0
    buffer.last_index = np.array([task.rows - 1])
    if task.prioritized:
        buffer.init_weight(np.arange(task.rows))
    algorithm = _TIANSHOU[task.algorithm](task)
    return algorithm, lambda: algorithm.update(buffer=buffer, sample_size=task.batch)


def _adam(task: Task) -> Any:
    return load("tianshou.algorithm.optim").AdamOptimizerFactory(lr=task.learning_rate)


def _net(task: Task, **options: Any) -> Any:
    common = load("tianshou.utils.net.common")
    return common.Net(state_shape=(task.width,), hidden_sizes=task.sizes, **options)


def tianshou_q_policy(task: Task) -> Any:
    """A policy that takes the best of discrete actions."""
    states, actions = task.spaces()
    return load("tianshou.algorithm.modelfree.dqn").DiscreteQLearningPolicy(
        model=_net(task, action_shape=(task.actions,)),
        action_space=actions,
        observation_space=states,
    )


def _tianshou_dqn(task: Task) -> Any:
    return load("tianshou.algorithm").DQN(
        policy=tianshou_q_policy(task),
        optim=_adam(task),
        gamma=DISCOUNT,
        target_update_freq=1,
        is_double=True,
    )


def _tianshou_rainbow(task: Task) -> Any:
    noisy = load("tianshou.utils.net.discrete").NoisyLinear
    states, actions = task.spaces()
    stream = {"hidden_sizes": (task.hidden,), "linear_layer": noisy}
    model = load("tianshou.utils.net.common").Net(
        state_shape=(task.width,),
        action_shape=(task.actions,),
        hidden_sizes=(task.hidden,),
        softmax=True,
        num_atoms=ATOMS,
        dueling_param=(stream, stream),
        linear_layer=noisy,
    )
    policy = load("tianshou.algorithm.modelfree.c51").C51Policy(
        model=model,
        action_space=actions,
        observation_space=states,
        num_atoms=ATOMS,
        v_min=LOW,
        v_max=HIGH,
    )
    return load("tianshou.algorithm.modelfree.rainbow").RainbowDQN(
        policy=policy,
        optim=_adam(task),
        gamma=DISCOUNT,
        n_step_return_horizon=STEPS,
        target_update_freq=1,
    )


def _critic(task: Task) -> Any:
    net = _net(task, action_shape=(task.actions,), concat=True)
    return load("tianshou.utils.net.continuous").ContinuousCritic(preprocess_net=net)


def _deterministic(task: Task) -> Any:
    states, actions = task.spaces()
    actor = load("tianshou.utils.net.continuous").ContinuousActorDeterministic(
        preprocess_net=_net(task), action_shape=(task.actions,)
    )
    return load("tianshou.algorithm.modelfree.ddpg").ContinuousDeterministicPolicy(
        actor=actor, action_space=actions, observation_space=states
    )


def _tianshou_ddpg(task: Task) -> Any:
    return load("tianshou.algorithm").DDPG(
        policy=_deterministic(task),
        policy_optim=_adam(task),
        critic=_critic(task),
        critic_optim=_adam(task),
        tau=RATE,
        gamma=DISCOUNT,
    )


def _tianshou_td3(task: Task) -> Any:
    return load("tianshou.algorithm").TD3(
        policy=_deterministic(task),
        policy_optim=_adam(task),
        critic=_critic(task),
        critic_optim=_adam(task),
        critic2=_critic(task),
        critic2_optim=_adam(task),
        tau=RATE,
        gamma=DISCOUNT,
        policy_noise=NOISE,
        update_actor_freq=DELAY,
        noise_clip=BOUND,
    )


def _tianshou_sac(task: Task) -> Any:
    modelfree = load("tianshou.algorithm.modelfree.sac")
    states, actions = task.spaces()
    actor = load("tianshou.utils.net.continuous").ContinuousActorProbabilistic(
        preprocess_net=_net(task),
        action_shape=(task.actions,),
        unbounded=True,
        conditioned_sigma=True,
    )
    policy = modelfree.SACPolicy(actor=actor, action_space=actions, observation_space=states)
    return modelfree.SAC(
        policy=policy,
        policy_optim=_adam(task),
        critic=_critic(task),
        critic_optim=_adam(task),
        critic2=_critic(task),
        critic2_optim=_adam(task),
        tau=RATE,
        gamma=DISCOUNT,
        alpha=modelfree.AutoAlpha(-float(task.actions), math.log(TEMPERATURE), _adam(task)),
    )


_TIANSHOU = {
    "DQN": _tianshou_dqn, "DQNPer": _tianshou_dqn, "RAINBOW": _tianshou_rainbow,
    "DDPG": _tianshou_ddpg, "TD3": _tianshou_td3, "SAC": _tianshou_sac,
}  # fmt: skip


def tianshou_actor_critic(task: Task) -> tuple[Any, Any]:
    """A policy of discrete actions, and a critic."""
    discrete = load("tianshou.utils.net.discrete")
    states, actions = task.spaces()
    actor = discrete.DiscreteActor(
        preprocess_net=_net(task, activation=nn.Tanh),
        action_shape=(task.actions,),
        softmax_output=False,
    )
    policy = load("tianshou.algorithm.modelfree.reinforce").DiscreteActorPolicy(
        actor=actor, action_space=actions, observation_space=states
    )
    return policy, discrete.DiscreteCritic(preprocess_net=_net(task, activation=nn.Tanh))


def _tianshou_on_policy(task: Task) -> tuple[Any, Update]:
    module = load("tianshou.algorithm")
    policy, critic = tianshou_actor_critic(task)
    options: dict[str, Any] = {"gamma": DISCOUNT, "gae_lambda": LAMBDA, "max_batchsize": task.rows}
    if task.algorithm == "TRPO":
        options.update(
            max_kl=DIVERGENCE, max_backtracks=SEARCHES, backtrack_coeff=0.5,
            optim_critic_iters=CRITIC_STEPS,
        )  # fmt: skip
    else:
        options.update(max_grad_norm=task.norm, ent_coef=0.0)
    if task.algorithm == "PPO":
        options["eps_clip"] = CLIP
    algorithm = getattr(module, task.algorithm)(
        policy=policy, critic=critic, optim=_adam(task), **options
    )
    buffer = _tianshou_rollout(task)
    restore = restorer(task, policy.actor)

    def update() -> None:
        restore()
        algorithm.update(buffer=buffer, batch_size=task.batch, repeat=task.epochs)

    return algorithm, update


def _tianshou_rollout(task: Task) -> Any:
    """The experience as its collectors leave it: one environment after the other."""
    data = load("tianshou.data")
    rows = {
        name: x.view(-1, ENVS, *x.shape[1:]).transpose(0, 1).flatten(0, 1).numpy()
        for name, x in tensors(task).items()
    }
    truncated = np.zeros_like(rows["terminated"]).reshape(ENVS, -1)
    truncated[:, -1] = True  # which is how it is told where an environment's steps end
    truncated = truncated.ravel() & ~rows["terminated"]
    buffer = data.ReplayBuffer.from_data(
        obs=rows["state"],
        act=rows["action"],
        rew=rows["reward"],
        terminated=rows["terminated"],
        truncated=truncated,
        done=rows["terminated"] | truncated,
        obs_next=rows["next_state"],
    )
    buffer.last_index = np.array([task.rows - 1])
    return buffer
