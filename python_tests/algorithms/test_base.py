"""What all algorithms share, on DQN and its kin."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from experience import DISCRETE, after_sgd, episode, parameters, seeded, transitions
from machin_fast.algorithms import DQN, RAINBOW, DQNPer, TorchFramework
from machin_fast.data import Batch
from networks import OBS, DistributionNet, QNet, QNetDropout, QNetNorm


def made(
    frame: Any = DQN, net: Any = QNet, optimizer: Any = torch.optim.SGD, **options: Any
) -> Any:
    """In float64, SGD unless told otherwise."""
    nets = seeded(net), seeded(net, seed=1)
    rest = () if frame is RAINBOW else (options.pop("criterion", nn.MSELoss()),)
    more = (-2.0, 3.0) if frame is RAINBOW else ()
    return frame(*nets, optimizer, *rest, *more, **{"learning_rate": 0.1, **options})


def float32(batch: Batch) -> Batch:
    columns = {k: x.float() if x.is_floating_point() else x for k, x in batch.columns.items()}
    return Batch(columns, batch.index, None)


# -- what it is made of -----------------------------------------------------------------------


def test_its_parts_have_names() -> None:
    dqn = made()
    assert DQN.get_top_model_names() == ["qnet", "qnet_target"]
    assert DQN.get_restorable_model_names() == ["qnet_target"]
    assert dqn.top_models == [dqn.qnet, dqn.qnet_target]
    assert dqn.restorable_models == [dqn.qnet_target]
    assert dqn.optimizers == [dqn.qnet_optim] and dqn.lr_schedulers == []
    assert dqn.qnet_lr_sch is None
    assert not DQN.is_distributed() and dqn.role is None
    assert dqn.device == torch.device("cpu")
    assert repr(dqn) == "DQN(qnet, qnet_target)"
    with pytest.raises(NotImplementedError):
        TorchFramework().learn(transitions(1, DISCRETE))


def test_networks_must_be_networks_and_alike() -> None:
    with pytest.raises(TypeError, match=r"DQN: qnet_target must be a torch.nn.Module, got type"):
        DQN(QNet(), QNet, torch.optim.Adam, nn.MSELoss())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"DQN: networks must be alike, qnet like qnet_target"):
        DQN(QNet(), QNet(actions=5), torch.optim.Adam, nn.MSELoss())


def test_optimizers_can_be_replaced() -> None:
    dqn = made()
    other = torch.optim.SGD(dqn.qnet.parameters(), lr=0.0)
    dqn.optimizers = [other]
    assert dqn.qnet_optim is other
    before = parameters(dqn.qnet)
    dqn.learn(transitions(3, DISCRETE))
    assert_close(parameters(dqn.qnet), before, atol=0, rtol=0)
    with pytest.raises(ValueError, match=r"DQN: optimizers must be qnet_optim, got 2"):
        dqn.optimizers = [other, other]


@pytest.mark.parametrize(
    "optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad]
)
def test_a_fused_step_is_the_step(optimizer: Any) -> None:
    dqn = made(optimizer=optimizer)
    plain = copy.deepcopy(dqn.qnet)
    stepper = optimizer(plain.parameters(), lr=0.1)
    for seed in range(3):
        batch = transitions(5, DISCRETE, seed=seed)
        q, after = plain(batch.state), plain(batch.next_state)
        judge = dqn.qnet_target(batch.next_state).gather(1, after.argmax(1, keepdim=True))[:, 0]
        target = batch.reward + 0.99 * judge.detach() * ~batch.terminated
        stepper.zero_grad()
        nn.functional.mse_loss(q.gather(1, batch.action)[:, 0], target).backward()
        stepper.step()
        dqn.learn(batch)
    assert_close(parameters(dqn.qnet), parameters(plain), atol=1e-12, rtol=1e-12)


def test_a_backward_function_must_be_callable() -> None:
    dqn = made()
    assert dqn.backward_function is torch.autograd.backward
    with pytest.raises(AssertionError, match=r"set_backward_function: backward_func must be call"):
        dqn.set_backward_function(3)
    dqn.set_backward_function(print)
    assert dqn.backward_function is print


@pytest.mark.parametrize("mode", ["vanilla", "double"])
def test_another_backward_function_may_scale_gradients(mode: str) -> None:
    one, other = made(mode=mode), made(mode=mode)
    other.set_backward_function(lambda loss: (3 * loss).backward())
    before = parameters(one.qnet)
    for each in (one, other):
        each.learn(transitions(4, DISCRETE))
    for x, once, thrice in zip(before, parameters(one.qnet), parameters(other.qnet), strict=True):
        assert_close(thrice - x, 3 * (once - x))


def test_networks_can_be_shared_with_other_processes() -> None:
    dqn = made(net=QNetNorm)
    dqn.enable_multiprocessing()
    for network in dqn.top_models:
        assert all(x.is_shared() for x in (*network.parameters(), *network.buffers()))
    before = parameters(dqn.qnet)
    dqn.learn(transitions(4, DISCRETE))  # and still learn
    assert not torch.equal(parameters(dqn.qnet)[0], before[0])


def test_networks_that_learn_act_in_eval_mode_from_the_start() -> None:
    dqn = made(net=QNetDropout)
    assert not dqn.qnet.training and not dqn.qnet.net[1].training
    assert dqn.qnet_target.training  # whose mode is up to the caller
    assert not made(net=QNetDropout, mode="vanilla").qnet_target.training


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_learns_by_itself(copied: Any) -> None:
    dqn = made(optimizer=torch.optim.Adam)
    dqn.learn(transitions(4, DISCRETE))
    other = copied(dqn)
    before = parameters(*dqn.top_models)
    figures = other.learn(transitions(4, DISCRETE, seed=1))
    assert_close(parameters(*dqn.top_models), before, atol=0, rtol=0)
    assert figures == dqn.learn(transitions(4, DISCRETE, seed=1))
    assert_close(parameters(*dqn.top_models), parameters(*other.top_models), atol=0, rtol=0)


# -- options ----------------------------------------------------------------------------------


def test_unknown_options_warn_where_they_are_given() -> None:
    with pytest.warns(UserWarning, match=r"DQN: arguments must be known, got rate, lrate") as seen:
        DQN(QNet(), QNet(), torch.optim.Adam, nn.MSELoss(), rate=1, lrate=2)  # type: ignore[call-arg]
    assert seen[0].filename == __file__
    with pytest.raises(ValueError, match=r"DQN: autocast must be torch.bfloat16 or None"):
        made(autocast=torch.float16)
    with pytest.raises(ValueError, match=r"DQN: learning_rate must be at least 0, got -1"):
        made(learning_rate=-1)


@pytest.mark.parametrize(
    ("frame", "net"), [(DQN, QNet), (DQNPer, QNet), (RAINBOW, DistributionNet)]
)
def test_networks_may_compute_in_bfloat16(frame: Any, net: Any) -> None:
    plain, fast = made(frame, net), made(frame, net, autocast=torch.bfloat16)
    outputs: list[torch.dtype] = []
    for each in (plain, fast):
        each.qnet.float()
        each.qnet_target.float()
    fast.qnet.net[0].register_forward_hook(lambda *args: outputs.append(args[2].dtype))
    batch = float32(transitions(32, DISCRETE))
    batch.columns["reward"] += 300.9  # which bfloat16 would make 300
    want, got = plain.learn(batch), fast.learn(batch)
    assert set(outputs) == {torch.bfloat16}
    assert got["value_loss"].dtype == got["value"].dtype == torch.float32
    assert_close(got["value_loss"], want["value_loss"], rtol=2e-3, atol=0)
    assert all(x.dtype == torch.float32 for x in parameters(*fast.top_models))
    action = fast.act_discrete({"state": torch.zeros(2, OBS)})
    assert action.shape == (2, 1)


@pytest.mark.compile
@pytest.mark.parametrize(("frame", "net"), [(DQN, QNet), (RAINBOW, DistributionNet)])
def test_networks_may_be_compiled(
    frame: Any, net: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = nn.Module.compile  # with another backend, as that of C++ takes long
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiler(self, backend="aot_eager"))
    plain, compiled = made(frame, net), made(frame, net, compile=True)
    batch = transitions(8, DISCRETE)
    for _ in range(2):
        assert_close(compiled.learn(batch), plain.learn(batch))
    state = {"state": torch.randn(3, OBS, dtype=torch.float64)}
    assert torch.equal(compiled.act_discrete(state), plain.act_discrete(state))
    compiled.save(str(tmp_path))
    plain.load(str(tmp_path))
    assert_close(parameters(plain.qnet), parameters(compiled.qnet_target), atol=0, rtol=0)


def test_gradients_are_limited() -> None:
    batch = transitions(6, DISCRETE)
    free = made()
    before = parameters(free.qnet)
    free.learn(batch)
    whole = _moved(before, free.qnet)
    small, large = made(gradient_max=0.01), made(gradient_max=1e6)
    for each in (small, large):
        each.learn(batch)
    assert_close(_moved(before, large.qnet).norm(), whole.norm())
    # SGD with rate 0.1: the step's norm is a tenth of the gradient's.
    assert_close(float(_moved(before, small.qnet).norm()), 0.001, rtol=1e-4, atol=0)
    assert_close(_moved(before, small.qnet) / 0.001, whole / whole.norm(), rtol=1e-3, atol=1e-4)
    free.grad_max = 0.01
    before = parameters(free.qnet)
    free.learn(batch)
    assert_close(float(_moved(before, free.qnet).norm()), 0.001, rtol=1e-4, atol=0)


def _moved(before: list[Tensor], network: nn.Module) -> Tensor:
    after = parameters(network)
    return torch.cat([(y - x).flatten() for x, y in zip(before, after, strict=True)])


def test_frozen_parameters_stay_and_idle_ones_do_no_harm() -> None:
    class Idle(QNet):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(2, 2)

    dqn = made(net=Idle)
    dqn.qnet.net[0].weight.requires_grad_(False)
    before = dict(dqn.qnet.named_parameters())
    before = {name: x.detach().clone() for name, x in before.items()}
    dqn.learn(transitions(4, DISCRETE))
    changed = {name for name, x in dqn.qnet.named_parameters() if not torch.equal(x, before[name])}
    assert changed == {"net.0.bias", "net.2.weight", "net.2.bias"}
    dqn.grad_max = 1.0
    dqn.qnet.net[0].weight.requires_grad_(True)  # from now on
    dqn.learn(transitions(4, DISCRETE))
    assert not torch.equal(dqn.qnet.net[0].weight, before["net.0.weight"])


# -- numbers that are not finite --------------------------------------------------------------


def bad(name: str) -> Batch:
    rows = transitions(5, DISCRETE)
    rows.columns[name] = rows.columns[name].clone()
    rows.columns[name][2] = math.nan
    if name == "next_state":
        rows.columns["terminated"] = torch.zeros(5, dtype=torch.bool)
    return rows


@pytest.mark.parametrize("name", ["state", "reward", "next_state"])
@pytest.mark.parametrize(("frame", "net"), [(DQN, QNet), (RAINBOW, DistributionNet)])
def test_what_is_not_finite_changes_nothing(frame: Any, net: Any, name: str) -> None:
    algorithm = made(frame, net, torch.optim.Adam)
    rows = bad(name)
    before = parameters(*algorithm.top_models)
    with pytest.raises(ValueError, match=rf"{frame.__name__}: value loss must be finite, got nan"):
        algorithm.learn(rows)
    assert_close(parameters(*algorithm.top_models), before, atol=0, rtol=0)
    assert not algorithm.qnet.training and algorithm._update_count == 0


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.SGD,
        torch.optim.Adagrad,
        torch.optim.RMSprop,
    ],
)
@pytest.mark.parametrize("gradient_max", [math.inf, 0.1])
def test_a_lazy_step_that_is_not_finite_is_left_out(optimizer: Any, gradient_max: float) -> None:
    options = {"optimizer": optimizer, "gradient_max": gradient_max, "update_rate": None}
    lazy, plain = made(lazy=True, **options), made(**options)
    for seed in range(3):
        batch = transitions(4, DISCRETE, seed=seed)
        before = parameters(lazy.qnet)
        assert torch.isnan(lazy.learn(bad("reward"))["value_loss"])
        assert_close(parameters(lazy.qnet), before, atol=0, rtol=0)
        lazy.learn(batch)
        plain.learn(batch)
    assert_close(parameters(lazy.qnet), parameters(plain.qnet), atol=1e-14, rtol=0)
    lazy.learn(bad("reward"))
    lazy.lazy = False  # and it learns on
    before = parameters(lazy.qnet)
    lazy.learn(batch)
    assert not torch.equal(parameters(lazy.qnet)[0], before[0])


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("name", ["state", "next_state"])
def test_statistics_of_what_is_not_finite_are_not_kept(name: str, lazy: bool) -> None:
    dqn = made(net=QNetNorm, lazy=lazy)
    dqn.learn(transitions(5, DISCRETE))
    # The target network gathers its own, in train mode.
    before = [copy.deepcopy(each.state_dict()) for each in dqn.top_models]
    assert all(state["net.1.running_mean"].any() for state in before)
    rows = bad(name)
    if lazy:
        dqn.learn(rows, update_target=False)
    else:
        with pytest.raises(ValueError, match="value loss must be finite"):
            dqn.learn(rows)
    for network, state in zip(dqn.top_models, before, strict=True):
        for key, x in network.state_dict().items():
            assert x.isfinite().all()
            if not lazy or (network is dqn.qnet and "num_batches" not in key):
                assert torch.equal(x, state[key]), key


@pytest.mark.parametrize("lazy", [True, False])
def test_gradients_that_are_not_finite_are_not_taken(lazy: bool) -> None:
    def criterion(value: Tensor, target: Tensor) -> Tensor:
        return (value * 0).sqrt().sum()  # 0, and its slope is infinite

    dqn = made(criterion=criterion, gradient_max=1.0, lazy=lazy)
    before = parameters(dqn.qnet)
    if lazy:
        dqn.learn(transitions(3, DISCRETE))
    else:
        with pytest.raises(ValueError, match="the norm of the gradient of the value loss"):
            dqn.learn(transitions(3, DISCRETE))
    assert_close(parameters(dqn.qnet), before, atol=0, rtol=0)


def test_lazy_figures_are_tensors() -> None:
    eager, lazy = made(), made(lazy=True)
    for each in (eager, lazy):
        each.store_episode(
            [
                {**step, "state": _double(step["state"]), "next_state": _double(step["next_state"])}
                for step in episode(4, DISCRETE)
            ]
        )
    want, got = eager.update(), lazy.update()
    assert type(want) is float
    assert isinstance(got, Tensor) and got.shape == () and not got.requires_grad
    assert_close(float(got), want)


def _double(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.double() for name, x in state.items()}


# -- learning rates ---------------------------------------------------------------------------


def test_schedulers_take_arguments() -> None:
    steps = torch.optim.lr_scheduler.StepLR
    dqn = made(lr_scheduler=steps, lr_scheduler_args=((2,),), lr_scheduler_kwargs=({"gamma": 0.5},))
    assert dqn.lr_schedulers == [dqn.qnet_lr_sch] and isinstance(dqn.qnet_lr_sch, steps)
    rates, batch = [], transitions(4, DISCRETE)
    for _ in range(4):
        before = parameters(dqn.qnet)
        dqn.learn(batch, update_target=False)
        rates.append(dqn.qnet_optim.param_groups[0]["lr"])
        dqn.update_lr_scheduler()
    assert_close(rates, [0.1, 0.1, 0.05, 0.05])
    before = copy.deepcopy(dqn.qnet)
    loss = dqn._losses(batch)[0]
    wanted = after_sgd(dqn.qnet, loss, 0.025)
    dqn.learn(batch)
    assert_close(parameters(dqn.qnet), wanted)
    assert not torch.equal(parameters(dqn.qnet)[0], parameters(before)[0])
    made().update_lr_scheduler()  # there is none
    with pytest.raises(TypeError, match=r"missing .* positional argument"):
        made(lr_scheduler=steps)
    with pytest.raises(ValueError, match=r"DQN: lr_scheduler_kwargs must have 1 entries.*got 2"):
        made(lr_scheduler=steps, lr_scheduler_args=((2,),), lr_scheduler_kwargs=({}, {}))


# -- files ------------------------------------------------------------------------------------


def test_networks_are_saved_by_version_and_name(tmp_path: Path) -> None:
    dqn, names = made(net=QNetNorm), {"qnet_target": "q"}
    states = []
    for version in (0, 2, 10):
        dqn.learn(transitions(6, DISCRETE, seed=version))
        dqn.save(str(tmp_path), names, version)
        states.append(copy.deepcopy(dqn.qnet_target.state_dict()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q_0.mft", "q_10.mft", "q_2.mft"]
    other = made(net=QNetNorm)
    for version, wanted in ((-1, states[2]), (2, states[1]), (0, states[0]), (7, states[2])):
        other.load(str(tmp_path), names, version)
        for network in (other.qnet, other.qnet_target):  # which begins as its target
            for name, x in network.state_dict().items():
                assert torch.equal(x, wanted[name])
    with pytest.raises(RuntimeError, match="Cannot find a valid version for all models"):
        other.load(str(tmp_path))
    with pytest.raises(RuntimeError, match="Model directory doesn't exist"):
        other.load(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"DQN.save: version must be at least 0, got -1"):
        other.save(str(tmp_path), version=-1)
    with pytest.raises(ValueError, match=r"DQN: network_map must name qnet_target, got qnet"):
        other.save(str(tmp_path), {"qnet": "q"})


def test_files_of_machin_are_read_if_they_are_trusted(tmp_path: Path) -> None:
    old = seeded(QNet, seed=5)
    torch.save(old, tmp_path / "qnet_target_3.pt")
    dqn = made()
    with pytest.raises(RuntimeError, match="trust_pickle"):
        dqn.load(str(tmp_path))
    dqn.load(str(tmp_path), trust_pickle=True)
    assert_close(parameters(dqn.qnet), parameters(old), atol=0, rtol=0)


def test_a_vanilla_network_is_saved_and_loaded(tmp_path: Path) -> None:
    dqn = made(mode="vanilla")
    dqn.learn(transitions(4, DISCRETE))
    dqn.save(str(tmp_path))
    other = made(mode="vanilla")
    other.load(str(tmp_path))
    assert_close(parameters(other.qnet), parameters(dqn.qnet), atol=0, rtol=0)


# -- pictures ---------------------------------------------------------------------------------


def test_a_picture_needs_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    dqn = made(visualize=True, visualize_dir=str(tmp_path / "pictures"))
    before = parameters(*dqn.top_models)
    for _ in range(2):  # a picture that was not drawn is asked for again
        with pytest.raises(RuntimeError, match=r"dot must be installed.*Install Graphviz"):
            dqn.learn(transitions(3, DISCRETE))
    assert_close(parameters(*dqn.top_models), before, atol=0, rtol=0)
    assert not dqn.qnet.training


def test_a_loss_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho x >> drawn\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    dqn = made(visualize=True, visualize_dir=str(tmp_path / "pictures"))
    for _ in range(3):
        dqn.learn(transitions(3, DISCRETE))
    folder = tmp_path / "pictures" / "value_loss"
    assert (folder / "drawn").read_text() == "x\n"
    assert "MseLossBackward0" in (folder / "Digraph.gv").read_text()
