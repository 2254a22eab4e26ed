"""Which methods are timed as which stage. They are wrapped while somebody profiles, so that
nobody pays for it otherwise."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from machin_fast.utils.stages import Stages

Observer = Callable[["Counts", Any, Any, Any], int]
"""Takes the counts, the object, the arguments of its method and what it returned; returns the
bytes handed over."""


class Counts:
    """What was done.

    Attributes:
        steps: Of environments, but for those of evaluations.
        updates: Batches learned from; steps of optimizers where these belong to no algorithm.
        envs: Most environments that stepped at once.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.updates = 0
        self.envs = 0

    def stepped(self, envs: int) -> None:
        self.steps += envs
        self.envs = max(self.envs, envs)


class Timed(NamedTuple):
    """Methods that are a stage.

    Attributes:
        owner: Their class, by a dotted path; what subclasses make of them is timed as well.
        methods: Their names, where the class has them.
        stage: Name of the stage.
        observe: What they did.
    """

    owner: str
    methods: tuple[str, ...]
    stage: str
    observe: Observer | None = None


def _seen(counts: Counts, envs: Any, given: Any, step: Any) -> int:
    """Of our own view of environments, which has observations by name."""
    counts.stepped(envs.num_envs)
    return bytes_of(given) + bytes_of(envs.observation) + bytes_of(step)


def _vector_stepped(counts: Counts, envs: Any, given: Any, step: Any) -> int:
    counts.stepped(envs.num_envs)
    return bytes_of(given) + bytes_of(step[:4])


def _env_stepped(counts: Counts, env: Any, given: Any, step: Any) -> int:
    counts.stepped(1)
    return bytes_of(given) + bytes_of(step[0])


def _received(counts: Counts, pool: Any, given: Any, found: Any) -> int:
    counts.stepped(len(found.env_ids))
    return bytes_of(found)


def _collected(counts: Counts, collector: Any, given: Any, trajectory: Any) -> int:
    """Of worker processes, which act and step by themselves."""
    counts.steps += len(trajectory)
    return bytes_of(trajectory)


def _published(counts: Counts, owner: Any, given: Any, result: Any) -> int:
    (module,) = given
    return bytes_of(list(module.parameters()) if hasattr(module, "parameters") else dict(module))


def _given(counts: Counts, owner: Any, given: Any, result: Any) -> int:
    return bytes_of(given)


def _returned(counts: Counts, owner: Any, given: Any, result: Any) -> int:
    return bytes_of(result)


_SHARED = "machin_fast.collect.shared_parameters.SharedParameters"
_ACT = ("act", "act_with_noise", "act_discrete", "act_discrete_with_noise")
_STORE = ("append", "store", "store_episode", "store_transition", "store_transitions",
          "store_rollout", "store_trajectory")  # fmt: skip

TIMED = (
    Timed("machin_fast.collect.acting.Acting", ("__call__",), "act"),
    Timed("machin_fast.collect.environments.Environments", ("step",), "env", _seen),
    Timed("machin_fast.collect.environments.Environments", ("reset",), "env"),
    Timed(
        "machin_fast.collect.recording.Recording", ("observe", "complete", "trajectory"), "store"
    ),
    Timed("gymnasium.vector.VectorEnv", ("step",), "env", _vector_stepped),
    Timed("gymnasium.Env", ("step",), "env", _env_stepped),
    Timed("gymnasium.vector.VectorEnv", ("reset",), "env"),
    Timed("gymnasium.Env", ("reset",), "env"),
    Timed("machin_fast.env.ActorPool", ("send",), "env", _given),
    Timed("machin_fast.env.ActorPool", ("recv",), "env", _received),
    Timed("machin_fast.collect.WorkerCollector", ("steps", "episodes"), "env", _collected),
    Timed(_SHARED, ("publish",), "sync", _published),
    Timed(_SHARED, ("update",), "sync"),
    Timed(_SHARED, ("read",), "sync", _returned),
    Timed("machin_fast.data.Replay", ("append",), "store", _given),
    Timed("machin_fast.data.Replay", ("sample", "sample_windows"), "sample", _returned),
    Timed("machin_fast.data.Replay", ("update_priority",), "priorities"),
    Timed("machin_fast.data.Batch", ("update_priority",), "priorities"),
    Timed("machin_fast.data.Trajectory", ("rows",), "sample", _returned),
    Timed("machin_fast.buffers.Buffer", _STORE, "store", _given),
    Timed("machin_fast.buffers.Buffer", ("sample_batch",), "sample", _returned),
    Timed("machin_fast.buffers.PrioritizedBuffer", ("update_priority",), "priorities"),
    Timed("machin_fast.algorithms.TorchFramework", _ACT, "act"),
    Timed("machin_fast.algorithms.TorchFramework", _STORE, "store", _given),
    Timed("machin_fast.algorithms.TorchFramework", ("learn", "update", "over"), "learn"),
    Timed("torch.optim.Optimizer", ("step",), "learn"),
    Timed("torch.Tensor", ("backward",), "learn"),
)  # fmt: skip

