"""Profiles of loops: ours, Machin's form, and ones that know nothing of us."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from rich.console import Console
from torch import nn

from machin_fast.algorithms import DQN, PPO, DQNPer
from machin_fast.collect import Collector
from machin_fast.collect.shared_parameters import SharedParameters
from machin_fast.data import Replay
from machin_fast.env import ActorPool
from machin_fast.model import for_spaces
from machin_fast.training import profile
from machin_fast.training.evaluation import evaluate
from machin_fast.training.profiling import watch
from machin_fast.training.profiling.advice import RULES, Facts, advice, slowest
from machin_fast.training.profiling.instruments import TIMED, bytes_of
from machin_fast.utils.stages import stage

CARTPOLE = 4


def cartpoles(n=2):
    return SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * n)


def learner(kind=DQN, name="dqn", **options):
    envs = cartpoles()
    spaces = envs.single_observation_space, envs.single_action_space
    networks = for_spaces(*spaces, name, hidden=(8,))
    return envs, kind(*networks, torch.optim.Adam, nn.MSELoss(), batch_size=4, **options)


def calls(p):
    return {name: each.calls for name, each in p.stages.items()}


def methods():
    """All methods that a profile may replace, of the classes that there are now."""
    found = {"make": gymnasium.make, "make_vec": gymnasium.make_vec}
    kinds = [SyncVectorEnv, gymnasium.Env, gymnasium.Wrapper, DQN, PPO, DQNPer, Replay]
    for kind in (*kinds, torch.optim.Adam, torch.optim.Optimizer, torch.Tensor):
        found.update({(kind, name): x for name, x in vars(kind).items() if callable(x)})
    return found


# -- what is timed ------------------------------------------------------------------------------


def test_our_own_loop_is_told_apart():
    replay = Replay(100, priority="step")
    envs, algorithm = learner(DQNPer, "dqn_per", replay_buffer=replay)
    collector = Collector(envs, algorithm.act_discrete_with_noise)
    with profile() as p:
        for _ in range(3):
            algorithm.store(collector.steps(5))
            algorithm.update()
    assert (p.steps, p.updates) == (30, 3)
    found = calls(p)
    assert (found["act"], found["env"]) == (15, 15)
    assert (found["sample"], found["learn"], found["priorities"]) == (3, 3, 3)
    assert found["store"] >= 3
    assert sum(each.seconds for _, each in p.stages.items()) == pytest.approx(p.seconds)


def test_on_policy_updates_are_batches():
    envs, algorithm = learner(PPO, "ppo", epochs=2)
    collector = Collector(envs, algorithm.act, keep=["log_prob"])
    with profile() as p:
        rollout = collector.steps(4)
        algorithm.store(rollout)
        algorithm.update()
    assert p.updates == 2 * len(rollout) // 4
    assert calls(p)["learn"] == 1
    assert calls(p)["sample"] >= p.updates


def test_machins_loop_is_told_apart():
    _, algorithm = learner()
    env = gymnasium.make("CartPole-v1")
    with profile() as p:
        state = torch.from_numpy(env.reset(seed=0)[0]).view(1, CARTPOLE)
        episode = []
        for _ in range(6):
            action = algorithm.act_discrete_with_noise({"state": state})
            observation, reward, terminal, _, _ = env.step(action.item())
            following = torch.from_numpy(observation).view(1, CARTPOLE)
            episode.append(
                {
                    "state": {"state": state}, "action": {"action": action},
                    "next_state": {"state": following}, "reward": reward, "terminal": terminal,
                }
            )  # fmt: skip
            state = following
        algorithm.store_episode(episode)
        algorithm.update()
    assert (p.steps, p.updates) == (6, 1)
    assert calls(p) == {
        "env": 7, "act": 6, "store": 1, "learn": 1, "sample": 1, "other": 0,
    }  # fmt: skip


def test_a_loop_that_knows_nothing_of_us_is_told_apart():
    network = nn.Linear(CARTPOLE, 2)
    optimizer = torch.optim.SGD(network.parameters())
    with profile() as p:
        env = gymnasium.make("CartPole-v1")  # whose class may not be known yet
        env.reset(seed=0)
        for _ in range(5):
            with p.stage("act"):
                value = network(torch.ones(CARTPOLE))
            env.step(int(value.argmax()))
            value.sum().backward()
            optimizer.step()
    assert (p.steps, p.updates) == (5, 5)
    assert calls(p) == {"env": 6, "act": 5, "learn": 10, "other": 0}


def test_a_pool_and_shared_parameters_are_told_apart():
    network = nn.Linear(CARTPOLE, 2)
    size = sum(x.nbytes for x in network.parameters())
    pool = ActorPool("CartPole-v1", 4, num_workers=0)
    with profile() as p:
        shared = SharedParameters(network)
        shared.publish(network)
        shared.update(network)
        pool.reset(seed=0)
        pool.send(np.zeros(4, np.int64))
        first = pool.recv(2)
        pool.send(np.zeros(2, np.int64), first.env_ids)
        pool.recv(4)
        pool.step(np.zeros(4, np.int64))
    shared.close()
    pool.close()
    assert p.steps == 2 + 4 + 4
    assert calls(p)["env"] == 6
    assert (p.stages["sync"].calls, p.stages["sync"].bytes) == (2, size)


def test_evaluations_are_no_training():
    envs, algorithm = learner()
    with profile() as p:
        evaluate(envs, algorithm.act_discrete, seed=0)
    assert p.steps == 0
    assert calls(p) == {"evaluate": 1, "other": 0}


def test_classes_made_within_are_those_of_their_bases():
    class Slow(gymnasium.Env):
        observation_space = gymnasium.spaces.Discrete(2)
        action_space = gymnasium.spaces.Discrete(2)

        def step(self, action):
            return 0, 0.0, False, False, {}

    with profile() as p:
        Slow().step(0)
    assert p.steps == 1


def test_bytes_are_those_of_what_was_handed_over():
    replay = Replay(100)
    state, reward = torch.zeros(10, 3), torch.zeros(10)
    with profile() as p:
        replay.append(state=state, reward=reward)
        replay.sample(4)
    assert p.stages["store"].bytes == state.nbytes + reward.nbytes
    assert p.stages["sample"].bytes == 4 * 4 * (3 + 1)
    assert bytes_of([{"a": np.zeros(3, np.float32)}, (torch.zeros(2), None)]) == 12 + 8


# -- on and off ---------------------------------------------------------------------------------


def test_everything_is_put_back_even_after_an_error():
    before = methods()

    def fail():
        with profile():
            assert methods() != before
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert methods() == before


def test_all_that_is_said_to_be_timed_is_there():
    found = set()
    with profile() as p:
        found = {(kind.__name__, name.split()[-1]) for kind, name in p._instruments._wrapped}
    for timed in TIMED:
        owner = timed.owner.rpartition(".")[2]
        some = {name for kind, name in found if kind == owner or owner in ("TorchFramework",)}
        assert some & set(timed.methods), timed


def test_a_profile_within_another_or_used_twice_is_refused(tmp_path):
    before = methods()
    with profile() as p:
        with pytest.raises(RuntimeError, match="must not be inside each other"), profile():
            pass
        with stage("sync"):
            pass
    assert calls(p)["sync"] == 1
    with pytest.raises(RuntimeError, match="must be entered once"), p:
        pass
    assert methods() == before


def test_a_trace_that_cannot_be_written_is_refused_at_once(tmp_path):
    before = methods()
    (tmp_path / "file").touch()
    with pytest.raises(OSError), profile(trace=tmp_path / "file" / "trace.json"):  # noqa: PT011
        pass
    with profile():
        pass
    assert methods() == before


# -- what is shown ------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """A profile of known times: env 3 s, of that 1 s in learn; 2 s of nothing."""
    monkeypatch.setattr(watch, "_INTERVAL", 60)
    p = profile()
    with p:
        pass
    for name, seconds, entered in (("env", 3.0, 30), ("learn", 1.0, 2), ("other", 2.0, 0)):
        p.stages[name].seconds, p.stages[name].calls = seconds, entered
    p.stages["env"].bytes = 3 << 20
    monkeypatch.setattr(p.stages, "seconds", lambda: 6.0)
    p._counts.stepped(4)
    p._counts.steps, p._counts.updates = 1200, 60
    p._watch.workers.clear()  # of other tests
    p._watch.workers[7] = watch.Worker(7, seconds=6.0, working=1.5)
    p._watch.gpu = [0.0, 0.5]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    p._cpu_seconds = 9.0
    return p


def test_the_summary_holds_all_figures(shown, tmp_path):
    summary = shown.summary()
    assert {each["name"]: each["share"] for each in summary["stages"]} == pytest.approx(
        {"env": 1 / 2, "learn": 1 / 6, "other": 1 / 3}
    )
    assert (summary["steps_per_second"], summary["updates_per_second"]) == (200, 10)
    assert summary["workers"] == [{"pid": 7, "seconds": 6.0, "working": 0.25, "waiting": 0.75}]
    assert (summary["cores_busy"], summary["gpu_busy"]) == (1.5, 0.25)
    assert summary["slowest"] == "env"
    shown.save(tmp_path / "profile.json")
    assert json.loads((tmp_path / "profile.json").read_text()) == summary


def test_the_table_shows_them(shown):
    lines = str(shown).splitlines()
    rows = [line.split() for line in lines]
    assert ["env", "█" * 7, "50.0%", "3.00", "30", "100,000", "3.0", "MiB"] in rows
    assert ["other", "█" * 5, "33.3%", "2.00"] in rows
    assert ["0", "(pid", "7)", "25%", "75%", "6.00", "s"] in rows
    assert max(map(len, lines)) <= 100
    assert "200 environment steps/s, 10 updates/s, 512.0 KiB/s moved." in lines
    assert "GPU (A GPU): busy 25% of the time." in str(shown)
    assert "Slowest stage: env, 50% of the time. Try:" in lines
    assert any("more environments side by side (--envs 16)" in line for line in lines)
    Console(quiet=True).print(shown)


def test_the_table_fits_a_narrow_terminal(shown):
    text = io.StringIO()
    shown.stages["priorities"].seconds, shown.stages["priorities"].calls = 1e-3, 1_000_000
    shown.stages["priorities"].bytes = 1000 << 20
    Console(file=text, width=80).print(shown)
    assert "…" not in text.getvalue()


def test_many_workers_are_summed_up(shown):
    for pid in range(20):
        shown._watch.workers[pid] = watch.Worker(pid, seconds=1.0, working=0.5)
    assert ["4", "more", "50%", "50%"] in [line.split() for line in str(shown).splitlines()]


def test_the_picture_is_drawn(shown, tmp_path):
    shown.draw(tmp_path / "profile.png", title="A title")
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_trace_is_of_the_chrome_format(tmp_path):
    path = tmp_path / "new" / "trace.json"
    with profile(trace=path) as p, p.stage("learn"), p.stage("sample"):
        sum(range(100_000))
    trace = json.loads(path.read_text())
    meta, learn, sample = trace["traceEvents"]
    assert (meta["ph"], learn["ph"], sample["ph"]) == ("M", "X", "X")
    assert (learn["name"], sample["name"]) == ("learn", "sample")
    assert 0 <= learn["ts"] <= sample["ts"]
    assert learn["ts"] + learn["dur"] >= sample["ts"] + sample["dur"]
    assert sample["dur"] > 100  # microseconds


# -- advice -------------------------------------------------------------------------------------


def facts(stage_name, **changes):
    given = {"envs": 64, "workers": [], "cores": 1, "cuda": False, "gpu_busy": None, **changes}
    return Facts(shares={"other": 0.2, stage_name: 0.7}, **given)


@pytest.mark.parametrize(
    ("stage_name", "changes", "first"),
    [
        ("env", {"envs": 1}, "more environments"),
        ("env", {"cores": 4}, "worker processes"),
        ("env", {"workers": [0.1, 0.2]}, "fewer workers"),
        ("env", {"workers": [0.1, 0.5]}, "more environments per worker"),
        ("env", {"workers": [0.1, 0.9]}, "a machine with more cores"),
        ("env", {}, "environments in C++"),
        ("act", {"envs": 4}, "more environments at once"),
        ("act", {"cuda": True}, "acting on the CPU"),
        ("store", {}, "storing whole rollouts"),
        ("sample", {"cuda": True}, "a replay on the device"),
        ("sample", {}, "fewer and larger batches"),
        ("learn", {"cuda": True, "gpu_busy": 0.2}, "larger batches"),
        ("learn", {"cuda": True, "gpu_busy": 0.0}, "the GPU"),
        ("learn", {}, "fewer and larger batches"),
        ("priorities", {}, "larger batches"),
        ("sync", {}, "handing parameters over"),
        ("evaluate", {}, "fewer evaluations"),
    ],
)
def test_advice_is_for_what_takes_the_time(stage_name, changes, first):
    given = facts(stage_name, **changes)
    assert slowest(given.shares) == stage_name
    assert advice(given)[0].startswith(first)


def test_there_is_advice_for_each_stage_and_none_for_unknown_ones():
    assert {rule.stage for rule in RULES} >= {timed.stage for timed in TIMED}
    assert advice(facts("render")) == []


# -- beside the loop ----------------------------------------------------------------------------


BUSY = "import time\nwhile time.process_time() < 0.4: pass\nprint(flush=True)\ninput()"
IDLE = "print(flush=True)\ninput()"


def test_workers_that_compute_are_told_from_those_that_wait():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with profile() as p:
        workers = [subprocess.Popen([sys.executable, "-c", x], **pipes) for x in (BUSY, IDLE)]
        p._watch._look()
        for worker in workers:
            worker.stdout.readline()
        p._watch._look()
        found = dict(p._watch.workers)
    for worker in workers:
        worker.communicate(b"\n")
    if not Path("/proc/self/task").exists():
        pytest.skip("this system does not tell of child processes")
    busy, idle = (found[worker.pid] for worker in workers)
    assert busy.working >= 0.2
    assert idle.working < busy.working
    assert 0 < busy.share <= 1.1
    assert {each["pid"] for each in p.summary()["workers"]} >= {each.pid for each in workers}


def test_the_gpu_is_asked_how_busy_it_is(monkeypatch):
    def rates(device, found):
        found._obj.gpu = 40
        return 0

    library = SimpleNamespace(
        nvmlInit_v2=lambda: 0,
        nvmlDeviceGetHandleByUUID=lambda uuid, device: int(uuid != b"GPU-ab"),
        nvmlDeviceGetUtilizationRates=rates,
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="ab")
    )
    monkeypatch.setattr(watch.ctypes, "CDLL", lambda name: library)
    looking = watch.Watch()
    looking.close()
    assert looking.gpu[:1] == [0.4]
    monkeypatch.setattr(library, "nvmlDeviceGetUtilizationRates", lambda device, found: 3)
    assert watch._gpu_meter() is None
