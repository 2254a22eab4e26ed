"""What the pool has beyond Gymnasium's vectors, and what it refuses."""

from __future__ import annotations

import functools
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError
from gymnasium.vector import AutoresetMode

from env.pool.same import assert_same
from env.pool.worlds import SPACES, Counter, RandomWorld
from machin_fast.env.pool import plan

CREWS = [(0, True), (1, True), (2, False)]


@pytest.fixture(params=CREWS, ids=lambda crew: f"{crew[0]}{'+parent' if crew[1] else ''}")
def counters(request, make_pool):
    """A pool of four counters, reset with seeds 0 to 3."""
    num_workers, step_in_parent = request.param
    pool = make_pool(Counter, 4, num_workers=num_workers, step_in_parent=step_in_parent)
    pool.reset(seed=0)
    return pool


# -- seeds -----------------------------------------------------------------------------------


def test_first_seeds_are_independent_and_do_not_depend_on_workers(make_pool):
    seeds = []
    for workers in (0, 1, 2):
        pool = make_pool(Counter, 4, num_workers=workers, seed=7)
        pool.reset()
        seeds.append(pool.get_attr("first_seed"))
        pool.reset()  # goes on with the random numbers it has
        assert pool.get_attr("first_seed") == seeds[-1]
    assert seeds[0] == seeds[1] == seeds[2]
    assert len(set(seeds[0])) == 4 and len({b - a for a, b in zip(*[iter(seeds[0])] * 2)}) == 2  # noqa: B905
    other = make_pool(Counter, 4, num_workers=0, seed=8)
    other.reset()
    assert not set(other.get_attr("first_seed")) & set(seeds[0])


# -- some environments at a time -------------------------------------------------------------


def test_send_and_recv_give_each_environment_its_own_step(counters):
    counters.send(np.array([30, 10]), [3, 1])
    received = counters.recv()
    assert sorted(received.env_ids) == [1, 3]
    for place, env_id in enumerate(received.env_ids):
        assert received.observation[place].tolist() == [env_id, 1, env_id * 10]
    assert received.reward.tolist() == [1, 1]
    counters.send(np.arange(4), None)
    first = counters.recv(1)
    rest = counters.recv()
    assert sorted([*first.env_ids, *rest.env_ids]) == [0, 1, 2, 3]
    counters.send(np.arange(4))
    found = counters.recv(env_ids=[2, 0])
    assert found.observation.tolist() == [[2, 2, 2], [0, 2, 0]]
    assert sorted(counters.recv().env_ids) == [1, 3]
    # They are at different steps; a step of all is as ever.
    observation, reward, *_ = counters.step(np.full(4, 5))
    assert observation.tolist() == [[0, 3, 5], [1, 4, 5], [2, 3, 5], [3, 4, 5]]
    assert reward.tolist() == [3, 4, 3, 4]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("crew", CREWS)
def test_steps_of_single_environments_are_those_of_all(make_pool, crew, mode):
    maker = functools.partial(RandomWorld, SPACES["nested"], SPACES["tuple"])
    settings = {"num_workers": crew[0], "step_in_parent": crew[1], "autoreset_mode": mode}
    one, other = (make_pool(maker, 5, **settings) for _ in range(2))
    one.reset(seed=1)
    other.reset(seed=1)
    for _ in range(25):
        actions = one.action_space.sample()
        wanted = one.step(actions)
        discrete, box = actions
        other.send((discrete[[4, 2]], box[[4, 2]]), [4, 2])
        other.send((discrete[[0, 1, 3]], box[[0, 1, 3]]), [0, 1, 3])
        found = other.recv(env_ids=range(5))
        assert_same(tuple(found[1:]), wanted)


def test_halves_overlap(make_pool):
    pool = make_pool(Counter, 6, num_workers=2, step_in_parent=False, copy=False)
    pool.reset(seed=0)
    halves = np.arange(3), np.arange(3, 6)
    pool.send(np.zeros(3, int), halves[0])
    pool.send(np.zeros(3, int), halves[1])
    for t in range(1, 20):
        for half in halves:  # the other one steps meanwhile
            found = pool.recv(env_ids=half)
            assert not found.observation.flags.owndata
            assert found.observation.tolist() == [[i, t, t - 1] for i in half]
            pool.send(np.full(3, t), half)
    assert len(pool.recv().env_ids) == 6