UPDATES = {
    # The first are what on-policy algorithms' ``update`` does with each batch.
    "machin_fast.algorithms.TorchFramework": (
        "_learn_both", "_learn_policy", "_learn_value", "learn"
    ),
    "torch.optim.Optimizer": ("step",),
}  # fmt: skip
"""Methods whose calls are counted as updates, but for those within others of these."""


class Instruments:
    """Wraps methods, and puts them back."""

    def __init__(self, stages: Stages, counts: Counts) -> None:
        self._stages = stages
        self._counts = counts
        # By stage, whether one of its methods is running.
        self._running: dict[str, list[bool]] = {}
        self._within_update = False
        self._replaced: list[tuple[Any, str, Any]] = []
        self._wrapped: set[tuple[Any, str]] = set()

    def attach(self) -> None:
        """Wraps what there is, and watches for environments of classes that are yet to come."""
        self._wrap_all()
        gymnasium = importlib.import_module("gymnasium")
        for name in ("make", "make_vec"):
            self._replace(gymnasium, name, self._then_wrap(getattr(gymnasium, name)))

    def detach(self) -> None:
        """Puts everything back."""
        while self._replaced:
            owner, name, before = self._replaced.pop()
            setattr(owner, name, before)
        self._wrapped.clear()

    def _wrap_all(self) -> None:
        for owner, methods in UPDATES.items():
            for kind, name in self._found(owner, methods, "update"):
                self._replace(kind, name, self._counted(vars(kind)[name]))
        for timed in TIMED:
            for kind, name in self._found(timed.owner, timed.methods, timed.stage):
                self._replace(kind, name, self._timed(vars(kind)[name], timed))

    def _found(self, owner: str, methods: tuple[str, ...], what: str) -> Iterator[tuple[type, str]]:
        """Classes that have methods of their own, which are not wrapped yet."""
        module, _, name = owner.rpartition(".")
        for kind in _family(getattr(importlib.import_module(module), name)):
            for method in methods:
                key = kind, f"{what} {method}"
                if inspect.isfunction(vars(kind).get(method)) and key not in self._wrapped:
                    self._wrapped.add(key)
                    yield kind, method

    def _replace(self, owner: Any, name: str, function: Any) -> None:
        self._replaced.append((owner, name, vars(owner)[name]))
        setattr(owner, name, function)

    def _timed(self, function: Callable[..., Any], timed: Timed) -> Callable[..., Any]:
        stages, counts = self._stages, self._counts
        name, observe = timed.stage, timed.observe
        running = self._running.setdefault(name, [False])

        def outermost(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            entered = stages.enter(name)
            if not entered and not stages.counts_here():
                return function(self, *args, **kwargs)
            running[0] = True
            try:
                result = function(self, *args, **kwargs)
                if observe is not None:
                    given = (*args, *kwargs.values()) if kwargs else args
                    stages[name].bytes += observe(counts, self, given, result)
            finally:
                running[0] = False
                if entered:
                    stages.leave()
            return result

        # Wrappers of environments call each other, several deep for each environment of a vector.
        @functools.wraps(function)
        def call_with_one(self: Any, action: Any) -> Any:
            return function(self, action) if running[0] else outermost(self, (action,), {})

        @functools.wraps(function)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            return function(self, *args, **kwargs) if running[0] else outermost(self, args, kwargs)

        return (
            call_with_one
            if list(inspect.signature(function).parameters)[1:] == ["action"]
            else call
        )

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        instruments = self

        @functools.wraps(function)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if instruments._within_update or not instruments._stages.counts_here():
                return function(self, *args, **kwargs)
            instruments._within_update = True
            try:
                result = function(self, *args, **kwargs)
            finally:
                instruments._within_update = False
            instruments._counts.updates += 1
            return result

        return call

    def _then_wrap(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Making an environment imports its class."""

        @functools.wraps(make)
        def call(*args: Any, **kwargs: Any) -> Any:
            made = make(*args, **kwargs)
            self._wrap_all()
            return made

        return call


def _family(kind: type) -> Iterator[type]:
    """A class and all that are made of it."""
    yield kind
    children: list[type] = kind.__subclasses__()
    for child in children:
        yield from _family(child)


def bytes_of(value: Any) -> int:
    """Bytes of tensors and arrays, however nested."""
    size = getattr(value, "nbytes", None)
    if type(size) is int:
        return size
    found = getattr(value, "columns", value)  # of a batch or trajectory
    if isinstance(found, dict):
        found = found.values()
    elif not isinstance(found, list | tuple):
        return 0
    return sum(map(bytes_of, found))
