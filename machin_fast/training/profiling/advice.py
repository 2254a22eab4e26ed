"""What to try, by what takes the time: rules, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MOST = 3
"""Pieces of advice that are given at once."""


@dataclass(frozen=True)
class Facts:
    """What the rules look at.

    Attributes:
        shares: Of all time, by stage.
        envs: Environments that stepped at once; 0 if none did.
        workers: Shares of time in which child processes worked.
        cores: That this process may use.
        cuda: Whether torch sees a GPU.
        gpu_busy: Part of the time in which a kernel ran on it; None if nobody tells.
    """

    shares: dict[str, float]
    envs: int
    workers: list[float]
    cores: int
    cuda: bool
    gpu_busy: float | None


@dataclass(frozen=True)
class Rule:
    """Advice, and when it is given.

    Attributes:
        stage: That takes most of the time.
        holds: Whether the advice fits.
        advice: What to try.
    """

    stage: str
    holds: Callable[[Facts], bool]
    advice: str


def _always(facts: Facts) -> bool:
    return True


RULES = (
    Rule(
        "env", lambda f: 0 < f.envs < 8,
        "more environments side by side (--envs 16): acting and storing are then shared by more",
    ),
    Rule(
        "env", lambda f: not f.workers and f.cores > 1,
        "worker processes (--vector pool), if a step takes longer than 20 us",
    ),
    Rule(
        "env", lambda f: bool(f.workers) and max(f.workers) < 0.3,
        "fewer workers (--workers 0): these environments are too cheap to hand out",
    ),
    Rule(
        "env", lambda f: bool(f.workers) and 0.3 <= max(f.workers) < 0.7,
        "more environments per worker (--envs), or asynchronous collecting: workers wait",
    ),
    Rule(
        "env", lambda f: bool(f.workers) and max(f.workers) >= 0.7,
        "a machine with more cores, or a cheaper environment: workers are busy",
    ),
    Rule(
        "env", _always,
        "environments in C++ (--vector native), where there is one of this name",
    ),
    Rule(
        "act", lambda f: f.envs < 16,
        "more environments at once (--envs 16): one pass through the network serves them all",
    ),
    Rule("act", lambda f: f.cuda, "acting on the CPU, if the network is small"),
    Rule("act", _always, "one thread for small networks (torch.set_num_threads(1))"),
    Rule(
        "store", _always,
        "storing whole rollouts (Collector and store) instead of single transitions",
    ),
    Rule(
        "sample", lambda f: f.cuda,
        "a replay on the device (Replay(device='cuda')), so that batches need no copy",
    ),
    Rule("sample", _always, "fewer and larger batches, of fewer columns"),
    Rule(
        "learn", lambda f: f.cuda and (f.gpu_busy or 0) < 0.02,
        "the GPU (--device cuda), for large networks or batches",
    ),
    Rule(
        "learn", lambda f: f.gpu_busy is not None and 0.02 <= f.gpu_busy < 0.5,
        "larger batches (--batch-size): the GPU waits for work",
    ),
    Rule(
        "learn", _always,
        "fewer and larger batches (--batch-size), or fewer updates per step (--updates)",
    ),
    Rule("priorities", _always, "larger batches; priorities on the device of the networks"),
    Rule("sync", _always, "handing parameters over less often"),
    Rule("checkpoint", _always, "fewer checkpoints (--checkpoint-every), or a smaller memory"),
    Rule("evaluate", _always, "fewer evaluations (--evaluation-every), or of fewer episodes"),
    Rule(
        "other", _always,
        "marking parts of your own loop with p.stage(name) to see what this is",
    ),
)  # fmt: skip


def slowest(shares: dict[str, float]) -> str:
    """The stage that takes most of the time."""
    return max(shares, key=lambda name: shares[name])


def advice(facts: Facts) -> list[str]:
    """What to try about the slowest stage, the most promising first; nothing for unknown ones.

    Args:
        facts: What was measured.

    Returns:
        At most ``MOST`` texts.
    """
    stage = slowest(facts.shares)
    return [rule.advice for rule in RULES if rule.stage == stage and rule.holds(facts)][:MOST]