# -- memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_results_are_the_callers_own_unless_said_otherwise(make_pool, workers):
    own = make_pool(Counter, 2, num_workers=workers)
    shared = make_pool(Counter, 2, num_workers=workers, copy=False)
    kept = {}
    for pool in (own, shared):
        pool.reset(seed=0)
        kept[pool] = [pool.step(np.full(2, t))[0] for t in range(3)]
    assert [step[0, 2] for step in kept[own]] == [0, 1, 2]
    # The last but one is still there; the one before is written over.
    assert [step[0, 2] for step in kept[shared]] == [2, 1, 2]
    views = shared.tensors
    assert views.observation.tolist() == [[0, 3, 2], [1, 3, 2]]
    assert views.observation.data_ptr() == kept[shared][2].ctypes.data
    assert views.reward.tolist() == [3, 3] and views.action.tolist() == [2, 2]


def test_tensors_of_nested_spaces_are_nested(make_pool):
    pool = make_pool(functools.partial(RandomWorld, SPACES["nested"], SPACES["tuple"]), 2)
    observation, _ = pool.reset(seed=0)
    tensors = pool.tensors
    assert (
        tensors.observation["parts"][1]["inner"].tolist()
        == observation["parts"][1]["inner"].tolist()
    )
    assert tensors.action[1].shape == (2, 2, 2)


def test_actions_may_be_tensors(counters):
    torch = pytest.importorskip("torch")
    assert counters.step(torch.tensor([1, 2, 3, 4]))[0][:, 2].tolist() == [1, 2, 3, 4]


def test_an_environment_may_keep_its_action(make_pool):
    pool = make_pool(functools.partial(Keeper, 3), 2, num_workers=1)
    pool.reset()
    actions = [np.full((2, 3), t, np.float32) for t in range(3)]
    for action in actions:
        pool.step(action)
    assert_same(pool.get_attr("kept"), tuple([[a[0] for a in actions]] * 2))


class Keeper(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(2)

    def __init__(self, size):
        self.action_space = gymnasium.spaces.Box(0, 9, (size,), np.float32)
        self.kept = []

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        self.kept.append(action)
        return 1, 0.0, False, False, {}


def test_memory_is_registered_with_cuda_where_there_is_some(make_pool, monkeypatch):
    torch = pytest.importorskip("torch")
    registered = {}

    class Cudart:
        def cudaHostRegister(self, address, size, flags):  # noqa: N802
            registered[address] = size
            return 0

        def cudaHostUnregister(self, address):  # noqa: N802
            del registered[address]

    pool = make_pool(Counter, 2, num_workers=1)
    if not torch.cuda.is_available():
        assert not pool.pin_memory()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "cudart", Cudart)
    pool.reset()
    assert pool.pin_memory() and pool.pin_memory()
    block = pool.rollout(3)
    assert len(registered) == 2
    for tensor in (pool.tensors.observation, block.tensors.reward):
        address = tensor.data_ptr()
        assert any(begin <= address < begin + size for begin, size in registered.items())
    pool.close()
    assert not registered


# -- what is refused -------------------------------------------------------------------------


def test_calls_out_of_turn_are_refused(counters):
    step = np.zeros(4, int)
    with pytest.raises(NoAsyncCallError):
        counters.step_wait()
    with pytest.raises(NoAsyncCallError):
        counters.recv()
    counters.step_async(step)
    for call in (
        lambda: counters.step_async(step), lambda: counters.send(step), lambda: counters.recv(),
        lambda: counters.reset(), lambda: counters.call("pid"), lambda: counters.tensors,
        lambda: counters.set_attr("length", 3), lambda: counters.rollout(3),
    ):  # fmt: skip
        with pytest.raises(AlreadyPendingCallError):
            call()
    counters.step_wait()
    counters.send(step[:2], [0, 3])
    for call in (
        lambda: counters.step(step), lambda: counters.send(step[:1], [3]), lambda: counters.reset(),
        lambda: counters.get_attr("length"),
    ):  # fmt: skip
        with pytest.raises(AlreadyPendingCallError):
            call()
    with pytest.raises(NoAsyncCallError):
        counters.recv(3)
    with pytest.raises(NoAsyncCallError):
        counters.recv(env_ids=[1])
    assert len(counters.recv(2).env_ids) == 2
    assert counters.step(step)[0][:, 1].tolist() == [3, 2, 2, 3]  # nothing was lost


def test_a_closed_pool_says_so(counters):
    counters.close()
    counters.close()
    assert counters.closed
    for call in (
        lambda: counters.step(np.zeros(4, int)), lambda: counters.reset(), lambda: counters.recv(),
        lambda: counters.send(np.zeros(4, int)), lambda: counters.call("pid"),
        lambda: counters.render(), lambda: counters.step_wait(), lambda: counters.rollout(2),
        lambda: counters.tensors, lambda: counters.workers,
    ):  # fmt: skip
        with pytest.raises(ClosedEnvironmentError):
            call()


