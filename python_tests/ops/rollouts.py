"""Random rollouts, and the facts that are asked of every return estimator.

A test file says what its estimator is, and adds what is special to it::

    class TestGae(EstimatorTests):
        op = staticmethod(gae)
        oracle = staticmethod(oracles.gae)
        arguments = ("reward", "value", "next_value", "terminated", "truncated")
        parameters = {"gamma": 0.97, "lam": 0.9}
        outputs = ("advantage", "value_target")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

# Sizes around those of packs and blocks, each in steps and in envs.
SHAPES = [(0, 3), (3, 0), (1, 1), (7, 1), (1, 7), (64, 65), (65, 64), (1000, 3), (3, 1000)]
LENGTHS = [0, 1, 7, 64, 65, 1000]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
FLAGS = ("terminated", "truncated")


@dataclass(frozen=True)
class Rollout:
    """Arguments of estimators by name: ``[steps, envs]``, or flat ``[N]`` with ``bounds``."""

    reward: Tensor
    value: Tensor
    next_value: Tensor
    behavior_log_prob: Tensor
    target_log_prob: Tensor
    terminated: Tensor
    truncated: Tensor
    bounds: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Rollout:
        """With every tensor but the bounds changed."""
        names = [name for name in self.__dataclass_fields__ if name != "bounds"]
        return replace(self, **{name: change(getattr(self, name)) for name in names})


def rollout(
    *shape: int,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    bounds: list[int] | None = None,
    seed: int = 0,
    ends: tuple[float, float] = (0.1, 0.1),
) -> Rollout:
    """Normal numbers; ``ends`` are the chances that a step is terminated and truncated.

    The next value of a terminated step is NaN: no estimator may look at it.
    """
    random = np.random.default_rng([seed, *shape])

    def numbers() -> Tensor:
        return torch.from_numpy(random.standard_normal(shape)).to(device, dtype)

    def flags(chance: float) -> Tensor:
        return torch.from_numpy(random.random(shape) < chance).to(device)

    fields = {name: numbers() for name in Rollout.__dataclass_fields__ if name not in FLAGS}
    fields |= {name: flags(chance) for name, chance in zip(FLAGS, ends, strict=True)}
    fields["next_value"][fields["terminated"]] = torch.nan
    return Rollout(**fields | {"bounds": None if bounds is None else torch.tensor(bounds)})


def awkward_bounds(rows: int) -> list[int]:
    """Segments of 3, 1, 0, 0, 2, 70, 1, ... rows, with empty ones at both ends."""
    bounds = [0, 0]
    lengths = (3, 1, 0, 0, 2, 70, 1, 1, 5, 16, 0, 31, 64)
    while bounds[-1] < rows:
        bounds.append(min(rows, bounds[-1] + lengths[(len(bounds) - 2) % len(lengths)]))
    return [*bounds, rows]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tuple_of(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


@st.composite
def rollouts(draw: st.DrawFn) -> Rollout:
    """Small rollouts of all layouts, from never ended to ended at each step."""
    chance = st.sampled_from([0.0, 0.1, 0.5, 1.0])
    options = {"seed": draw(st.integers(0, 2**32)), "ends": (draw(chance), draw(chance))}
    if draw(st.booleans()):
        return rollout(draw(st.integers(0, 30)), draw(st.integers(0, 20)), **options)
    lengths = draw(st.lists(st.integers(0, 20), min_size=1, max_size=10))
    bounds = [0, *np.cumsum(lengths).tolist()]
    return rollout(bounds[-1], bounds=bounds, **options)


class EstimatorTests:
    """Facts that hold for every return estimator."""

    op: ClassVar[Callable[..., Any]]
    oracle: ClassVar[Callable[..., Any]]
    # Tensors in their order, None for one that is left out; then numbers, by name.
    arguments: ClassVar[tuple[str | None, ...]]
    parameters: ClassVar[dict[str, Any]]
    outputs: ClassVar[tuple[str, ...]]
    fractions: ClassVar[tuple[str, ...]] = ("gamma", "lam")
    differentiable: ClassVar[bool] = False

    # -- what a subclass need not know

    @property
    def name(self) -> str:
        return self.op.__name__

    def inputs(self, data: Rollout) -> list[Tensor | None]:
        return [None if name is None else getattr(data, name) for name in self.arguments]

    def call(self, data: Rollout, **changes: Any) -> tuple[Tensor, ...]:
        keywords = {**self.parameters, "bounds": data.bounds, **changes}
        return tuple_of(self.op(*self.inputs(data), **keywords))

    def expected(self, data: Rollout, **changes: Any) -> tuple[Tensor, ...]:
        def array(x: Tensor | None) -> Any:
            return None if x is None else (x.double() if x.is_floating_point() else x).cpu().numpy()

        keywords = {**self.parameters, "bounds": array(data.bounds), **changes}
        return tuple(
            torch.from_numpy(x)
            for x in tuple_of(self.oracle(*map(array, self.inputs(data)), **keywords))
        )

    def out(self, data: Rollout) -> Any:
        """Outputs to write into, filled with what no result is."""
        outputs = tuple(torch.full_like(x, -77) for x in self.call(data))
        return outputs if len(outputs) > 1 else outputs[0]

    def raw(self, data: Rollout) -> tuple[Any, ...]:
        """Arguments of the op as the dispatcher has them."""
        return (*self.inputs(data), data.bounds, *self.parameters.values())

    def check(self, data: Rollout, **changes: Any) -> None:
        got = self.call(data, **changes)
        assert len(got) == len(self.outputs)
        for name, x, want in zip(self.outputs, got, self.expected(data, **changes), strict=True):
            assert x.device == data.reward.device and x.is_contiguous() and not x.requires_grad
            if want.is_floating_point():
                assert x.dtype == data.reward.dtype
                tolerance = TOLERANCE[x.dtype]
                assert_close(
                    x.double().cpu(), want, atol=tolerance, rtol=tolerance, equal_nan=True,
                    msg=lambda text, name=name: f"{name}: {text}",
                )  # fmt: skip
            else:
                assert_close(x.cpu(), want)

    # -- results

    @pytest.mark.parametrize("dtype", TOLERANCE)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_matches_the_equation(
        self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.check(rollout(*shape, dtype=dtype, device=device))

    @pytest.mark.parametrize("dtype", TOLERANCE)
    @pytest.mark.parametrize("rows", LENGTHS)
    def test_flat_rows_match_the_equation(
        self, rows: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.check(rollout(rows, dtype=dtype, device=device))
        self.check(rollout(rows, dtype=dtype, device=device, bounds=awkward_bounds(rows)))

    @settings(max_examples=40, suppress_health_check=[HealthCheck.differing_executors])
    @given(data=rollouts(), fractions=st.lists(st.floats(0, 1), min_size=2, max_size=2))
    def test_matches_the_equation_whatever_the_rollout(
        self, data: Rollout, fractions: list[float]
    ) -> None:
        self.check(data, **dict(zip(self.fractions, fractions, strict=False)))

    def test_numbers_at_the_ends_of_their_range_are_allowed(self, device: torch.device) -> None:
        for end in (0.0, 1.0):
            data = rollout(20, 5, device=device)
            self.check(data, **dict.fromkeys(self.fractions, end))

    def test_nan_stays_in_its_trajectory(self, device: torch.device) -> None:
        for shape, bounds in (((60, 5), None), ((60,), [0, 25, 60])):
            data = rollout(*shape, device=device, bounds=bounds, ends=(0.0, 0.0))
            flags = {name: torch.zeros_like(data.terminated) for name in FLAGS}
            flags["terminated"][9] = flags["truncated"][19] = True  # row 12 lies between
            clean = replace(data, **flags)
            names = [name for name in self.arguments if name and name not in FLAGS]
            for name in names:
                poisoned = getattr(data, name).clone()
                row = (12, 0) if poisoned.dim() == 2 else (12,)
                poisoned[row] = torch.nan
                before, after = self.call(clean), self.call(replace(clean, **{name: poisoned}))
                for x, y in zip(before, after, strict=True):
                    same = (x == y) | (x.isnan() & y.isnan())
                    same[(slice(10, 20), *row[1:])] = True
                    assert same.all(), f"NaN in {name} reached {(~same).nonzero().tolist()}"

    def test_infinities_and_huge_ratios_stay_in_their_trajectory(
        self, device: torch.device
    ) -> None:
        data = rollout(30, 4, device=device)
        data.behavior_log_prob[::3] = -1e30
        data.target_log_prob[1::3] = -1e30
        self.check(data)

    def test_layout_of_the_inputs_does_not_matter(self, device: torch.device) -> None:
        data = rollout(33, 17, device=device)
        want = self.call(data)

        def every_other(x: Tensor) -> Tensor:
            spaced = x.new_empty(33, 34)
            spaced[:, ::2] = x
            return spaced[:, ::2]

        for change in (lambda x: x.t().contiguous().t(), every_other):
            got = self.call(data.each(change))
            assert all(map(torch.equal, got, want)) and all(x.is_contiguous() for x in got)
        row = data.each(lambda x: x[:1].expand(33, 17))
        assert all(map(torch.equal, self.call(row), self.call(row.each(torch.clone))))

    def test_inputs_are_left_alone(self, device: torch.device) -> None:
        data = rollout(20, 5, device=device)
        kept = data.each(torch.clone)
        self.call(data)
        for x, y in zip(self.inputs(data), self.inputs(kept), strict=True):
            assert x is y is None or torch.equal(x.nan_to_num(7), y.nan_to_num(7))

    def test_one_column_is_one_segment(self, device: torch.device) -> None:
        data = rollout(500, 1, device=device)
        flat = data.each(lambda x: x[:, 0])
        for x, y, z in zip(
            self.call(data), self.call(flat),
            self.call(replace(flat, bounds=torch.tensor([0, 500]))), strict=True,
        ):  # fmt: skip
            assert torch.equal(x[:, 0], y) and torch.equal(y, z)

    def test_threads_change_no_more_than_rounding(self) -> None:
        rows = 2**19 + 100_000  # more than one thread takes: kRowsPerThread of csrc/ops/rollout.h
        columns = rollout(1000, rows // 1000, dtype=torch.float32)
        flat = rollout(rows, dtype=torch.float32, bounds=awkward_bounds(rows))
        results = []
        for count in (1, 3):
            with threads(count):
                results.append((self.call(columns), self.call(flat)))
        (columns_1, flat_1), (columns_3, flat_3) = results
        assert all(map(torch.equal, columns_1, columns_3))
        # Flat rows are added up in packs, which lie elsewhere in each thread's share.
        assert_close(flat_3, flat_1, atol=1e-5, rtol=1e-5)

    # -- outputs that the caller hands in

    def test_out_is_filled_and_returned(self, device: torch.device) -> None:
        for data in (
            rollout(20, 5, device=device),
            rollout(90, device=device, bounds=awkward_bounds(90)),
        ):
            out = self.out(data)
            got = self.op(*self.inputs(data), **self.parameters, bounds=data.bounds, out=out)
            assert got is out
            assert all(map(torch.equal, tuple_of(out), self.call(data)))

    def test_out_must_fit(self) -> None:
        data = rollout(4, 3)
        good = self.call(data)
        for k, name in enumerate(self.outputs):
            dtype = str(good[k].dtype).removeprefix("torch.")
            holes = torch.empty(4, 6, dtype=good[k].dtype)[:, ::2]
            for bad, rule in (
                (good[k][:3], "have shape [4, 3], got [3, 3]"),
                (good[k].to(torch.bool), f"be {dtype}, got bool"),
                (holes, "be contiguous, got strides [6, 2]"),
            ):
                out = (*good[:k], bad, *good[k + 1 :])
                with self.complaint(f"{name} must {rule}"):
                    self.call(data, out=out if len(out) > 1 else bad)

    # -- what is refused

    @contextmanager
    def complaint(self, text: str) -> Iterator[None]:
        with pytest.raises(RuntimeError, match="^" + re.escape(f"{self.name}: {text}")):
            yield

    def test_a_wrong_tensor_is_named(self) -> None:
        data = rollout(4, 3)
        for name in filter(None, self.arguments):
            flag = name in FLAGS
            x = getattr(data, name)
            if name != "reward":
                with self.complaint(f"{name} must have shape [4, 3], got [4, 2]"):
                    self.call(replace(data, **{name: x[:, :2]}))
                with self.complaint(f"{name} must have shape [4, 3], got [12]"):
                    self.call(replace(data, **{name: x.flatten()}))
                rule = "bool, got float32" if flag else "float64, got float32"
                with self.complaint(f"{name} must be {rule}"):
                    self.call(replace(data, **{name: x.float()}))
        with self.complaint("reward must be [steps, envs], or flat [N], got shape [2, 2, 3]"):
            self.call(data.each(lambda x: x.reshape(2, 2, 3)))
        with self.complaint("reward must be [steps, envs], or flat [N], got shape []"):
            self.call(data.each(lambda x: x[0, 0]))
        with self.complaint("reward must be float32 or float64, got int64"):
            self.call(replace(data, reward=data.reward.long()))
        with self.complaint("reward must be float32 or float64, got another dtype"):
            self.call(replace(data, reward=data.reward.half()))

    def test_wrong_bounds_are_named(self) -> None:
        data = rollout(12)

        def refused(bounds: Tensor, text: str) -> None:
            with self.complaint(text):
                self.call(replace(data, bounds=bounds))

        refused(torch.tensor([0.0, 12.0]), "bounds must be int64, got float32")
        refused(torch.tensor([[0, 12]]), "bounds must be [segments + 1], got shape [1, 2]")
        refused(torch.tensor([0]), "bounds must have at least 2 entries, got 1")
        refused(torch.tensor([], dtype=torch.int64), "bounds must have at least 2 entries, got 0")
        refused(torch.tensor([1, 12]), "bounds must start with 0, got 1")
        refused(torch.tensor([0, 11]), "bounds must end with 12, got 11")
        refused(torch.tensor([0, 13]), "bounds must end with 12, got 13")
        refused(
            torch.tensor([0, 9, 4, 12]), "bounds must not decrease, got 4 after 9 at position 2"
        )
        with self.complaint("bounds must come with flat [N] tensors, got reward of shape [4, 3]"):
            self.call(replace(rollout(4, 3), bounds=torch.tensor([0, 4])))

    def test_a_number_out_of_range_is_named(self) -> None:
        for name in self.fractions:
            for bad in (-0.1, 1.5, float("nan"), float("inf")):
                with self.complaint(f"{name} must be in [0, 1], got "):
                    self.call(rollout(4, 3), **{name: bad})

    def test_a_refused_call_leaves_out_untouched(self) -> None:
        data = rollout(4, 3)
        out = self.out(data)
        with self.complaint("gamma must be in [0, 1], got 2"):
            self.call(data, gamma=2, out=out)
        assert all((x == -77).all() for x in tuple_of(out))

    def test_out_shares_memory_with_no_argument(self, device: torch.device) -> None:
        data = rollout(4, 3, device=device)
        names = [name for name in self.arguments if name and name not in FLAGS]
        for name in names:
            out = tuple_of(self.out(data))
            shared = (getattr(data, name), *out[1:])
            before = shared[0].clone()
            with self.complaint(f"{self.outputs[0]} must not share memory with {name}"):
                self.call(data, out=shared if len(out) > 1 else shared[0])
            assert_close(shared[0], before, rtol=0, atol=0, equal_nan=True)
        out = tuple_of(self.out(data))
        if len(out) > 1 and out[0].dtype == out[1].dtype:
            with self.complaint(f"{self.outputs[1]} must not share memory with {self.outputs[0]}"):
                self.call(data, out=(out[0], out[0], *out[2:]))

    @pytest.mark.cuda
    @pytest.mark.parametrize("device", ["cuda"], indirect=True)
    def test_tensors_of_two_devices_are_refused(self, device: torch.device) -> None:
        data = rollout(4, 3, device=device)
        with self.complaint("terminated must be on cuda:0, got cpu"):
            self.call(replace(data, terminated=data.terminated.cpu()))
        flat = replace(data.each(torch.flatten), bounds=torch.tensor([0, 12], device=device))
        with self.complaint("bounds must be on the CPU, got cuda:0"):
            self.call(flat)

    # -- torch

    def test_registration_is_sound(self, device: torch.device) -> None:
        packet = getattr(torch.ops.machin_fast, self.name)
        for data in (
            rollout(5, 3, device=device),
            rollout(12, device=device, bounds=[0, 5, 5, 12]),
        ):
            out = dict(zip(self.outputs, tuple_of(self.out(data)), strict=True))
            torch.library.opcheck(packet.default, self.raw(data))
            torch.library.opcheck(packet.out, self.raw(data), out)

    @pytest.mark.compile
    def test_compiles_into_one_graph(self, device: torch.device) -> None:
        data = rollout(9, 4, dtype=torch.float32, device=device)
        flat = rollout(20, dtype=torch.float32, device=device, bounds=[0, 5, 20])

        @torch.compile(fullgraph=True)
        def compiled(data: Rollout, reward: Tensor, out: Any) -> Any:
            # Others before and after, so that the op sits in a graph.
            doubled = replace(data, reward=2 * reward)
            fresh = self.call(doubled)
            written = self.call(doubled, out=out)
            return [x + y for x, y in zip(fresh, written, strict=True)]

        torch.compiler.reset()
        for each in (data, flat):
            want = self.call(replace(each, reward=2 * each.reward))
            out = self.out(each)
            got = compiled(each, each.reward, out)
            assert_close(got, [2 * x for x in want], equal_nan=True)
            assert_close(tuple_of(out), want, equal_nan=True)

    def test_gradients_are_as_promised(self, device: torch.device) -> None:
        data = rollout(5, 3, device=device)
        data.reward.requires_grad_()
        result = self.call(data)
        assert all(x.requires_grad == self.differentiable for x in result)
        out = self.call(data, out=self.out(data))
        assert not any(x.requires_grad for x in out)
        with torch.no_grad():
            assert not any(x.requires_grad for x in self.call(data))


class DifferentiableEstimatorTests(EstimatorTests):
    """Facts that hold for those with a gradient."""

    differentiable = True

    def test_gradients_agree_with_differences(self, device: torch.device) -> None:
        for shape, bounds in (((7, 2), None), ((1, 1), None), ((12,), [0, 0, 3, 4, 12])):
            data = rollout(*shape, device=device, bounds=bounds, ends=(0.2, 0.2))
            data = replace(data, next_value=data.next_value.nan_to_num(5))
            names = [name for name in self.arguments if name and name not in FLAGS]

            def result(*tensors: Tensor, data: Rollout = data, names: list[str] = names) -> Any:
                return self.call(replace(data, **dict(zip(names, tensors, strict=True))))

            assert torch.autograd.gradcheck(
                result, [getattr(data, name).requires_grad_() for name in names]
            )

    def test_gradients_do_not_pass_a_cut(self, device: torch.device) -> None:
        data = rollout(9, 2, device=device, ends=(0.0, 0.0))
        data.terminated[2, 0] = data.truncated[5, 0] = True
        data.reward.requires_grad_()
        (result,) = self.call(data)
        (grad,) = torch.autograd.grad(result[4, 0], data.reward)
        assert grad.nonzero().tolist() == [[4, 0], [5, 0]]

    def test_second_gradients_are_right(self, device: torch.device) -> None:
        data = rollout(4, 2, device=device, ends=(0.2, 0.2))

        def loss(reward: Tensor) -> Tensor:
            return self.call(replace(data, reward=reward))[0].nan_to_num(0).square().sum()

        hessian = torch.autograd.functional.hessian(loss, data.reward)
        # The result is linear in the reward: its square has twice J^T J as Hessian.
        jacobian = torch.autograd.functional.jacobian(
            lambda reward: self.call(replace(data, reward=reward))[0], data.reward
        ).reshape(8, 8)
        assert_close(hessian.reshape(8, 8), 2 * jacobian.T @ jacobian)

    @pytest.mark.compile
    def test_a_gradient_compiles(self, device: torch.device) -> None:
        data = rollout(9, 4, device=device)
        data.reward.requires_grad_()
        torch.compiler.reset()
        compiled = torch.compile(lambda data: self.call(data)[0].square().sum(), fullgraph=True)
        want = torch.autograd.grad(self.call(data)[0].square().sum(), data.reward)
        assert_close(torch.autograd.grad(compiled(data), data.reward), want)
