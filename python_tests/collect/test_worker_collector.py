"""``WorkerCollector`` against the loop in this process."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from contextlib import closing

import gymnasium
import pytest
import torch
from torch import nn

from collect.counting import Counting, choose, plain_loop, transitions
from machin_fast.collect import Collector, WorkerCollector, WorkerFailed
from machin_fast.env import WorkerDied, WorkerHung
from machin_fast.model import for_spaces

NUM_ENVS = 5


class Versioned(nn.Module):
    """Its action is its weight; a buffer travels as well."""

    def __init__(self):
        super().__init__()
        self.choice = nn.Parameter(torch.zeros(()))
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, state):
        return (self.choice - self.shift).long().expand(len(state), 1)


class Unbounded(Counting):
    """Takes any action, and fails or hangs at some."""

    action_space = gymnasium.spaces.Discrete(1000)

    def step(self, action):
        if action == 998:
            time.sleep(100)
        if action == 999:
            raise ZeroDivisionError(f"environment {self.number}")
        return super().step(action)


def environments(kind=Counting, n=NUM_ENVS):
    return [functools.partial(kind, i) for i in range(n)]


def test_transitions_are_those_of_a_plain_loop():
    """A function acts; weights are not its own."""
    with closing(
        WorkerCollector(environments(), choose, num_workers=2, weights=nn.Linear(1, 1))
    ) as collector:
        found = [collector.steps(40), collector.steps(40)]
        assert found[0].rollout()["state"].shape == (40, NUM_ENVS, 3)
        for number in range(NUM_ENVS):
            rows = [row for part in found for row in transitions(part, number)]
            assert rows == plain_loop(number, 80)[0]
        wanted = [x for i in range(NUM_ENVS) for x in plain_loop(i, 80)[2]]
        whole = collector.episodes(13)
        assert whole.segments == len(collector.episode_returns) == 13
        ended = whole["terminated"] | whole["truncated"]
        assert ended[whole.last].all() and ended.sum() == 13
        assert sorted(collector.episode_lengths) == sorted(whole.lengths.tolist())
        assert set(collector.episode_lengths) <= set(wanted)


@pytest.mark.parametrize("ahead", [0, 1])
def test_rows_tell_which_weights_chose(ahead):
    actor = Versioned()
    made = WorkerCollector(environments(Unbounded), actor, num_workers=2, ahead=ahead)
    with closing(made) as collector:
        for call in range(6):
            with torch.no_grad():
                actor.choice += 2
                actor.shift += 1
            rows = collector.steps(30)
            # Version 1 was published at the start, when the weights were 0.
            assert torch.equal(rows["action"][:, 0], rows["version"] - 1)
            newest = call + 2
            assert collector.lag == newest - int(rows["version"].min()) <= ahead
            assert rows["version"].max() <= newest
        assert len(collector.steps(7)) == 7 * NUM_ENVS  # what was begun is thrown away


def test_one_seed_gives_one_experience():
    def collected():
        env = gymnasium.make("CartPole-v1")
        torch.manual_seed(0)
        actor, _ = for_spaces(env.observation_space, env.action_space)
        made = WorkerCollector("CartPole-v1", actor, num_envs=2, num_workers=1, seed=5)
        with closing(made) as collector:
            return collector.steps(30), actor

    (first, actor), (second, _) = collected(), collected()
    assert all(torch.equal(first[name], second[name]) for name in first.columns)
    local = Collector(
        gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync"), actor, seed=5
    ).steps(1)
    assert torch.equal(first.rollout()["state"][0], local["state"])
    torch.testing.assert_close(
        actor(first["state"], action=first["action"])[1], first["log_prob"], rtol=0, atol=1e-5
    )


@pytest.fixture
def fragile():
    actor = Versioned()
    made = WorkerCollector(environments(Unbounded, 2), actor, num_workers=1, timeout=60)
    made.steps(1)
    yield made, actor
    made.close()


def test_what_an_environment_raises_is_told(fragile):
    collector, actor = fragile
    actor.choice.data.fill_(999)
    with pytest.raises(
        WorkerFailed, match=r"worker 0, which collects from environments 0 to 1"
    ) as e:
        collector.steps(1)
    assert isinstance(e.value.__cause__, ZeroDivisionError)
    assert "raise ZeroDivisionError" in str(e.value)
    with pytest.raises(ValueError, match="the collector must be open, got it closed"):
        collector.steps(1)


def test_the_death_of_a_worker_is_told_at_once(fragile):
    collector, actor = fragile
    actor.choice.data.fill_(998)  # it sleeps: nothing would come
    pid = collector._workers[0].pid
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(WorkerDied, match=r"worker 0, .* was killed by SIGKILL"):
        collector.steps(1)
    collector.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_that_hangs_is_ended(fragile):
    collector, actor = fragile
    collector._timeout = 0.3
    actor.choice.data.fill_(998)
    with pytest.raises(WorkerHung, match="worker 0"):
        collector.steps(1)


def test_a_worker_that_cannot_begin_is_told():
    def fail():
        raise OSError("no environment")

    with pytest.raises(WorkerFailed, match="no environment"):
        WorkerCollector(fail, Versioned(), num_envs=1, num_workers=1)


@pytest.mark.parametrize(
    ("actor", "options", "error"),
    [
        (Versioned(), {"num_workers": 3}, r"num_workers must be in \[1, 2\], .*, got 3"),
        (Versioned(), {"ahead": -1}, r"ahead must be at least 0, got -1"),
        (choose, {}, r"weights must be a torch.nn.Module if the actor is a function, got None"),
    ],
)
def test_bad_arguments_are_refused(actor, options, error):
    with pytest.raises((ValueError, TypeError), match=f"WorkerCollector: {error}"):
        WorkerCollector(environments(n=2), actor, **{"num_workers": 1, **options})