def test_closing_with_steps_under_way_is_fine(counters):
    counters.send(np.zeros(2, int), [1, 2])
    counters.close()
    del counters


@pytest.mark.parametrize(
    ("actions", "error", "text"),
    [
        (np.zeros(3, int), ValueError, r"actions must have shape \[4\], got \[3\]"),
        (np.zeros((4, 1), int), ValueError, r"actions must have shape \[4\], got \[4, 1\]"),
        (np.zeros(4), TypeError, "actions must be int64, got float64"),
        (["a"] * 4, TypeError, "actions must be int64, got"),
    ],
)
def test_wrong_actions_are_refused_and_nothing_is_stepped(counters, actions, error, text):
    with pytest.raises(error, match=text):
        counters.step(actions)
    with pytest.raises(error, match=text):
        counters.send(actions)
    assert counters.step([1, 2, 3, 4])[0][:, 1].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("env_ids", "error", "text"),
    [
        ([0, 4], IndexError, r"env_ids must be in \[0, 4\), got 4"),
        ([-1, 0], IndexError, r"env_ids must be in \[0, 4\), got -1"),
        ([2, 2], ValueError, r"env_ids must differ, got \[2, 2\]"),
        ([0.0, 1.0], TypeError, "env_ids must be integers"),
        ([[0, 1]], TypeError, "env_ids must be integers"),
    ],
)
def test_wrong_ids_are_refused_and_nothing_is_stepped(counters, env_ids, error, text):
    with pytest.raises(error, match=text):
        counters.send(np.zeros(2, int), env_ids)
    assert counters.step([1, 2, 3, 4])[0][:, 1].tolist() == [1, 1, 1, 1]


def test_actions_must_have_all_parts(make_pool):
    pool = make_pool(functools.partial(RandomWorld, action=SPACES["nested"]), 2, num_workers=0)
    pool.reset()
    with pytest.raises(TypeError, match="actions must have 'parts', got dict"):
        pool.step({"goal": np.zeros((2, 2))})
    with pytest.raises(ValueError, match=r"actions\['goal'\] must have shape \[2, 2\], got \[2\]"):
        pool.step({"goal": np.zeros(2)})


@pytest.mark.parametrize("crew", CREWS)
def test_steps_before_a_reset_are_refused(make_pool, crew):
    pool = make_pool(
        functools.partial(Counter, 2), 4, num_workers=crew[0], step_in_parent=crew[1],
        autoreset_mode="Disabled",
    )  # fmt: skip
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset must be called first"):
        pool.step(np.zeros(4, int))
    pool.reset()
    for _ in range(2):
        pool.step(np.zeros(4, int))
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[0, 1, 2, 3\] have ended"):
        pool.step(np.zeros(4, int))
    mask = np.array([True, False, True, True])
    pool.reset(options={"reset_mask": mask})
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"environments \[1\] have ended"):
        pool.send(np.zeros(2, int), [0, 1])
    pool.send(np.zeros(2, int), [0, 2])
    assert len(pool.recv().env_ids) == 2


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([True] * 4, TypeError), (np.ones(4, int), TypeError), (np.ones(3, bool), ValueError),
        (np.zeros(4, bool), ValueError),
    ],
)  # fmt: skip
def test_wrong_reset_masks_are_refused(counters, mask, error):
    with pytest.raises(error, match=r"options\['reset_mask'\] must"):
        counters.reset(options={"reset_mask": mask})


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"num_envs": None}, ValueError, "num_envs must be given"),
        ({"num_envs": 0}, ValueError, "num_envs must be at least 1, got 0"),
        ({"num_workers": 3}, ValueError, "num_workers must be from 0 to num_envs = 2, got 3"),
        ({"num_workers": -1}, ValueError, "num_workers must be from 0"),
        ({"num_workers": 0, "step_in_parent": False}, ValueError, "num_workers must be from 1"),
        ({"step_timeout": 0}, ValueError, "step_timeout must be positive"),
        ({"on_worker_death": "ignore"}, ValueError, "on_worker_death must be one of raise, rest"),
        ({"max_restarts": -1}, ValueError, "max_restarts must be at least 0"),
        ({"observation_mode": "any"}, ValueError, "observation_mode must be one of"),
        ({"autoreset_mode": "Never"}, ValueError, "Never"),
        ({"context": "thread"}, ValueError, "context must be one of"),
        ({"env_kwargs": {"a": 1}}, TypeError, "env must be a name"),
        ({"env": "NoSuchWorld-v0"}, gymnasium.error.NameNotFound, "NoSuchWorld"),
        ({"env": 3}, TypeError, "env must be a name or functions, got 3"),
        ({"env": [Counter] * 3}, ValueError, "num_envs must be 3, as many as functions, got 2"),
        (
            {"env": functools.partial(RandomWorld, gymnasium.spaces.Text(3))},
            ValueError, "observation_space must be made of Box, Discrete",
        ),
        (
            {"env": functools.partial(RandomWorld, action=gymnasium.spaces.Text(3))},
            ValueError, "action_space must be made of Box, Discrete",
        ),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(make_pool, settings, error, text):
    with pytest.raises(error, match=text):
        make_pool(**{"env": Counter, "num_envs": 2, "num_workers": 0, **settings})


