"""Each buffer against plain lists: any program of calls leaves both with the same content."""
# ruff: noqa: NPY002 (the buffers draw by numpy's global generator)

from __future__ import annotations

import itertools
import pickle
import random
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from buffers.steps import assert_batch, columns, steps
from machin_fast.buffers import Buffer, PrioritizedBuffer, RNNBuffer, RNNPrioritizedBuffer

ATTRS = ["state", "action", "next_state", "reward", "terminal", "number"]


class Program(RuleBasedStateMachine):
    """Programs for ``Buffer``; those for others override what is marked so."""

    buffer: Any
    length = 1  # of windows

    @initialize(capacity=st.integers(1, 12))
    def begin(self, capacity: int) -> None:
        self.capacity = capacity
        self.stored = 0  # steps that ever were made
        self.buffer = self.make()
        self.forget()

    def forget(self) -> None:
        """The model: steps by place, and episode numbers with their places."""
        self.ring: dict[int, int] = {}
        self.episodes: list[tuple[int, list[int]]] = []
        self.counter = self.place = 0

    def make(self) -> Any:  # overridden
        return Buffer(self.capacity)

    def priorities(self, n: int) -> list[float] | None:  # overridden
        return None

    def entered(self, places: list[int], priorities: list[float] | None) -> None:  # overridden
        pass

    def new(self, n: int) -> list[int]:
        self.stored += n
        return list(range(self.stored - n, self.stored))

    def store(self, call: str, content: Any, episodes: list[list[int]]) -> None:
        n = sum(map(len, episodes))
        given = self.priorities(n)
        more: dict[str, Any] = {} if given is None else {"priorities": given}
        if more and call == "store_rollout":
            more["priorities"] = np.reshape(given, np.shape(content["terminal"])[::-1]).T
        if n > self.capacity:
            with pytest.raises(ValueError, match="Failed to store episode"):
                getattr(self.buffer, call)(content, **more)
            return
        getattr(self.buffer, call)(content, **more)
        entered = []
        for numbers in episodes:
            places = [(self.place + i) % self.capacity for i in range(len(numbers))]
            self.episodes = [e for e in self.episodes if not set(e[1]) & set(places)]
            self.episodes.append((self.counter, places))
            self.ring.update(zip(places, numbers, strict=True))
            self.counter += 1
            self.place = (self.place + len(numbers)) % self.capacity
            entered += places
        self.entered(entered, given)

    def windows(self) -> list[list[int]]:
        """Places of all windows that can be drawn."""
        return [
            places[i : i + self.length]
            for _, places in self.episodes
            for i in range(len(places) - self.length + 1)
        ]

    def numbers(self, windows: list[list[int]]) -> list[int]:
        return [self.ring[place] for window in windows for place in window]

    # -- calls -----------------------------------------------------------------------------

    @rule(n=st.integers(1, 6), odd=st.sampled_from([None, None, None, "type", "names"]))
    def store_episode(self, n: int, odd: str | None) -> None:
        numbers = self.new(n)
        episode = steps(numbers)
        if odd == "type":
            episode[-1]["number"] = np.int64(numbers[-1])
        if odd == "names":
            episode[-1]["odd"] = "odd"
        self.store("store_episode", episode, [numbers])

    @rule(n=st.integers(1, 6))
    def store_transitions(self, n: int) -> None:
        numbers = self.new(n)
        content = columns(numbers) | {"number": np.array(numbers)}
        self.store("store_transitions", content, [[number] for number in numbers])

    @rule(length=st.integers(1, 4), envs=st.integers(1, 3), cut=st.sampled_from([None, None, 2]))
    def store_rollout(self, length: int, envs: int, cut: int | None) -> None:
        numbers = np.array(self.new(length * envs)).reshape(envs, length)
        content = columns(numbers.T.reshape(-1).tolist(), length, envs)
        content["number"] = numbers.T.copy()
        ends = numbers % 3 == 0  # as the terminal steps are
        if cut:
            content["truncated"] = (numbers % cut == 0).T.copy()
            ends |= numbers % cut == 0
        episodes = []
        for row, end in zip(numbers.tolist(), ends, strict=True):
            bounds = sorted({0, *(np.flatnonzero(end) + 1).tolist(), length})
            episodes += [row[a:b] for a, b in itertools.pairwise(bounds)]
        self.store("store_rollout", content, episodes)

    @rule(often=st.integers(0, 4))
    def clear(self, often: int) -> None:
        if not often:
            self.buffer.clear()
            self.forget()

    @rule(how=st.sampled_from(["pickle", "state"]))
    def save_and_load(self, how: str) -> None:
        if how == "pickle":
            self.buffer = pickle.loads(pickle.dumps(self.buffer))
            return
        state, self.buffer = self.buffer.state_dict(), self.make()
        self.buffer.store_episode(steps(range(self.capacity)))  # of that nothing must stay
        self.buffer.load_state_dict(state)

    @rule(
        n=st.integers(0, 14),
        method=st.sampled_from(["random", "random_unique", "all"]),
        concatenate=st.booleans(),
    )
    def sample(self, n: int, method: str, concatenate: bool) -> None:
        windows = self.windows()
        random.seed(n)
        got, batch = self.buffer.sample_batch(
            n, concatenate, sample_method=method, sample_attrs=ATTRS
        )
        random.seed(n)
        self.check_draw(got, self.numbers_of(batch), windows, n, method)
        if batch is not None and concatenate:
            self.check_batch(batch, self.numbers_of(batch))

    def numbers_of(self, batch: Any) -> list[int]:  # overridden
        return [] if batch is None else batch[5]

    def check_draw(self, got, numbers, windows, n, method) -> None:  # overridden
        size = min(n, len(windows))
        expected = windows
        if method == "random_unique":
            expected = random.sample(windows, size)
        elif method == "random":
            expected = random.choices(windows, k=size) if size else []
        assert numbers == self.numbers(expected)
        assert got == len(numbers)

    def check_batch(self, batch, numbers) -> None:  # overridden
        assert_batch(batch, numbers)

    # -- what always holds -----------------------------------------------------------------

    @invariant()
    def books_and_content_agree(self) -> None:
        buffer = self.buffer
        assert buffer.size() == len(self.ring)
        assert buffer.episode_counter == self.counter
        assert buffer.episode_transition_handles == dict(self.episodes)
        handles = [(place, number) for number, places in self.episodes for place in places]
        assert list(buffer.transition_episode_number.items()) == handles
        stored = [each.number for each in buffer.storage.data]
        assert stored == [self.ring[place] for place in range(len(self.ring))]


