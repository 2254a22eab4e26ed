"""Workers that die, hang or stop, environments that raise, parents that are killed.

The numbers are those of the specification of faults; ``conftest.py`` sees to it that nothing is
left of any of these pools.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode

from env.pool.same import assert_same
from env.pool.worlds import Counter, HalfWritten, RandomWorld
from machin_fast.env import ActorPool, EnvFailed, WorkerDied, WorkerHung

MODES = list(AutoresetMode)
pytestmark = pytest.mark.alone


def kill(pool: ActorPool, worker: int, how: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pool.workers[worker].pid, how)


def assert_gone(pids, within: float) -> None:
    """The processes end in time."""
    end = time.monotonic() + within
    while rest := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < end, f"{rest} live after {within} s"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- a worker dies ---------------------------------------------------------------------------


def test_the_death_of_a_worker_is_told_at_once_and_by_name(make_pool):
    times = []
    for _ in range(9):
        pool = make_pool(Counter, 4, num_workers=2, step_in_parent=False)
        pool.reset(seed=0)
        pids = [worker.pid for worker in pool.workers]
        kill(pool, 1)
        begin = time.perf_counter()
        with pytest.raises(WorkerDied, match="worker 1, which steps environments 2 to 3, was"):
            pool.step([10, 20, 30, 40])
        times.append(time.perf_counter() - begin)
        assert pool.closed
        assert_gone(pids, within=1)
        with pytest.raises(ClosedEnvironmentError):
            pool.step([0] * 4)
        pool.close()
    assert median(times) < 0.05


def test_the_error_names_environments_signal_and_last_actions(make_pool):
    pool = make_pool(Counter, 4, num_workers=1)
    pool.reset(seed=0)
    with pytest.raises(WorkerDied) as raised:
        pool.step([1, 2, 3, Counter.KILL])
    died = raised.value
    assert (died.worker, died.env_ids, died.signal, died.exitcode) == (0, [2, 3], "SIGKILL", -9)
    assert died.last_action == {2: 3, 3: Counter.KILL} or died.last_action == {3: Counter.KILL}
    assert str(died).startswith(
        "worker 0, which steps environments 2 to 3, was killed by SIGKILL; last actions: "
    )
    assert f"{Counter.KILL} for 3" in str(died)


def test_a_worker_that_leaves_by_itself_is_lost_too(make_pool):
    pool = make_pool(Counter, 1, num_workers=1, step_in_parent=False)
    pool.reset(seed=0)
    with pytest.raises(WorkerDied, match="ended with exit code 3; last actions: 1003 for 0"):
        pool.step([Counter.EXIT])


@pytest.mark.parametrize("ask", [lambda p: p.reset(), lambda p: p.call("pid")])
def test_a_death_is_seen_by_every_call(make_pool, ask):
    pool = make_pool(Counter, 2, num_workers=2, step_in_parent=False)
    pool.reset(seed=0)
    kill(pool, 0)
    with pytest.raises(WorkerDied, match="worker 0, which steps environments 0, was"):
        ask(pool)
    again = make_pool(Counter, 2, num_workers=2, step_in_parent=False)
    again.reset(seed=0)
    kill(again, 1)
    again.send(np.array([5]), [1])
    with pytest.raises(WorkerDied, match="worker 1"):
        again.recv()


def dies() -> Counter:
    os.kill(os.getpid(), signal.SIGKILL)
    return Counter()


def raises() -> Counter:
    raise LookupError("no such world")


def test_environments_that_cannot_be_made_are_told_of(make_pool):
    with pytest.raises(EnvFailed, match=r"environment 0 \(seed None\) raised in its making"):
        make_pool([raises, Counter], num_workers=1)
    with pytest.raises(WorkerDied, match="worker 0, which steps environments 1, was killed"):
        make_pool([Counter, dies], num_workers=1)
    wanted = r"environment 1 \(seed None\) raised in its making"
    with pytest.raises(EnvFailed, match=wanted) as raised:
        make_pool([Counter, raises], num_workers=1)
    assert isinstance(raised.value.__cause__, LookupError)


# -- and is replaced -------------------------------------------------------------------------


def test_a_hundred_deaths_are_outlived_and_the_survivors_notice_nothing(make_pool):
    maker = functools.partial(RandomWorld, infos=False)
    settings = {"num_workers": 2, "step_in_parent": False, "max_restarts": 100}
    struck = make_pool(maker, 4, on_worker_death="restart", **settings)
    peaceful = make_pool(maker, 4, num_workers=0)
    struck.reset(seed=5)
    peaceful.reset(seed=5)
    times = []
    for _ in range(100):
        kill(struck, 1)
        for _ in range(2):
            actions = struck.action_space.sample()
            begin = time.perf_counter()
            found = struck.step(actions)
            times.append(time.perf_counter() - begin)
            wanted = peaceful.step(actions)
            assert_same([x[:2] for x in found[:4]], [x[:2] for x in wanted[:4]])
    assert struck.workers[1].restarts == 100
    assert max(times) < 2


@pytest.mark.parametrize("how", ["between", "inside"])
@pytest.mark.parametrize("mode", MODES)
def test_a_lost_episode_is_cut_and_told_of(make_pool, mode, how):
    pool = make_pool(
        Counter, 3, num_workers=1, on_worker_death="restart", autoreset_mode=mode, seed=3
    )
    pool.reset(seed=0)
    for t in range(3):
        last = pool.step([t] * 3)[0]
    if how == "between":
        kill(pool, 0)
    bad = Counter.KILL if how == "inside" else 7
    observation, reward, terminated, truncated, info = pool.step([7, 7, bad])
    lost = pool.workers[0].env_ids
    here = [i for i in range(3) if i not in lost]
    assert observation[here].tolist() == [[i, 4, 7] for i in here]
    cut = np.isin(np.arange(3), lost)
    if how == "inside":
        cut[1] = truncated[1]  # it may have answered before its worker died
    assert truncated.tolist() == cut.tolist() and not terminated.any()
    assert reward.tolist() == [0 if c else 4 for c in cut]
    assert info["worker_restarted"].tolist() == info["_worker_restarted"].tolist() == cut.tolist()
    final = (
        np.stack(info["final_obs"][cut]) if mode is AutoresetMode.SAME_STEP else observation[cut]
    )
    assert final.tolist() == last[cut].tolist()

    if mode is AutoresetMode.SAME_STEP:
        assert info["final_info"]["worker_restarted"].tolist() == cut.tolist()
        first = observation
    elif mode is AutoresetMode.NEXT_STEP:
        first, *_, truncated, info = pool.step([8] * 3)
        assert truncated[1] == (not cut[1])  # it was between steps when its worker died
        assert truncated[[0, 2]].tolist() == [False, False]
    else:
        first, _ = pool.reset(options={"reset_mask": truncated})
    assert (first[cut, 1:] == [0, -1]).all()
    # Not the old seeds, which may have led to the same end, but they follow from them.
    seeds = first[cut, 0].tolist()
    assert not set(seeds) & {0, 1, 2} and len(set(seeds)) == len(seeds)


def test_new_seeds_are_the_same_for_equal_histories(make_pool):
    seeds = []
    for _ in range(2):
        pool = make_pool(Counter, 2, num_workers=1, on_worker_death="restart")
        pool.reset(seed=4)
        for _ in range(2):
            kill(pool, 0)
            pool.step([1, 1])
            pool.step([1, 1])
            seeds.append(pool.get_attr("first_seed")[1])
    assert seeds[:2] == seeds[2:] and seeds[0] != seeds[1]


def test_an_episode_that_had_ended_is_not_cut_again(make_pool):
    pool = make_pool(functools.partial(Counter, 2), 2, num_workers=1, on_worker_death="restart")
    pool.reset(seed=0)
    pool.step([0, 0])
    assert pool.step([0, 0])[2].tolist() == [True, True]
    kill(pool, 0)
    observation, _, terminated, truncated, info = pool.step([0, 0])
    assert observation[:, 1].tolist() == [0, 0]
    assert not terminated.any() and not truncated.any() and info == {}
    assert pool.workers[0].restarts == 1


def test_single_environments_are_cut_in_their_next_step(make_pool):
    pool = make_pool(
        Counter, 4, num_workers=2, step_in_parent=False, on_worker_death="restart", seed=1
    )
    pool.reset(seed=0)
    pool.step([3] * 4)
    kill(pool, 1)
    pool.send([5], [2])
    found = pool.recv()
    assert found.env_ids.tolist() == [2] and found.observation.tolist() == [[2, 1, 3]]
    assert found.truncated.tolist() == [True]
    assert found.infos["worker_restarted"].tolist() == [True]
    pool.send([6, 6, 6], [3, 2, 0])
    found = pool.recv(env_ids=[0, 2, 3])
    assert found.truncated.tolist() == [False, False, True]
    assert found.observation[0].tolist() == [0, 2, 6] and found.observation[1, 1] == 0
    assert found.observation[2].tolist() == [3, 1, 3]
    assert pool.workers[1].restarts == 1


def test_a_slot_that_is_half_written_is_never_seen(make_pool):
    for mode in MODES:
        pool = make_pool(
            HalfWritten, 2, num_workers=1, on_worker_death="restart", autoreset_mode=mode
        )
        pool.reset()
        for t in range(1, 4):
            pool.step([0, 0])
            observation, _, _, truncated, info = pool.step([0, 1])
            assert truncated.tolist() == [False, True]
            if mode is AutoresetMode.SAME_STEP:
                final = info["final_obs"][1]
            else:
                final = {key: value[1] for key, value in observation.items()}
            # That of the step before, and the same in both halves.
            assert final["first"].tolist() == final["second"].tolist() == [1] * 4
            pool.reset()
            assert pool.workers[0].restarts == t


def test_calls_and_resets_go_to_the_new_worker(make_pool):
    pool = make_pool(Counter, 3, num_workers=1, on_worker_death="restart")
    pool.reset(seed=0)
    old = pool.call("pid")
    kill(pool, 0)
    new = pool.call("pid")
    assert new[0] == old[0] == os.getpid() and new[2] not in old
    kill(pool, 0)
    observation, _ = pool.reset(seed=8)
    assert observation.tolist() == [[8, 0, -1], [9, 0, -1], [10, 0, -1]]
    assert pool.step([1] * 3)[3].tolist() == [False] * 3


def test_there_is_an_end_to_patience(make_pool):
    pool = make_pool(Counter, 2, num_workers=1, on_worker_death="restart", max_restarts=2)
    pool.reset(seed=0)
    for _ in range(2):
        kill(pool, 0)
        pool.step([0, 0])
    kill(pool, 0)
    with pytest.raises(WorkerDied) as raised:
        pool.step([0, 0])
    assert str(raised.value.__cause__) == "max_restarts is 2"
    assert pool.closed


# -- a worker hangs --------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [True, False])
def test_a_worker_that_hangs_is_given_up_in_time(make_pool, stopped):
    pool = make_pool(Counter, 4, num_workers=2, step_in_parent=False, step_timeout=0.5)
    pool.reset(seed=0)
    pids = [worker.pid for worker in pool.workers]
    if stopped:
        kill(pool, 0, signal.SIGSTOP)
    begin = time.perf_counter()
    with pytest.raises(WorkerHung, match=r"worker 0, .*gave no sign of life") as raised:
        pool.step([5, 5 if stopped else Counter.HANG, 5, 5])
    assert 0.5 < time.perf_counter() - begin < 1.0
    assert isinstance(raised.value, TimeoutError) and raised.value.last_action[1] in (
        5,
        Counter.HANG,
    )
    assert_gone(pids, within=1)


def test_a_worker_that_hangs_is_replaced(make_pool):
    pool = make_pool(
        Counter, 2, num_workers=1, step_timeout=0.3, on_worker_death="restart", max_restarts=3
    )
    pool.reset(seed=0)
    assert pool.step([1, Counter.HANG])[3].tolist() == [False, True]
    kill(pool, 0, signal.SIGSTOP)
    pool.reset(seed=1)
    assert pool.step([1, 1])[0].tolist() == [[1, 1, 1], [2, 1, 1]]
    assert pool.workers[0].restarts == 2


def test_long_steps_of_many_environments_are_not_taken_for_a_hang(make_pool):
    pool = make_pool(
        functools.partial(Counter, seconds=0.1), 8, num_workers=1, step_in_parent=False,
        step_timeout=0.4,
    )  # fmt: skip
    pool.reset(seed=0)
    assert pool.step([0] * 8)[0][:, 1].tolist() == [1] * 8


def test_a_parent_may_take_its_time_between_steps(make_pool):
    pool = make_pool(Counter, 2, num_workers=1, step_timeout=0.1)
    pool.reset(seed=0)
    time.sleep(0.3)
    assert pool.step([0, 0])[0][:, 1].tolist() == [1, 1]


@pytest.mark.parametrize("under_way", [False, True])
def test_stopped_workers_are_closed(make_pool, under_way):
    pool = make_pool(Counter, 4, num_workers=2)
    pool.reset(seed=0)
    pids = [worker.pid for worker in pool.workers]
    kill(pool, 1, signal.SIGSTOP)
    if under_way:
        pool.send([0] * 4)
    pool.close(timeout=0.1)
    pool.close()
    assert_gone(pids, within=1)


def test_large_messages_to_a_stopped_worker_do_not_stop_the_parent(make_pool):
    pool = make_pool(Counter, 2, num_workers=1, step_timeout=0.2)
    pool.reset(seed=0)
    kill(pool, 0, signal.SIGSTOP)
    with pytest.raises(WorkerDied):
        pool.set_attr("length", [0, np.zeros(10_000_000)])


# -- an environment raises -------------------------------------------------------------------


@pytest.mark.parametrize("crew", [(0, True), (1, True), (2, False)])
@pytest.mark.parametrize("env_id", [0, 3])
def test_what_an_environment_raises_comes_with_its_traceback(make_pool, crew, env_id):
    pool = make_pool(Counter, 4, num_workers=crew[0], step_in_parent=crew[1])
    pool.reset(seed=20)
    pids = [worker.pid for worker in pool.workers]
    actions = np.zeros(4, int)
    actions[env_id] = Counter.RAISE
    with pytest.raises(EnvFailed) as raised:
        pool.step(actions)
    failed = raised.value
    assert (failed.env_id, failed.seed) == (env_id, 20 + env_id)
    assert f"environment {env_id} (seed {20 + env_id}) raised in step" in str(failed)
    assert re.search(r'worlds\.py", line \d+, in step\n +raise ZeroDivisionError', str(failed))
    assert isinstance(failed.__cause__, ZeroDivisionError)
    assert pool.closed
    assert_gone(pids, within=1)


def test_a_reset_that_raises_names_the_environment(make_pool):
    for workers in (0, 1):
        pool = make_pool(Counter, 2, num_workers=workers)
        with pytest.raises(EnvFailed, match=r"environment 0 \(seed 1\) raised in reset") as raised:
            pool.reset(seed=1, options={"fail": True})
        assert isinstance(raised.value.__cause__, ValueError)


def test_calls_raise_what_the_environment_raises_and_the_pool_goes_on(make_pool):
    for crew in ((0, True), (1, False)):
        pool = make_pool(Counter, 2, num_workers=crew[0], step_in_parent=crew[1])
        pool.reset(seed=0)
        with pytest.raises(AttributeError) as raised:
            pool.get_attr("nothing_of_that_name")
        assert "environment 0" in str(raised.value.__cause__)
        assert pool.step([1, 1])[0][:, 1].tolist() == [1, 1]


class Secretive(Counter):
    def step(self, action):
        return *super().step(action)[:4], {"lock": threading.Lock()}

    def lock(self):
        return threading.Lock()


def test_infos_and_answers_that_cannot_travel_are_told_of(make_pool):
    pool = make_pool(Secretive, 2, num_workers=1)
    pool.reset(seed=0)
    with pytest.raises(TypeError, match="lock"):
        pool.call("lock")
    with pytest.raises(EnvFailed, match=r"environment 1 \(seed 1\) raised in sending its info"):
        pool.step([0, 0])


class Talkative(Counter):
    def step(self, action):
        return *super().step(action)[:4], {"pixels": np.full(200_000, action)}


def test_infos_larger_than_the_pipe_do_not_block(make_pool):
    pool = make_pool(Talkative, 8, num_workers=2, step_in_parent=False)
    pool.reset(seed=0)
    for t in range(3):
        assert (pool.step([t] * 8)[4]["pixels"] == t).all()
    pool.send([5, 6], [1, 7])
    assert pool.recv(env_ids=[7, 1]).infos["pixels"][:, 0].tolist() == [6, 5]


def test_a_worker_that_stops_in_the_middle_of_a_message_is_given_up(make_pool):
    pool = make_pool(Talkative, 20, num_workers=1, step_in_parent=False, step_timeout=0.3)
    pool.reset(seed=0)
    pool.send([0] * 20)
    process = pool._stepping.crew.processes[0]
    assert process._pipe.poll(20)  # it has begun, and cannot end: 32 MB are more than fit
    kill(pool, 0, signal.SIGSTOP)
    begin = time.perf_counter()
    with pytest.raises(WorkerDied):
        pool.recv()
    assert time.perf_counter() - begin < 2


# -- a slow environment ----------------------------------------------------------------------


def test_slow_environments_do_not_hold_the_others(make_pool):
    def steps_per_second(seconds: list[float]) -> tuple[float, ActorPool]:
        makers = [functools.partial(Counter, seconds=s) for s in seconds]
        pool = make_pool(makers, num_workers=len(makers), step_in_parent=False)
        pool.reset(seed=0)
        pool.send(np.zeros(len(makers), int))
        taken, begin = 0, time.perf_counter()
        while (passed := time.perf_counter() - begin) < 1.0:
            ids = pool.recv(1).env_ids
            taken += len(ids)
            pool.send(np.zeros(len(ids), int), ids)
        return taken / passed, pool

    fast, _ = steps_per_second([0.01] * 3)
    mixed, pool = steps_per_second([0.01, 0.01, 0.05, 0.01])
    assert mixed > 0.8 * fast
    assert pool.slowest_worker == 2


# -- memory, threads, forks ------------------------------------------------------------------

FULL = """
import resource
from machin_fast.env import ActorPool
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
pool = ActorPool("CartPole-v1", 4, num_workers=1)
pool.reset()
many = lambda: ActorPool("CartPole-v1", 900_000, num_workers=1)
for make in (lambda: pool.rollout(1_000_000), many):
    try:
        make()
    except MemoryError as error:
        print(error)
