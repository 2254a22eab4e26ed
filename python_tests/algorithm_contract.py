"""What holds for every algorithm, whatever it learns by."""

from __future__ import annotations

import inspect
import json
import random
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from experience import parameters


class AlgorithmTests:
    """To be subclassed for each algorithm."""

    # The class, dotted paths of its networks as a config names them, and for each optimizer which
    # entry of lr_scheduler_args it has.
    frame: ClassVar[Any]
    models: ClassVar[list[str]]
    rates: ClassVar[dict[str, int]] = {"actor_optim": 0, "critic_optim": 1}
    # Flags of ``update``, and the networks that each moves.
    flags: ClassVar[dict[str, tuple[str, ...]]]
    # What a criterion is given to learn from one bad number.
    bad: ClassVar[str] = "reward"

    def make(self, **options: Any) -> Any:
        """The algorithm, float32, with known parameters."""
        raise NotImplementedError

    def episode(self, steps: int, **options: Any) -> list[dict[str, Any]]:
        raise NotImplementedError

    def fed(self, steps: int = 12, **options: Any) -> Any:
        made = self.make(**options)
        made.store_episode(self.episode(steps))
        return made

    def test_update_returns_floats_and_leaves_networks_in_eval_mode(self) -> None:
        algorithm = self.fed()
        figures = algorithm.update()
        for figure in figures if isinstance(figures, tuple) else (figures,):
            assert type(figure) is float
        online = [getattr(algorithm, name.removesuffix("_optim"), None) for name in self.rates]
        assert not any(each.training for each in online if isinstance(each, nn.Module))

    def test_a_single_transition_is_enough(self) -> None:
        algorithm = self.fed(1)
        algorithm.update()
        assert all(torch.isfinite(x).all() for x in parameters(*algorithm.top_models))

    def test_flags_that_are_off_leave_weights_as_they_are(self) -> None:
        for flag, names in self.flags.items():
            algorithm = self.fed()
            others = set(algorithm.get_top_model_names()).difference(names)
            before = {each: parameters(getattr(algorithm, each)) for each in (*names, *others)}
            algorithm.update(**{flag: False})
            for name in names:
                assert_close(parameters(getattr(algorithm, name)), before[name], atol=0, rtol=0)
            algorithm = self.fed()
            algorithm.update()
            for name in names:
                with pytest.raises(AssertionError):
                    assert_close(parameters(getattr(algorithm, name)), before[name])

    def test_without_anything_stored_there_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=rf"{self.frame.__name__}.*must hold a transition"):
            self.make().update()
        with pytest.raises(ValueError, match=r"must be (non-empty|at least 1)"):
            self.make().store_episode([])

    def test_an_incomplete_transition_is_refused_and_nothing_stored(self) -> None:
        for name in ("state", "action", "reward", "next_state", "terminal"):
            algorithm = self.make()
            broken = self.episode(3)
            del broken[1][name]
            with pytest.raises(ValueError, match=f"missing.*{name}|{name}.*missing|{name}"):
                algorithm.store_episode(broken)
            assert algorithm.replay_buffer.size() == 0

    def test_nan_is_refused_and_changes_nothing(self) -> None:
        algorithm = self.make()
        steps = self.episode(6)
        for each in steps:
            each["reward"] = float("nan")
        algorithm.store_episode(steps)
        before = parameters(*algorithm.top_models)
        with pytest.raises(ValueError, match=rf"{self.frame.__name__}: .* loss must be finite"):
            algorithm.update()
        assert_close(parameters(*algorithm.top_models), before, atol=0, rtol=0)

    def test_lazy_figures_are_the_same_numbers(self) -> None:
        _seed(0)
        want = self.fed().update()
        _seed(0)
        got = self.fed(lazy=True).update()
        pair = isinstance(want, tuple)
        for one, other in zip(*((got, want) if pair else ((got,), (want,))), strict=True):
            assert isinstance(one, Tensor) and not one.requires_grad
            assert_close(one.item(), other)

    def test_networks_may_compute_in_less_precision(self) -> None:
        _seed(0)
        want = self.fed(40, batch_size=40).update()
        _seed(0)
        algorithm = self.fed(40, batch_size=40, autocast=torch.bfloat16)
        got = algorithm.update()
        assert_close(got, want, atol=0.05, rtol=0.05)
        assert {x.dtype for x in parameters(*algorithm.top_models)} == {torch.float32}

    def test_each_optimizer_has_its_scheduler(self) -> None:
        groups = max(self.rates.values()) + 1
        args = [(partial(_decayed, base=0.5 ** (i + 1)),) for i in range(groups)]
        algorithm = self.make(
            lr_scheduler=torch.optim.lr_scheduler.LambdaLR, lr_scheduler_args=tuple(args)
        )
        assert len(algorithm.lr_schedulers) == len(self.rates) == len(algorithm.optimizers)
        before = {name: getattr(algorithm, name).param_groups[0]["lr"] for name in self.rates}
        for optimizer in algorithm.optimizers:
            optimizer.step()
        algorithm.update_lr_scheduler()
        for name, group in self.rates.items():
            rate = getattr(algorithm, name).param_groups[0]["lr"]
            assert_close(rate, before[name] * 0.5 ** (group + 1))
        with pytest.raises(TypeError, match=r"missing .* positional argument"):
            self.make(lr_scheduler=torch.optim.lr_scheduler.LambdaLR)
        with pytest.raises(ValueError, match=rf"lr_scheduler_args must have {groups} entries"):
            self.make(lr_scheduler=torch.optim.lr_scheduler.LambdaLR, lr_scheduler_args=((1,),) * 9)

    def test_saved_networks_come_back(self, tmp_path: Path) -> None:
        algorithm = self.fed()
        algorithm.update()
        algorithm.save(str(tmp_path), version=3)
        other = self.make()
        _shift(other)
        other.load(str(tmp_path))
        for name in self.frame.get_restorable_model_names():
            saved = parameters(getattr(algorithm, name))
            assert_close(parameters(getattr(other, name)), saved, atol=0, rtol=0)
            online = getattr(other, name.removesuffix("_target"))
            assert_close(parameters(online), saved, atol=0, rtol=0)

    def test_a_state_goes_on_bit_for_bit(self) -> None:
        _seed(0)
        algorithm = self.fed()
        algorithm.update()
        algorithm.store_episode(self.episode(7))
        state = algorithm.state_dict()
        want = [algorithm.update()], parameters(*algorithm.top_models)
        _seed(99)
        other = self.make()
        _shift(other)
        other.load_state_dict(state)
        got = [other.update()], parameters(*other.top_models)
        assert got[0] == want[0]
        assert_close(got[1], want[1], atol=0, rtol=0)

    def test_a_config_makes_it_again(self) -> None:
        given = {"frame_config": {"models": self.models, "batch_size": 5}}
        if "criterion" in inspect.signature(self.frame.__init__).parameters:
            given["frame_config"].update(criterion="SmoothL1Loss")
        made = self.frame.generate_config(given)
        assert made["frame"] == self.frame.__name__
        config = json.loads(json.dumps(made))
        algorithm = self.frame.init_from_config(config)
        assert algorithm.batch_size == 5
        assert isinstance(algorithm.criterion, nn.SmoothL1Loss)
        assert [type(each) for each in algorithm.optimizers] == [torch.optim.Adam] * len(self.rates)
        algorithm.store_episode(self.episode(6))
        algorithm.update()

    def test_another_backward_function_gets_every_loss(self) -> None:
        algorithm = self.fed()
        losses: list[Tensor] = []

        def backward(loss: Tensor) -> None:
            losses.append(loss.detach())
            loss.backward()

        algorithm.set_backward_function(backward)
        before = parameters(*(getattr(algorithm, x) for x in self.flags["update_value"]))
        algorithm.update()
        assert losses
        after = parameters(*(getattr(algorithm, x) for x in self.flags["update_value"]))
        with pytest.raises(AssertionError):
            assert_close(after, before)

    def test_unknown_arguments_warn(self) -> None:
        with pytest.warns(UserWarning, match="discuont"):
            self.make(discuont=0.5)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("discount", 1.5), ("batch_size", 0), ("gradient_max", 0.0), ("replay_size", 0)],
    )
    def test_numbers_out_of_their_range_are_refused(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=f"{name}|size"):
            self.make(**{name: value})


def _decayed(epoch: int, base: float) -> float:
    return base**epoch


def _seed(seed: int) -> None:
    """Of all generators that memories and plans draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def _shift(algorithm: Any) -> None:
    """Makes all parameters others."""
    with torch.no_grad():
        for network in algorithm.top_models:
            for parameter in network.parameters():
                parameter.add_(0.5)