class RNNProgram(Program):
    """Programs for ``RNNBuffer``."""

    @initialize(capacity=st.integers(1, 12), length=st.integers(1, 4))
    def begin(self, capacity: int, length: int) -> None:  # type: ignore[override]
        self.length = length
        Program.begin(self, capacity)

    def make(self) -> Any:
        return RNNBuffer(self.length, buffer_size=self.capacity)

    def numbers_of(self, batch: Any) -> list[int]:
        return [] if batch is None else [number for window in batch[5] for number in window]

    def check_batch(self, batch, numbers) -> None:
        shape = (len(batch[5]), self.length)
        assert batch[3].shape == (*shape, 1)
        flat = [{k: v.flatten(0, 1) for k, v in each.items()} for each in batch[:3]]
        assert_batch((*flat, batch[3].flatten(0, 1), batch[4].flatten(0, 1)), numbers)

    def check_draw(self, got, numbers, windows, n, method) -> None:
        all_numbers = [self.numbers([window]) for window in windows]
        drawn = [numbers[i : i + self.length] for i in range(0, len(numbers), self.length)]
        long = [places for _, places in self.episodes if len(places) >= self.length]
        assert got == len(drawn) == (len(windows) if method == "all" else min(n, len(long)))
        if method == "all":
            assert drawn == all_numbers
        assert all(window in all_numbers for window in drawn)
        if method == "random_unique":
            episodes = [i for window in drawn for i, places in enumerate(long)
                        if window[0] in [self.ring[place] for place in places]]  # fmt: skip
            assert len(set(episodes)) == len(drawn)