pool.step([0, 1, 0, 1])
"""


def run(program: str, **settings) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False,
        **settings,
    )  # fmt: skip


def test_memory_that_is_not_there_is_an_error_that_says_how_much():
    done = run(FULL)
    assert done.returncode == 0, done.stderr
    texts = done.stdout.splitlines()
    assert len(texts) == 2
    assert all(re.search(r"got \d{8,} bytes needed and \d+ free", text) for text in texts)


def test_a_fork_is_refused(make_pool):
    wanted = r"context must be 'forkserver' or 'spawn', got 'fork'\. .*thread"
    with pytest.raises(ValueError, match=wanted):
        make_pool(Counter, 2, num_workers=1, context="fork")


def test_pools_start_beside_threads_and_openmp(make_pool):
    torch = pytest.importorskip("torch")
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            torch.ones(300, 300) @ torch.ones(300, 300)
            pool = make_pool(Counter, 1, num_workers=1, step_in_parent=False)
            pool.reset(seed=0)
            assert pool.step([3])[0].tolist() == [[0, 1, 3]]
            pool.close(terminate=True)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# -- the parent dies -------------------------------------------------------------------------

PARENT = """
import os, signal, sys, time
from env.pool.worlds import Counter
from machin_fast.env import ActorPool
pool = ActorPool(Counter, 4, num_workers=2)
pool.reset(seed=0)
print(*(worker.pid for worker in pool.workers), flush=True)
while True:
    pool.step([1, 2, 3, 4])
