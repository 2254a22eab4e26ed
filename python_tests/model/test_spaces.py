"""Networks made for spaces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from machin_fast.model import for_spaces, safe_call
from machin_fast.model.nets import (
    MLP,
    Chain,
    Distributional,
    ImpalaCNN,
    NatureCNN,
    NoisyLinear,
    Recurrent,
    StateActionCritic,
    without_noise,
)
from machin_fast.policies import (
    CategoricalPolicy,
    DeterministicPolicy,
    GaussianPolicy,
    MultiCategoricalPolicy,
    TanhGaussianPolicy,
)

VECTOR = spaces.Box(-1, 1, (3,), np.float64)
BOX = spaces.Box(np.array([-2, 0], np.float32), np.array([3, 1], np.float32))
UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,))
DISCRETE = spaces.Discrete(4)
OBSERVATIONS = {
    "vector": VECTOR,
    "matrix": spaces.Box(-1, 1, (3, 2)),
    "number": spaces.Box(-1, 1, ()),
    "image": spaces.Box(0, 255, (3, 12, 10), np.uint8),
    "image, channels last": spaces.Box(0, 255, (12, 10, 3), np.uint8),
    "gray image": spaces.Box(0, 255, (12, 10), np.uint8),
    "discrete": spaces.Discrete(5),
    "multi discrete": spaces.MultiDiscrete([3, 4]),
    "multi binary": spaces.MultiBinary(4),
    "tuple": spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (2,))]),
    "dict": spaces.Dict(
        values=spaces.MultiBinary(2),
        inner=spaces.Dict(goal=VECTOR, image=spaces.Box(0, 255, (9, 9, 3), np.uint8)),
    ),
}


def leaves(space: spaces.Space, prefix: str = "") -> dict[str, spaces.Space]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner = space.spaces
        pairs = inner.items() if isinstance(inner, dict) else enumerate(inner)
        return {k: v for key, each in pairs for k, v in leaves(each, f"{prefix}{key}/").items()}
    return {prefix[:-1] or "state": space}


def draw(space: spaces.Space, leading: Sequence[int]) -> dict[str, Tensor]:
    """Samples ``[*leading, ...]`` by name."""
    n = int(np.prod(leading))
    return {
        key: torch.as_tensor(np.stack([np.asarray(each.sample()) for _ in range(n)])).reshape(
            *leading, *each.shape
        )
        for key, each in leaves(space).items()
    }


# Gymnasium's numpy arrays of [batch] become [batch, 1], as policies draw them.
def drawn_action(space: spaces.Space, leading: Sequence[int]) -> Tensor:
    action = draw(space, leading)["state"]
    return action.unsqueeze(-1) if isinstance(space, spaces.Discrete) else action


# -- which networks ----------------------------------------------------------------------------

ALGORITHMS = {
    "a2c": 2, "a3c": 2, "impala": 2, "ppo": 2, "trpo": 2, "dqn": 2, "dqn_apex": 2, "dqn_per": 2,
    "rainbow": 2, "ddpg": 4, "ddpg_apex": 4, "ddpg_per": 4, "hddpg": 4, "td3": 6, "sac": 5,
}  # fmt: skip


@pytest.mark.parametrize(("algorithm", "count"), ALGORITHMS.items())
def test_networks_stand_in_the_constructors_order(algorithm, count):
    actions = DISCRETE if algorithm[:3] in ("dqn", "rai") else BOX
    nets = for_spaces(VECTOR, actions, algorithm)
    assert isinstance(nets, tuple) and len(nets) == count
    state, action = draw(VECTOR, (5,)), {"action": drawn_action(actions, (5,))}
    if count > 2:
        with_targets = nets if algorithm != "sac" else nets[1:]
        for net, target in zip(with_targets[::2], with_targets[1::2], strict=True):
            assert net is not target and type(net) is type(target)
            theirs = target.state_dict()
            for name, x in net.state_dict().items():
                assert torch.equal(x, theirs[name])
                assert x.data_ptr() != theirs[name].data_ptr()
        critics = [net for net in nets if isinstance(net, StateActionCritic)]
        assert all(safe_call(net, state, action)[0].shape == (5, 1) for net in critics)
        assert len(critics) == (2 if count == 4 else 4)
    if algorithm in ("td3", "sac"):
        first, second = [net for net in nets if isinstance(net, StateActionCritic)][::2]
        assert not torch.equal(first(**state, **action), second(**state, **action))


@pytest.mark.parametrize(
    ("actions", "algorithm", "kind", "dim"),
    [
        (DISCRETE, "ppo", CategoricalPolicy, 1),
        (spaces.MultiDiscrete([3, 2]), "a2c", MultiCategoricalPolicy, 2),
        (spaces.MultiBinary(3), "ppo", MultiCategoricalPolicy, 3),
        (BOX, "trpo", GaussianPolicy, 2),
        (UNBOUNDED, "ppo", GaussianPolicy, 2),
        (BOX, "sac", TanhGaussianPolicy, 2),
        (DISCRETE, "sac", CategoricalPolicy, 1),
        (BOX, "td3", DeterministicPolicy, 2),
    ],
)
def test_actors_suit_the_actions(actions, algorithm, kind, dim):
    actor = for_spaces(VECTOR, actions, algorithm)[0]
    assert type(actor) is kind
    (mode,) = safe_call(actor, draw(VECTOR, (200,)), method="mode")
    assert mode.shape == (200, dim)
    if kind in (TanhGaussianPolicy, DeterministicPolicy, MultiCategoricalPolicy):
        assert all(each in actions for each in mode.detach().numpy())


def test_discrete_sac_has_critics_of_all_actions():
    actor, *critics = for_spaces(VECTOR, DISCRETE, "sac")
    state = draw(VECTOR, (5,))
    assert all(safe_call(critic, state)[0].shape == (5, 4) for critic in critics)
    (policy,) = safe_call(actor, state, method="distribution")
    assert policy.log_probs().shape == (5, 4)


@pytest.mark.parametrize("recurrent", [None, "gru"])
def test_rainbow_is_noisy_dueling_and_distributional(recurrent):
    qnet, target = for_spaces(VECTOR, DISCRETE, "rainbow", atoms=11, recurrent=recurrent)
    state = draw(VECTOR, (5,))
    probability, *hidden = safe_call(qnet, state)
    assert isinstance(qnet, Distributional) and probability.shape == (5, 4, 11)
    assert len(hidden) == (recurrent is not None)
    torch.testing.assert_close(probability.sum(-1), torch.ones(5, 4))
    assert not any(isinstance(layer, nn.Linear) for layer in qnet.modules())
    assert any(isinstance(layer, NoisyLinear) for layer in qnet.modules())
    with without_noise(qnet), without_noise(target):
        assert torch.equal(safe_call(qnet, state)[0], safe_call(target, state)[0])


def test_heads_of_dqn_may_be_dueling():
    qnet, _ = for_spaces(VECTOR, DISCRETE, "dqn", dueling=True)
    state = draw(VECTOR, (5,))["state"]
    features = qnet.net(state)
    torch.testing.assert_close(qnet(state).mean(1, keepdim=True), qnet.others[0].value(features))


# -- observations ------------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent", [None, "gru", "lstm"])
@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("leading", [(1,), (3,), (2, 3)])
def test_all_observations_are_taken(observation, recurrent, leading):
    space = OBSERVATIONS[observation]
    space.seed(0)
    # Small, for time.
    small = {"hidden": (8,), "recurrent": recurrent}
    state = draw(space, leading)
    sequences = {"reset": torch.rand(leading) < 0.5} if len(leading) == 2 else {}
    nets = {
        "ppo": for_spaces(space, DISCRETE, "ppo", **small),
        "td3": for_spaces(space, BOX, "td3", **small),
        "rainbow": for_spaces(space, DISCRETE, "rainbow", **small),
    }
    action = {"action": drawn_action(BOX, leading)}
    calls = [
        (safe_call(nets["ppo"][0], state, sequences), 4),
        (safe_call(nets["ppo"][1], state, sequences), 2),
        (safe_call(nets["td3"][0], state, sequences), 2),
        (safe_call(nets["td3"][2], state, action, sequences), 2),
        (safe_call(nets["rainbow"][0], state, sequences), 2),
    ]
    for result, most in calls:
        assert len(result) == most - (recurrent is None)
        outputs = result if recurrent is None else result[:-1]
        assert all(x.shape[: len(leading)] == leading for x in outputs)
        sum(x.sum() for x in outputs if x.is_floating_point()).backward()


def test_vectors_go_straight_into_a_perceptron():
    actor, critic = for_spaces(VECTOR, BOX)
    assert type(actor.net) is MLP and type(critic) is MLP
    assert [type(layer) for layer in critic.layers] == [nn.Linear, nn.Tanh] * 2 + [nn.Linear]
    qnet, _ = for_spaces(VECTOR, DISCRETE, "dqn", hidden=(5,), layer_norm=True)
    assert [type(x) for x in qnet.layers] == [nn.Linear, nn.LayerNorm, nn.ReLU, nn.Linear]
    assert qnet.layers[0].out_features == 5
    qnet, _ = for_spaces(VECTOR, DISCRETE, "dqn", activation=nn.SiLU)
    assert type(qnet.layers[1]) is nn.SiLU


def test_policies_begin_undecided():
    actor, _ = for_spaces(VECTOR, DISCRETE)
    distribution = actor.distribution(torch.randn(100, 3))
    assert (distribution.log_probs().exp() - 0.25).abs().max() < 0.02


@pytest.mark.parametrize(
    ("shape", "cnn", "kind", "seen"),
    [
        ((84, 84, 3), None, NatureCNN, (3, 84, 84)),
        ((4, 84, 84), None, NatureCNN, (4, 84, 84)),
        ((36, 40), None, NatureCNN, (1, 36, 40)),
        ((3, 35, 84), None, ImpalaCNN, (3, 35, 84)),
        ((84, 84, 3), "impala", ImpalaCNN, (3, 84, 84)),
        ((84, 84, 3), "nature", NatureCNN, (3, 84, 84)),
    ],
)
def test_images_go_through_convolutions(shape, cnn, kind, seen):
    space = spaces.Box(0, 255, shape, np.uint8)
    qnet, _ = for_spaces(space, DISCRETE, "dqn", cnn=cnn)
    (found,) = [each for each in qnet.modules() if isinstance(each, NatureCNN | ImpalaCNN)]
    assert type(found) is kind and found.shape == seen
    assert isinstance(qnet, Chain) and len(qnet.others[0].layers) == 1, "no hidden layers behind"
    image = torch.randint(256, (2, *shape), dtype=torch.uint8)
    assert safe_call(qnet, {"state": image})[0].shape == (2, 4)


def test_behind_an_image_the_recurrent_layer_is_wide():
    space = spaces.Box(0, 255, (3, 12, 12), np.uint8)
    qnet, _ = for_spaces(space, DISCRETE, "dqn", recurrent="lstm")
    assert isinstance(qnet, Recurrent) and qnet.hidden_size == 2 * 512


def test_a_mask_is_not_observed_but_honoured():
    space = spaces.Dict(observation=VECTOR, action_mask=spaces.Box(0, 1, (4,), np.int8))
    actor, critic = for_spaces(space, DISCRETE)
    state = {
        "observation": torch.randn(50, 3),
        "action_mask": torch.tensor([0, 1, 0, 1], dtype=torch.int8).expand(50, 4),
    }
    action, *_ = safe_call(actor, state)
    assert set(action.flatten().tolist()) == {1, 3}
    assert safe_call(critic, state)[0].shape == (50, 1)
    assert actor.net.input_names == critic.input_names == {"observation"}


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((VECTOR, BOX, "dqn"), r"action_space must be Discrete for dqn, got Box\("),
        ((VECTOR, BOX, "rainbow"), "action_space must be Discrete for rainbow, got"),
        (
            (VECTOR, DISCRETE, "td3"),
            r"action_space must be a bounded Box of one dimension for td3, got Discrete\(4\)",
        ),
        (
            (VECTOR, UNBOUNDED, "sac"),
            "action_space must be Discrete, or a bounded Box of one dimension for sac, got Box",
        ),
        (
            (VECTOR, spaces.Box(-1, 1, (2, 2)), "ppo"),
            "action_space must be Discrete, MultiDiscrete from 0, MultiBinary, or Box of one "
            "dimension for ppo, got Box",
        ),
        ((VECTOR, spaces.Discrete(3, start=1)), "action_space must start at 0, got Discrete"),
        ((VECTOR, spaces.MultiDiscrete([2], start=[1])), "action_space must be Discrete, Multi"),
        ((VECTOR, spaces.Text(3)), r"action_space must be .*, got Text"),
        ((spaces.Text(3), DISCRETE), r"observation_space must be Box, .*, got Text"),
        ((spaces.Discrete(3, start=1), DISCRETE), r"observation_space must be Box, .*, got Disc"),
        ((spaces.Box(-1, 1, (0,)), DISCRETE), r"observation_space must be .*, got Box"),
        (
            (spaces.Dict(a=spaces.Tuple([spaces.Text(3)])), DISCRETE),
            r"observation_space/a/0 must be Box, .*, got Text",
        ),
        (
            (spaces.Dict(action_mask=spaces.MultiBinary(4)), DISCRETE),
            "observation_space must have something to observe, got Dict",
        ),
        ((VECTOR, DISCRETE, "dqnper"), "algorithm must be one of a2c, .*, trpo, got 'dqnper'"),
    ],
)
def test_other_spaces_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^for_spaces: {message}"):
        for_spaces(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recurrent": "rnn"}, 'recurrent must be None, "gru" or "lstm", got \'rnn\''),
        ({"cnn": "vgg"}, 'cnn must be None, "nature" or "impala", got \'vgg\''),
        (
            {"recurrent": "gru", "hidden": ()},
            r"hidden must have one or more sizes if recurrent is given, got \[\]",
        ),
    ],
)
def test_other_networks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^for_spaces: {message}"):
        for_spaces(VECTOR, DISCRETE, **arguments)


def test_gymnasium_is_imported_by_nobody_who_does_not_ask():
    code = (
        "import sys, machin_fast.model, machin_fast.policies; sys.exit('gymnasium' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