class PrioritizedProgram(Program):
    """Programs for ``PrioritizedBuffer``."""

    def make(self) -> Any:
        return PrioritizedBuffer(self.capacity, epsilon=0.5, alpha=0.7)

    def forget(self) -> None:
        super().forget()
        self.priority: dict[int, float] = {}
        self.largest = 0.0

    def priorities(self, n: int) -> list[float] | None:
        return None if self.stored % 3 == 0 else [(self.stored * 7 + i) % 5 - 2.0 for i in range(n)]

    def entered(self, places: list[int], priorities: list[float] | None) -> None:
        values = priorities or [self.largest] * len(places)
        self.priority.update(zip(places, values, strict=True))
        self.largest = max(self.largest, *map(abs, values))

    def set_priorities(self, index: Any, numbers: list[int] | None, values: list[float]) -> None:
        self.buffer.update_priority(values, index)
        starts = {window[0] for window in self.windows()}
        for i, (place, value) in enumerate(zip(index, values, strict=True)):
            if place in starts and (numbers is None or numbers[i] == self.ring[place]):
                self.priority[int(place)] = value
                self.largest = max(self.largest, abs(value))

    @rule(value=st.floats(-9, 9), often=st.integers(1, 3))
    def update_some(self, value: float, often: int) -> None:
        index = list(range(0, self.capacity, often)) * 2
        self.set_priorities(index, None, [value + i for i in range(len(index))])

    @rule(n=st.integers(1, 9), between=st.integers(0, 6), value=st.floats(-9, 9))
    def update_drawn(self, n: int, between: int, value: float) -> None:
        if self.windows():
            index = self.buffer.sample_batch(n, sample_attrs=ATTRS)[2]
            numbers = [self.ring[place] for place in index.tolist()]
            if between:
                self.store_episode(between, None)
            self.set_priorities(index, numbers, [value + i for i in range(n)])

    @rule(bad=st.sampled_from([float("nan"), float("inf")]))
    def update_badly(self, bad: float) -> None:
        with pytest.raises(ValueError, match="priorities must be finite"):
            self.buffer.update_priority([1.0, bad], [0, 0])

    @rule(n=st.integers(-1, 9))
    def sample(self, n: int) -> None:  # type: ignore[override]
        windows = self.windows()
        np.random.seed(self.stored)
        got, batch, index, is_weight = self.buffer.sample_batch(n, sample_attrs=ATTRS)
        if n <= 0 or not windows:
            assert (got, batch, index, is_weight) == (0, None, None, None)
            return
        by_start = {window[0]: window for window in windows}
        numbers = self.numbers([by_start[place] for place in index.tolist()])
        assert got == n == len(index)
        assert self.numbers_of(batch) == numbers
        self.check_batch(batch, numbers)
        assert is_weight.max() == 1 and (is_weight > 0).all()

    @invariant()
    def weights_agree(self) -> None:
        expected = np.zeros(self.capacity)
        for start, *_ in self.windows():
            expected[start] = (abs(self.priority[start]) + 0.5) ** 0.7
        got = self.buffer.wt_tree.get_leaf_all_weights()
        np.testing.assert_allclose(got, expected, rtol=1e-14, atol=0)


class RNNPrioritizedProgram(PrioritizedProgram):
    """Programs for ``RNNPrioritizedBuffer``."""

    @initialize(capacity=st.integers(1, 12), length=st.integers(1, 4))
    def begin(self, capacity: int, length: int) -> None:  # type: ignore[override]
        self.length = length
        Program.begin(self, capacity)

    def make(self) -> Any:
        return RNNPrioritizedBuffer(self.length, 1, self.capacity, epsilon=0.5, alpha=0.7)

    numbers_of = RNNProgram.numbers_of
    check_batch = RNNProgram.check_batch


class Limits:
    settings = settings(max_examples=500, stateful_step_count=10)


class TestBuffer(Limits, Program.TestCase):
    pass


class TestRNNBuffer(Limits, RNNProgram.TestCase):
    pass


class TestPrioritizedBuffer(Limits, PrioritizedProgram.TestCase):
    pass


class TestRNNPrioritizedBuffer(Limits, RNNPrioritizedProgram.TestCase):
    pass