"""


@contextlib.contextmanager
def a_parent():
    """A program that steps a pool, in a group of its own; the pids of its workers."""
    tests = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": tests}, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, [int(pid) for pid in process.stdout.readline().split()]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stopped", [False, True])
def test_workers_end_with_their_parent(stopped):
    before = set(Path("/dev/shm").iterdir())
    with a_parent() as (process, workers):
        assert len(workers) == 2
        if stopped:
            os.kill(workers[0], signal.SIGSTOP)
        process.kill()
        process.wait()
        assert_gone(workers, within=1)
    assert set(Path("/dev/shm").iterdir()) == before


def test_ctrl_c_ends_all_with_one_traceback():
    with a_parent() as (process, workers):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        begin = time.monotonic()
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - begin < 2
        assert process.returncode == -signal.SIGINT
        assert errors.count("Traceback") == 1 and errors.strip().endswith("KeyboardInterrupt")
        assert_gone(workers, within=1)


def test_a_program_may_end_without_closing():
    program = PARENT.partition("while")[0] + "os.kill(pool.workers[0].pid, signal.SIGSTOP)\n"
    tests = str(Path(__file__).parents[2])
    done = run(program, env={**os.environ, "PYTHONPATH": tests})
    assert (done.returncode, done.stderr) == (0, "")
    assert_gone(map(int, done.stdout.split()), within=1)


def test_a_pool_that_is_forgotten_is_closed():
    pool = ActorPool(Counter, 2, num_workers=1)
    pids = [worker.pid for worker in pool.workers]
    del pool
    assert_gone(pids, within=5)


# -- all of it at once -----------------------------------------------------------------------


@pytest.mark.slow
def test_two_hundred_kills_and_stops_are_outlived(make_pool):
    rng = np.random.default_rng(0)
    pool = make_pool(
        functools.partial(Counter, 50), 6, num_workers=3, step_in_parent=False, step_timeout=0.25,
        on_worker_death="restart", max_restarts=400,
    )  # fmt: skip
    last, _ = pool.reset(seed=0)
    ended = np.zeros(6, bool)
    events = steps = 0
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while events < 200:
        if rng.random() < 0.3:
            events += 1
            how = signal.SIGSTOP if rng.random() < 0.1 else signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                kill(pool, int(rng.integers(3)), how)
        actions = rng.integers(0, 100, 6)
        observation, reward, terminated, truncated, info = pool.step(actions)
        steps += 1
        for i in range(6):
            if ended[i]:
                assert observation[i, 1:].tolist() == [0, -1] and not terminated[i] | truncated[i]
            elif truncated[i]:
                assert info["worker_restarted"][i] and observation[i].tolist() == last[i].tolist()
            else:
                wanted = [last[i, 0], last[i, 1] + 1, actions[i]]
                assert observation[i].tolist() == wanted and reward[i] == wanted[1]
                assert terminated[i] == (wanted[1] == 50)
        last, ended = observation, terminated | truncated
    assert sum(worker.restarts for worker in pool.workers) > 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1.2 * usage
