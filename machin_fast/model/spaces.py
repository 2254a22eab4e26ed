"""Networks for environments."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from machin_fast.model.nets.chain import Chain
from machin_fast.model.nets.critic import StateActionCritic
from machin_fast.model.nets.distributional import Distributional
from machin_fast.model.nets.dueling import Dueling
from machin_fast.model.nets.images import ImpalaCNN, NatureCNN
from machin_fast.model.nets.mlp import MLP, Activation, Linear
from machin_fast.model.nets.noisy import NoisyLinear
from machin_fast.model.nets.observation import ChannelsFirst, Flat, Named, OneHot
from machin_fast.model.nets.recurrent import Recurrent

if TYPE_CHECKING:
    from gymnasium import Space

# Gymnasium and the policies, which are built on this package, are imported where they are used.

Networks = tuple[nn.Module, ...]


def for_spaces(
    observation_space: Space[Any],
    action_space: Space[Any],
    algorithm: str = "ppo",
    *,
    hidden: Sequence[int] | None = None,
    recurrent: Literal["gru", "lstm"] | None = None,
    activation: Activation | None = None,
    layer_norm: bool = False,
    cnn: Literal["nature", "impala"] | None = None,
    dueling: bool = False,
    atoms: int = 51,
) -> Networks:
    """Networks for an environment, in the order in which an algorithm's constructor takes them.

    So ``DQN(*for_spaces(observations, actions, "dqn"), torch.optim.Adam, nn.MSELoss())`` works.

    | Algorithms | Networks |
    |---|---|
    | a2c, a3c, impala, ppo, trpo | actor, critic |
    | dqn, dqn_apex, dqn_per, rainbow | qnet, its target |
    | ddpg, ddpg_apex, ddpg_per, hddpg | actor, its target, critic, its target |
    | td3 | actor, its target, critic, its target, critic 2, its target |
    | sac | actor, critic, its target, critic 2, its target |

    Targets are equal copies. Networks take the observation as ``state``; those of a ``Dict`` or
    ``Tuple`` each by its key or number, nested ones as ``outer/inner``. A key ``action_mask`` is
    not observed: discrete policies exclude actions by it. Arrays of three dimensions are images,
    of bytes also those of two; a ``Discrete`` observation has no dimension of its own, as
    Gymnasium gives it.

    Actions of a ``Box`` are bounded for ddpg, td3 and sac, and unbounded Gaussian for others: clip
    them for the environment. Of rainbow all linear layers are noisy, heads dueling.

    Source: sizes, activations and initialisation as in CleanRL and Stable-Baselines3: tanh and
    orthogonal weights on-policy, ReLU and torch's initialisation off-policy. Rainbow: Hessel et
    al. 2018, arXiv:1710.02298. SAC with discrete actions: Christodoulou 2019, arXiv:1910.07207.

    Args:
        observation_space: Of one environment: ``Box``, ``Discrete``, ``MultiDiscrete``,
            ``MultiBinary``, or a ``Dict`` or ``Tuple`` of these.
        action_space: Of one environment: ``Discrete``, ``MultiDiscrete``, ``MultiBinary``, or
            ``Box`` of one dimension.
        algorithm: One of those above.
        hidden: Sizes of hidden layers. None: 64 and 64; none behind an image.
        recurrent: The last hidden layer is a recurrent one of this kind (512 wide if ``hidden``
            is None behind an image). Networks then take ``hidden`` and ``reset`` and return their
            new state last, see ``Recurrent``.
        activation: Makes what follows hidden layers. None: ``nn.Tanh`` on-policy, else ``nn.ReLU``.
        layer_norm: Whether hidden layers are normalized.
        cnn: What sees images. None: "nature", or "impala" if they are smaller than 36x36.
        dueling: Whether heads of dqn are dueling.
        atoms: Of rainbow's distributions.

    Returns:
        The networks.

    Raises:
        ValueError: An argument is none of those above, or the algorithm has no such actions.
    """
    if algorithm not in _ALGORITHMS:
        known = ", ".join(sorted(_ALGORITHMS))
        raise ValueError(f"for_spaces: algorithm must be one of {known}, got {algorithm!r}")
    if recurrent not in (None, "gru", "lstm"):
        raise ValueError(f'for_spaces: recurrent must be None, "gru" or "lstm", got {recurrent!r}')
    if cnn not in (None, "nature", "impala"):
        raise ValueError(f'for_spaces: cnn must be None, "nature" or "impala", got {cnn!r}')
    on_policy = _ALGORITHMS[algorithm] is _actor_critic
    if hidden is None:
        image = _image_shape(observation_space) is not None
        hidden = (64, 64) if not image else (512,) if recurrent else ()
    if recurrent and not hidden:
        raise ValueError(
            "for_spaces: hidden must have one or more sizes if recurrent is given, "
            f"got {list(hidden)}"
        )
    builder = _Builder(
        algorithm,
        observation_space,
        action_space,
        tuple(hidden),
        recurrent,
        activation or (nn.Tanh if on_policy else nn.ReLU),
        layer_norm,
        cnn,
        dueling or algorithm == "rainbow",
        atoms,
    )
    return _ALGORITHMS[algorithm](builder)


@dataclass
class _Builder:
    """Makes new networks, each time it is asked."""

    algorithm: str
    observation_space: Space[Any]
    action_space: Space[Any]
    hidden: tuple[int, ...]
    recurrent: Literal["gru", "lstm"] | None
    activation: Activation
    layer_norm: bool
    cnn: Literal["nature", "impala"] | None
    dueling: bool
    atoms: int

    def network(self, outputs: int, *, gain: float | None = None, action_dim: int = 0) -> nn.Module:
        """From observations, and perhaps actions, to so many numbers."""
        if self.recurrent is None:
            return self._body(outputs, self.hidden, gain=gain, action_dim=action_dim)
        body = self._body(None, self.hidden[:-1], gain=gain, action_dim=action_dim)
        size = self.hidden[-1]
        head = MLP(size, outputs, (), gain=gain)
        return Recurrent(body, size, self.recurrent, head=head)

    def dueling_network(self, actions: int, atoms: int | None, linear: Linear) -> nn.Module:
        """From observations to a value, or a distribution of values, for each action."""
        body = self._body(None, self.hidden[:-1], linear=linear)
        streams = () if self.recurrent else self.hidden[-1:]
        size = self.hidden[-1] if self.recurrent else body.out_features
        head = Dueling(
            size,  # type: ignore[arg-type]
            actions,
            streams,
            atoms=atoms,
            activation=self.activation,
            linear=linear,
        )
        if self.recurrent is None:
            return Chain(body, head)
        return Recurrent(body, self.hidden[-1], self.recurrent, head=head)

    def _body(
        self,
        outputs: int | None,
        hidden: Sequence[int],
        *,
        gain: float | None = None,
        action_dim: int = 0,
        linear: Linear = nn.Linear,
    ) -> nn.Module:
        space = self.observation_space
        encoder = _encoder(space, self.cnn, "observation_space")
        features: int = encoder.out_features  # type: ignore[assignment]
        mlp = MLP(
            features + action_dim,
            outputs,
            hidden,
            self.activation,
            self.layer_norm,
            gain=gain,
            linear=linear,
        )
        if isinstance(encoder, Flat) and len(encoder.shape) == 1:
            return StateActionCritic(mlp) if action_dim else mlp
        return StateActionCritic(mlp, encoder) if action_dim else Chain(encoder, mlp)

    def discrete_actions(self) -> int | None:
        """Number of actions; None if they are not ``Discrete``."""
        from gymnasium import spaces

        space = self.action_space
        if not isinstance(space, spaces.Discrete):
            return None
        if space.start != 0:
            raise ValueError(f"for_spaces: action_space must start at 0, got {space}")
        return int(space.n)

    def bounded_actions(self) -> tuple[int, Any, Any] | None:
        """Entries of an action and their bounds; None if they are not a bounded vector."""
        dim = self.box_actions()
        if dim is None or not self.action_space.is_bounded():  # type: ignore[attr-defined]
            return None
        return dim, self.action_space.low, self.action_space.high  # type: ignore[attr-defined]

    def box_actions(self) -> int | None:
        from gymnasium import spaces

        space = self.action_space
        is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0
        return space.shape[0] if is_vector else None  # type: ignore[index]

    def choices(self) -> list[int] | None:
        """Numbers of actions of several choices; None if they are none."""
        from gymnasium import spaces

        space = self.action_space
        if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
            return [2] * space.shape[0]
        if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
            return None if space.start.any() else [int(n) for n in space.nvec]
        return None

    def refuse_actions(self, wanted: str) -> ValueError:
        return ValueError(
            f"for_spaces: action_space must be {wanted} for {self.algorithm}, "
            f"got {self.action_space}"
        )


# -- algorithms --------------------------------------------------------------------------------


def _actor_critic(builder: _Builder) -> Networks:
    from machin_fast import policies

    actor: nn.Module
    if (actions := builder.discrete_actions()) is not None:
        actor = policies.CategoricalPolicy(builder.network(actions, gain=0.01))
    elif (nvec := builder.choices()) is not None:
        actor = policies.MultiCategoricalPolicy(builder.network(sum(nvec), gain=0.01), nvec)
    elif (dim := builder.box_actions()) is not None:
        actor = policies.GaussianPolicy(builder.network(dim, gain=0.01), dim)
    else:
        raise builder.refuse_actions(
            "Discrete, MultiDiscrete from 0, MultiBinary, or Box of one dimension"
        )
    return actor, builder.network(1, gain=1.0)


def _qnet(builder: _Builder) -> Networks:
    if (actions := builder.discrete_actions()) is None:
        raise builder.refuse_actions("Discrete")
    if builder.dueling:
        return _with_target(builder.dueling_network(actions, None, nn.Linear))
    return _with_target(builder.network(actions))


def _rainbow(builder: _Builder) -> Networks:
    if (actions := builder.discrete_actions()) is None:
        raise builder.refuse_actions("Discrete")
    net = builder.dueling_network(actions, builder.atoms, NoisyLinear)
    return _with_target(Distributional(net))


def _ddpg(builder: _Builder, critics: int = 1) -> Networks:
    from machin_fast import policies

    if (bounded := builder.bounded_actions()) is None:
        raise builder.refuse_actions("a bounded Box of one dimension")
    dim, low, high = bounded
    actor = policies.DeterministicPolicy(builder.network(dim), low, high)
    pairs = [_with_target(builder.network(1, action_dim=dim)) for _ in range(critics)]
    return (*_with_target(actor), *(net for pair in pairs for net in pair))


def _td3(builder: _Builder) -> Networks:
    return _ddpg(builder, critics=2)


def _sac(builder: _Builder) -> Networks:
    from machin_fast import policies

    actor: nn.Module
    if (actions := builder.discrete_actions()) is not None:
        actor = policies.CategoricalPolicy(builder.network(actions))
        pairs = [_with_target(builder.network(actions)) for _ in range(2)]
    elif (bounded := builder.bounded_actions()) is not None:
        dim, low, high = bounded
        actor = policies.TanhGaussianPolicy(builder.network(2 * dim), low, high)
        pairs = [_with_target(builder.network(1, action_dim=dim)) for _ in range(2)]
    else:
        raise builder.refuse_actions("Discrete, or a bounded Box of one dimension")
    return (actor, *(net for pair in pairs for net in pair))


def _with_target(net: nn.Module) -> Networks:
    return net, copy.deepcopy(net)


_ALGORITHMS: Mapping[str, Callable[[_Builder], Networks]] = {
    **dict.fromkeys(("a2c", "a3c", "impala", "ppo", "trpo"), _actor_critic),
    **dict.fromkeys(("dqn", "dqn_apex", "dqn_per"), _qnet),
    "rainbow": _rainbow,
    **dict.fromkeys(("ddpg", "ddpg_apex", "ddpg_per", "hddpg"), _ddpg),
    "td3": _td3,
    "sac": _sac,
}


# -- observations ------------------------------------------------------------------------------


def _encoder(space: Space[Any], cnn: str | None, name: str) -> nn.Module:
    """What makes vectors of observations; it has ``out_features``."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict | spaces.Tuple):
        named = {key: each for key, each in _leaves(space).items() if key != "action_mask"}
        if not named:
            raise ValueError(f"for_spaces: {name} must have something to observe, got {space}")
        encoders = {key: _encoder(each, cnn, f"{name}/{key}") for key, each in named.items()}
        return Named(encoders)
    if (shape := _image_shape(space)) is not None:
        kind = cnn or ("nature" if min(shape[1:]) >= 36 else "impala")
        net = (NatureCNN if kind == "nature" else ImpalaCNN)(shape)
        if space.shape == shape:
            return net
        return Chain(ChannelsFirst(one_channel=len(space.shape or ()) == 2), net)
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return Chain(Flat(()), OneHot([int(space.n)]))
    if isinstance(space, spaces.MultiDiscrete) and not space.start.any():
        return Chain(Flat(space.shape), OneHot([int(n) for n in space.nvec.flatten()]))
    if isinstance(space, spaces.Box | spaces.MultiBinary) and 0 not in space.shape:
        return Flat(space.shape)
    raise ValueError(
        f"for_spaces: {name} must be Box, Discrete or MultiDiscrete from 0, MultiBinary, or a "
        f"Dict or Tuple of these, got {space}"
    )


def _leaves(space: Space[Any], prefix: str = "") -> dict[str, Space[Any]]:
    """What a space is made of, by name: nested ones as ``outer/inner``, as in columns."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        pairs = [(str(key), each) for key, each in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        pairs = [(str(i), each) for i, each in enumerate(space.spaces)]
    else:
        return {prefix.removesuffix("/"): space}
    return {
        name: leaf for key, each in pairs for name, leaf in _leaves(each, f"{prefix}{key}/").items()
    }


def _image_shape(space: Space[Any]) -> tuple[int, int, int] | None:
    """``[channels, height, width]`` of images; None if a space has none."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Box) or 0 in space.shape:
        return None
    if len(space.shape) == 2 and space.dtype == "uint8":
        return (1, *space.shape)
    if len(space.shape) != 3:
        return None
    # The channels are fewer than the rows of an image.
    first, second, third = space.shape
    return (third, first, second) if third < first else (first, second, third)
