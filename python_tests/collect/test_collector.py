"""``Collector`` against a plain loop over one environment at a time."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn

from collect.counting import MODES, NUM_ENVS, Counting, choose, make, plain_loop, transitions
from machin_fast.algorithms import DQN
from machin_fast.collect import Collector
from machin_fast.data import Replay, transforms
from machin_fast.env import ActorPool
from machin_fast.env.native import NativeEnv
from machin_fast.model import for_spaces


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    # 10,000 rows; and environments that use their memory again.
    ("chunk", "calls", "copy"),
    [(1, 60, True), (400, 9, True), (7, 20, False)],
)
def test_transitions_are_those_of_a_plain_loop(mode, chunk, calls, copy):
    collector = Collector(make(mode, copy=copy), choose)
    parts, returns, lengths = [], [], []
    for _ in range(calls):
        parts.append(collector.steps(chunk))
        returns += collector.episode_returns
        lengths += collector.episode_lengths
    wanted_returns, wanted_lengths = [], []
    for number in range(NUM_ENVS):
        found = [row for part in parts for row in transitions(part, number)]
        wanted, of_returns, of_lengths = plain_loop(number, len(found))
        assert found == wanted
        wanted_returns += of_returns
        wanted_lengths += of_lengths
    assert sorted(returns) == sorted(wanted_returns)
    assert sorted(lengths) == sorted(wanted_lengths)
    rows, whole = sum(map(len, parts)), chunk * len(parts) * NUM_ENVS
    assert rows < whole if mode == AutoresetMode.NEXT_STEP else rows == whole


def test_a_single_environment_is_stepped_as_a_vector_of_one():
    collector = Collector(Counting(2), choose)
    assert transitions(collector.steps(2000), 2) == plain_loop(2, 2000)[0]


def test_a_pool_of_processes_gives_the_same():
    mode = AutoresetMode.SAME_STEP
    factories = [partial(Counting, i) for i in range(NUM_ENVS)]
    with closing(ActorPool(factories, num_workers=2, autoreset_mode=mode)) as pool:
        trajectory = Collector(pool, choose).steps(40)
    for number in range(NUM_ENVS):
        found = transitions(trajectory, number)
        assert found == plain_loop(number, len(found))[0]


class Endless(Counting):
    def step(self, action):
        self.t += 1
        return self._observe(), 1.0, False, False, {}


@pytest.mark.parametrize("mode", MODES)
def test_what_was_lost_with_a_worker_is_no_row(mode):
    factories = [partial(Endless, i) for i in range(3)]
    pool = ActorPool(factories, num_workers=1, autoreset_mode=mode, on_worker_death="restart")
    calls = 0

    def act(state):
        nonlocal calls
        calls += 1
        if calls == 5:
            os.kill(pool.workers[0].pid, signal.SIGKILL)
        return choose(state)

    with closing(pool):
        collector = Collector(pool, act)
        trajectory = collector.steps(12)
        assert collector.episode_returns == []  # none has come to its end
    lost = pool.num_envs - 1  # environment 0 is the parent's
    assert trajectory.segments == pool.num_envs + lost
    assert not trajectory["truncated"].any()
    t = trajectory["state"][:, 2]
    assert torch.equal(t, trajectory.position.float())  # each segment begins with an episode
    assert torch.equal(trajectory.next("state")[:, 2], t + 1)
    steps = 1 if mode != AutoresetMode.NEXT_STEP else 2  # that brought nothing
    assert len(trajectory) == 12 * pool.num_envs - lost * steps


@pytest.mark.parametrize("mode", MODES)
def test_environments_of_tensors_give_the_same(mode, device):
    def collected(**where):
        envs = NativeEnv("CartPole-v1", 4, autoreset_mode=mode, max_episode_steps=20, **where)

        def act(state):
            balancing = (state["state"][:, 2] + state["state"][:, 3] > 0).long()
            balancing[2:] = 0  # these fall
            return balancing

        collector = Collector(envs, act, seed=0)
        return collector.steps(60), collector.episode_lengths

    found, lengths = collected(device=device, output="torch")
    wanted, wanted_lengths = collected()
    assert found.device.type == device.type
    assert lengths == wanted_lengths
    assert max(lengths) == 20 > min(lengths)
    assert torch.equal(found.bounds, wanted.bounds)
    for name, x in wanted.columns.items():
        torch.testing.assert_close(found[name].cpu(), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.final["state"].cpu(), wanted.final["state"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_what_a_cut_episode_is_still_worth_is_exact(mode):
    """Values of final observations, and none behind what terminated."""
    value = transforms.values(lambda state: state.sum(1) / 8)
    trajectory = value(Collector(make(mode), choose).steps(30))
    last = trajectory.last
    final = trajectory.next("state")[last].sum(1) / 8
    assert torch.equal(trajectory.next("value")[last], final)
    advantage = transforms.gae(0.5, 0.0)(trajectory)["advantage"]
    future = trajectory.next("state").sum(1) / 8 * ~trajectory["terminated"]
    wanted = trajectory["reward"] + 0.5 * future - trajectory["value"]
    torch.testing.assert_close(advantage, wanted)


def test_a_rollout_is_not_copied():
    collector = Collector(make(AutoresetMode.SAME_STEP), choose)
    rollout = collector.steps(8).rollout()
    assert rollout["state"].shape == (8, NUM_ENVS, 3)
    assert rollout["state"].dtype == torch.float32
    assert rollout["action"].shape == (8, NUM_ENVS, 1)
    assert rollout["state"][:, 1, 0].tolist() == [1] * 8


def test_memory_is_used_again_when_nobody_has_it():
    collector = Collector(make(AutoresetMode.SAME_STEP), choose)
    first, second = collector.steps(8), collector.steps(8)
    before = second["state"].clone()
    address = first["state"].data_ptr()
    view = first["state"][2:3].numpy()
    del first
    third = collector.steps(8)
    assert third["state"].data_ptr() != address  # there is a view
    address = third["state"].data_ptr()
    del third
    assert collector.steps(8)["state"].data_ptr() == address
    assert torch.equal(second["state"], before)
    assert view.tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 300])
def test_episodes_are_whole_and_as_many_as_asked_for(mode, n):
    collector = Collector(make(mode), choose)
    collector.steps(2)  # leaves some half-way
    trajectory = collector.episodes(n)
    ended = trajectory["terminated"] | trajectory["truncated"]
    assert trajectory.segments == n == int(ended.sum())
    assert ended[trajectory.last].all()
    assert (trajectory["state"][trajectory.bounds[:-1], 2] == 0).all()
    assert collector.episode_lengths == [
        int(1 + (e + number) % 4) for e, number in _in_order_of_their_ends(trajectory)
    ]
    total = torch.zeros(n).index_add_(0, trajectory.segment_of_row, trajectory["reward"])
    assert sorted(collector.episode_returns) == sorted(total.tolist())


def _in_order_of_their_ends(trajectory):
    """Number of the episode and the environment, of each segment."""
    first = trajectory["state"][trajectory.bounds[:-1]]
    clock: dict[float, int] = {}
    ends = []
    for (number, episode, _), length in zip(
        first.tolist(), trajectory.lengths.tolist(), strict=True
    ):
        clock[number] = clock.get(number, 0) + length
        ends.append((clock[number], number, episode))
    return [(int(episode), int(number)) for _, number, episode in sorted(ends)]


def test_episodes_are_not_chosen_by_their_length():
    """Of those that begin first, none is left out for being long."""
    collector = Collector(make(AutoresetMode.SAME_STEP), choose)
    trajectory = collector.episodes(5)
    first = trajectory["state"][trajectory.bounds[:-1], :2].long().tolist()
    # Episodes of 1, 2 and 3 steps begin at once; then one in 0 (2 steps), one in 1 (3 steps).
    assert first == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]]


class Nested(gymnasium.Env):
    observation_space = Dict(
        near=Box(-1, 1, (2,)), far=Tuple((Discrete(9), Dict(deep=MultiBinary(3))))
    )
    action_space = Box(np.array([-1, -np.inf], np.float32), np.array([1, 2], np.float32))

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        return self._observe(), 1.0, self.t == 4, False, {}

    def _observe(self):
        bits = np.array([self.t & 1, self.t >> 1 & 1, self.t >> 2], np.int8)
        return {"near": np.full(2, self.t / 8, np.float32), "far": (self.t, {"deep": bits})}


@pytest.mark.parametrize("mode", MODES)
def test_nested_observations_are_nested_columns(mode):
    seen = []

    def act(state):
        seen.append(sorted(state))
        return torch.full((2, 2), 7.0)  # beyond the bounds

    trajectory = Collector(SyncVectorEnv([Nested] * 2, autoreset_mode=mode), act).steps(10)
    assert seen[0] == ["far/0", "far/1/deep", "near"]
    t = trajectory["state/far/0"]
    after = trajectory.next("state/far/0")
    assert torch.equal(after, t + 1)
    assert torch.equal(trajectory.next("state/near"), torch.stack([after, after], 1) / 8)
    assert torch.equal(trajectory.next("state/far/1/deep")[:, 2], (after >> 2).to(torch.int8))
    assert (trajectory["action"] == 7).all()  # the column is not clipped


def test_a_policy_may_be_a_module_called_by_names():
    class Actor(nn.Module):
        def forward(self, near, action=None):
            return torch.zeros(len(near), 2), torch.ones(len(near), 1), torch.ones(len(near), 1)

    collector = Collector(SyncVectorEnv([Nested] * 2), Actor(), keep=["log_prob", "entropy"])
    trajectory = collector.steps(3)
    assert trajectory["log_prob"].shape == trajectory["entropy"].shape == (6, 1)


class Remembering(nn.Module):
    """Its state is the number of steps since the episode began."""

    def forward(self, state, hidden=None, reset=None):
        hidden = torch.zeros(len(state), 1) if hidden is None else hidden
        hidden = hidden.masked_fill(reset[:, None], 0)
        assert torch.equal(hidden[:, 0], state[:, 2]) or self.careless
        return choose({"state": state}), hidden + 1

    careless = False


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["steps", "episodes"])
def test_the_state_before_each_step_is_kept(mode, method):
    actor = Remembering()
    # In the step in which an environment resets itself it shows the last of an episode's states.
    actor.careless = mode == AutoresetMode.NEXT_STEP
    collector = Collector(make(mode), actor, keep=["hidden"])
    for _ in range(3):
        trajectory = getattr(collector, method)(20)
        assert torch.equal(trajectory["hidden"][:, 0], trajectory["state"][:, 2])


def test_a_function_may_be_recurrent():
    def act(state):
        before = torch.zeros(3, 1) if state["hidden"] is None else state["hidden"]
        before = before.masked_fill(state["reset"][:, None], 0)
        return {"action": choose(state), "hidden": before + 1, "age": before}

    collector = Collector(make(AutoresetMode.SAME_STEP), act, keep=["age"], recurrent=True)
    trajectory = collector.steps(20)
    assert torch.equal(trajectory["age"][:, 0], trajectory["state"][:, 2])


def test_deterministic_collection_repeats_itself():
    envs = gymnasium.make_vec("CartPole-v1", 2)
    actor, _ = for_spaces(envs.single_observation_space, envs.single_action_space)

    def actions(deterministic):
        collector = Collector(envs, actor, deterministic=deterministic, seed=3)
        return collector.steps(40)["action"]

    assert torch.equal(actions(True), actions(True))
    assert not torch.equal(actions(False), actions(False))


def test_exploration_of_an_algorithm_fills_its_replay():
    envs = gymnasium.make_vec("CartPole-v1", 2)
    networks = for_spaces(envs.single_observation_space, envs.single_action_space, "dqn")
    dqn = DQN(*networks, torch.optim.Adam, nn.MSELoss(), replay_buffer=Replay(1000))
    collector = Collector(envs, dqn.act_discrete_with_noise, seed=0)
    dqn.store(collector.steps(200))
    assert dqn.epsilon < 1  # each call decays it
    assert dqn.update() >= 0


def test_two_collectors_share_a_policy():
    class Actor(nn.Module):
        def __init__(self):
            super().__init__()
            self.choice = nn.Parameter(torch.zeros(()))

        def forward(self, state):
            return self.choice.long().expand(len(state), 1)

    actor = Actor()
    collectors = [Collector(make(mode), actor) for mode in MODES]
    actor.choice.data.fill_(3)
    assert all((each.steps(5)["action"] == 3).all() for each in collectors)


def test_the_seed_decides_the_start():
    def first_states(seed):
        envs = gymnasium.make_vec("CartPole-v1", num_envs=2)
        actor = lambda state: torch.zeros(2, dtype=torch.int64)  # noqa: E731
        return Collector(envs, actor, seed=seed).steps(3)["state"]

    assert torch.equal(first_states(1), first_states(1))
    assert not torch.equal(first_states(1), first_states(2))


# -- refusals ------------------------------------------------------------------------------------


def test_environments_that_cannot_be_collected_from_are_refused():
    silent = make(AutoresetMode.NEXT_STEP)
    del silent.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match=r"Collector: envs must say how they reset, .*, got None"):
        Collector(silent, choose)
    with pytest.raises(TypeError, match=r"Collector: envs must be a .*VectorEnv.*, got str"):
        Collector("CartPole-v1", choose)
    text = Counting(0)
    text.observation_space = gymnasium.spaces.Text(5)
    with pytest.raises(ValueError, match=r"Collector: observations must be in a Box, .*got Text"):
        Collector(text, choose)
    several = Counting(0)
    several.action_space = Tuple([Discrete(2)])
    with pytest.raises(ValueError, match=r"Collector: actions must be in a Box, .*got Tuple"):
        Collector(several, choose)


@pytest.mark.parametrize(
    ("actor", "options", "error"),
    [
        ("choose", {}, r"actor must be a torch.nn.Module or a function, got str"),
        (choose, {"deterministic": True}, r"actor must be a policy that has a mode"),
        (nn.Linear(3, 5), {"deterministic": True}, r"actor must be a policy that has a mode"),
        (choose, {"keep": ["hidden"]}, r"actor must be recurrent for its hidden states"),
    ],
)
def test_actors_that_cannot_act_are_refused(actor, options, error):
    with pytest.raises((ValueError, TypeError), match=f"Collector: {error}"):
        Collector(make(AutoresetMode.SAME_STEP), actor, **options)


@pytest.mark.parametrize(
    ("act", "options", "error"),
    [
        (lambda state: torch.zeros(3, 5), {}, r"actor must return actions \[3\], got \[3, 5\]"),
        (lambda state: None, {}, r"actor must return actions in a tensor, got NoneType"),
        (choose, {"keep": ["log_prob"]}, r"actor must return log_prob, which .*, got action"),
    ],
)
def test_actors_that_return_something_else_are_refused(act, options, error):
    collector = Collector(make(AutoresetMode.SAME_STEP), act, **options)
    with pytest.raises((ValueError, TypeError), match=f"Collector: {error}"):
        collector.steps(1)


@pytest.mark.parametrize("method", ["steps", "episodes"])
def test_nothing_is_no_number_of_steps(method):
    collector = Collector(make(AutoresetMode.SAME_STEP), choose)
    with pytest.raises(ValueError, match=rf"Collector.{method}: n must be at least 1, got 0"):
        getattr(collector, method)(0)