def test_an_observation_of_another_shape_is_refused(make_pool):
    for workers in (0, 1):
        pool = make_pool(Misshapen, 2, num_workers=workers)
        with pytest.raises(RuntimeError, match=r"shape \[1\] is not \[3\]"):
            pool.reset()


class Misshapen(Counter):
    def reset(self, *, seed=None, options=None):
        return np.zeros(1), {}


def test_only_methods_that_the_pool_has_not_are_called(counters):
    with pytest.raises(ValueError, match="name must be no method of the pool, got 'step'"):
        counters.call("step", 1)
    with pytest.raises(ValueError, match="values must be 4, one for each environment, got 2"):
        counters.set_attr("length", [1, 2])


# -- who steps what --------------------------------------------------------------------------


def test_shares_are_even_and_in_a_row():
    assert plan.shares(8, 1, step_in_parent=True) == (range(4), [range(4, 8)])
    assert plan.shares(8, 2, step_in_parent=True) == (range(2), [range(2, 5), range(5, 8)])
    assert plan.shares(2, 2, step_in_parent=True) == (range(0), [range(1), range(1, 2)])
    assert plan.shares(3, 2, step_in_parent=False) == (range(0), [range(2), range(2, 3)])
    assert plan.shares(3, 0, step_in_parent=True) == (range(3), [])


def test_workers_are_started_where_they_pay():
    best = functools.partial(plan.best_num_workers, step_in_parent=True)
    assert best(5e-6, 2, 2) == 0
    assert best(5e-6, 32, 2) == 0  # a worker that sleeps between steps wakes late
    assert best(5e-6, 64, 2) == 1
    assert best(100e-6, 2, 2) == 1
    assert best(100e-6, 8, 8) == 7
    assert best(1e-3, 8, 1) == 0
    assert plan.best_num_workers(0.0, 8, 4, step_in_parent=False) == 4


def test_the_pool_chooses_the_number_of_workers(make_pool, monkeypatch):
    monkeypatch.setattr(plan, "cores", lambda: 2)
    with monkeypatch.context() as quiet:  # what else the machine does must not decide
        quiet.setattr(plan, "seconds_per_step", lambda env: 5e-6)
        assert make_pool(Counter, 2).num_workers == 0
    slow = make_pool(functools.partial(Counter, seconds=1e-3), 4)
    assert slow.num_workers == 1
    assert [len(worker.env_ids) for worker in slow.workers] == [2]
    slow.reset()
    slow.step(np.zeros(4, int))
    (worker,) = slow.workers
    assert worker.steps == 2 and worker.seconds >= 2e-3 and worker.restarts == 0
    assert slow.slowest_worker == 0


def test_workers_load_no_torch(make_pool):
    pool = make_pool(Counter, 1, num_workers=1, step_in_parent=False)
    assert pool.call("loaded", "torch") == (False,)
    assert "torch" in sys.modules


@pytest.mark.parametrize("context", ["forkserver", "spawn"])
def test_the_main_program_needs_no_guard_and_is_not_imported(context, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("CONTEXT", repr(context)))
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "started\n[[9.0, 1.0], [9.0, 1.0]] True\n"), (
        done.stderr
    )
    assert done.stderr == ""


PROGRAM = """
import gymnasium, numpy as np
from machin_fast import ActorPool

print("started")

class Event:
    pass

class Mine(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 9, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2), {}
    def step(self, action):
        return np.array([9.0, action]), 0.0, False, False, {"event": Event()}

gymnasium.register("Mine-v0", Mine)
make = lambda: gymnasium.make("Mine-v0")
pool = ActorPool(make, 2, num_workers=2, step_in_parent=False, context=CONTEXT)
pool.reset()
observation, *_, info = pool.step([1, 1])
print(observation.tolist(), isinstance(info["event"][1], Event))
"""
