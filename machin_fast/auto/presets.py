"""Defaults of the command line, by algorithm and kind of environment.

They are those with which the learning runs in docs/learning.md reached their goals. No torch in
here: the command line reads it for ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Actions = Literal["discrete", "choices", "bounded", "box"]
"""Kinds of actions: one of several, several of these, a vector within bounds, any vector."""

EVERY: tuple[Actions, ...] = ("discrete", "choices", "bounded", "box")


@dataclass(frozen=True)
class Preset:
    """How an algorithm is used where nobody says otherwise.

    Attributes:
        frame: Name of its class.
        actions: Kinds of actions that it can choose.
        options: Arguments of the class.
        networks: Keyword arguments of ``model.for_spaces``.
        replay: Arguments of its ``Replay``; None: it learns on policy.
        training: Fields of ``training.Settings``.
        envs: Environments side by side.
    """

    frame: str
    actions: tuple[Actions, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    networks: Mapping[str, Any] = field(default_factory=dict)
    replay: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    envs: int = 8

    def but(self, **changes: Any) -> Preset:
        """Another one; mappings are added to those here."""
        for name in ("options", "networks", "replay", "training"):
            if changes.get(name) is not None:
                changes[name] = {**(getattr(self, name) or {}), **changes[name]}
        return replace(self, **changes)


# Layer norm steadies learning of values, even without target networks (Gallici et al. 2024,
# arXiv:2407.04811).
_WIDE = {"hidden": [128, 128], "layer_norm": True}
_UNIFORM = {"capacity": 100_000}
_PRIORITIZED = {"capacity": 100_000, "priority": "step"}

_DQN = Preset(
    "DQN", ("discrete",),
    {
        "optimizer": "Adam", "criterion": "HuberLoss", "batch_size": 64, "learning_rate": 1e-3,
        "update_rate": 0.01, "gradient_max": 10.0, "discount": 0.99,
    },
    _WIDE, _UNIFORM,
    {"rollout": 16, "updates": 32, "warm_up": 1000, "epsilon_steps": 10_000, "reward_steps": 3},
)  # fmt: skip
_DDPG = Preset(
    "DDPG", ("bounded",),
    {
        "optimizer": "Adam", "criterion": "MSELoss", "batch_size": 128, "update_rate": 0.005,
        "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3, "discount": 0.99,
    },
    {}, _UNIFORM,
    {"rollout": 8, "updates": 32, "warm_up": 1000, "noise": 0.2, "evaluation_every": 1000},
    envs=4,
)  # fmt: skip
_PPO = Preset(
    "PPO", EVERY,
    {
        "optimizer": "Adam", "criterion": "MSELoss", "batch_size": 256, "epochs": 10,
        "gae_lambda": 0.95, "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3,
        "discount": 0.99,
    },
    training={"rollout": 64},
)  # fmt: skip

PRESETS: dict[str, Preset] = {
    "a2c": _PPO.but(
        frame="A2C", envs=16, training={"rollout": 16},
    ),
    "ddpg": _DDPG,
    "ddpg_per": _DDPG.but(frame="DDPGPer", replay=_PRIORITIZED),
    "dqn": _DQN,
    "dqn_per": _DQN.but(frame="DQNPer", replay=_PRIORITIZED),
    "hddpg": _DDPG.but(frame="HDDPG", options={"q_decrease_rate": 0.9}),
    "ppo": _PPO,
    "rainbow": replace(
        _DQN.but(
            frame="RAINBOW", replay=_PRIORITIZED,
            # It explores by the noise of its layers, and sums rewards by itself.
            training={"epsilon_start": 0.0, "epsilon_end": 0.0, "reward_steps": 1},
        ),
        options={
            "optimizer": "Adam", "batch_size": 64, "learning_rate": 1e-3, "update_rate": 0.01,
            "gradient_max": 10.0, "discount": 0.99, "value_min": -100.0, "value_max": 100.0,
        },
    ),
    "sac": _DDPG.but(
        frame="SAC", actions=("bounded", "discrete"),
        options={"target_entropy": "auto", "initial_entropy_alpha": 0.2},
    ),
    "td3": _DDPG.but(frame="TD3", options={"policy_delay": 2}),
    "trpo": Preset(
        "TRPO", EVERY,
        {
            "optimizer": "Adam", "criterion": "MSELoss", "batch_size": 256,
            "critic_update_times": 20, "gae_lambda": 0.95, "critic_learning_rate": 3e-3,
            "kl_max_delta": 0.02, "discount": 0.99,
        },
        training={"rollout": 64},
    ),
}  # fmt: skip
_A2C_ONCE = {
    "epochs": None, "actor_update_times": 1, "critic_update_times": 1, "entropy_weight": -0.01,
    "actor_learning_rate": 2e-3, "critic_learning_rate": 2e-3, "gradient_max": 0.5,
}  # fmt: skip
PRESETS["a2c"] = PRESETS["a2c"].but(options=_A2C_ONCE)

_ON_POLICY = ("a2c", "ppo", "trpo")
_LONG_ROLLOUTS: dict[str, Any] = {
    "envs": 16, "training": {"rollout": 128, "evaluation_every": 10_000},
}  # fmt: skip


def for_actions(algorithm: str, actions: Actions) -> dict[str, Any]:
    """What is different with such actions, as arguments of ``Preset.but``."""
    if algorithm == "sac" and actions == "discrete":
        return {
            "envs": 8, "networks": _WIDE,
            "options": {
                "discrete": True, "batch_size": 64, "update_rate": 0.01,
                "actor_learning_rate": 3e-4,
            },
            "training": {"rollout": 16, "reward_steps": 3, "evaluation_every": 2000},
        }  # fmt: skip
    if algorithm in _ON_POLICY and actions in ("bounded", "box"):
        return _LONG_ROLLOUTS
    return {}


_SHORT_SIGHTED = {"options": {"discount": 0.9}}  # rewards tell of what was just done
FOR_ENVIRONMENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("ppo", "Pendulum-v1"): _SHORT_SIGHTED,
    ("a2c", "Pendulum-v1"): _SHORT_SIGHTED,
    ("trpo", "Pendulum-v1"): {
        "options": {"discount": 0.9, "critic_update_times": 80, "critic_learning_rate": 1e-3}
    },
    ("rainbow", "CartPole-v1"): {"options": {"value_min": 0.0, "value_max": 100.0}},
}
"""What is different in single environments."""

GOALS = {"Pendulum-v1": -200.0}
"""Where Gymnasium knows no threshold of its own."""

# As in Mnih et al. 2015: learning from images takes more of them, and smaller steps.
_IMAGES_ON_POLICY: dict[str, Any] = {
    "options": {"actor_learning_rate": 2.5e-4, "critic_learning_rate": 2.5e-4, "epochs": 4},
    "training": {"rollout": 128},
}
_IMAGES_OFF_POLICY: dict[str, Any] = {
    "networks": {"hidden": [512], "layer_norm": False},
    "options": {"learning_rate": 1e-4},
    "training": {"rollout": 4, "updates": 8, "warm_up": 20_000, "epsilon_steps": 250_000,
                 "evaluation_every": 50_000, "checkpoint_every": 250_000},
}  # fmt: skip


def for_images(algorithm: str) -> dict[str, Any]:
    """What is different where observations are images."""
    if algorithm in ("ppo", "a2c"):
        return _IMAGES_ON_POLICY
    return _IMAGES_OFF_POLICY if algorithm in ("dqn", "dqn_per", "rainbow") else {}


def preset(algorithm: str, *, env: str, actions: Actions, images: bool) -> Preset:
    """How an algorithm is used in an environment where nobody says otherwise.

    Args:
        algorithm: A key of ``PRESETS``.
        env: Name of the environment.
        actions: Kind of its actions.
        images: Whether it shows images.

    Returns:
        The preset.
    """
    found = PRESETS[algorithm].but(**for_actions(algorithm, actions))
    if images:
        found = found.but(**for_images(algorithm))
    return found.but(**FOR_ENVIRONMENTS.get((algorithm, env), {}))
