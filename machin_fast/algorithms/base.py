"""What all algorithms share."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypedDict

import torch
from torch import Tensor, nn

from machin_fast.algorithms import _descent, utils
from machin_fast.algorithms._batches import Named, named, number
from machin_fast.algorithms._sequences import call_steps, warmed_up
from machin_fast.algorithms._state import rng_state, set_rng_state
from machin_fast.data import Batch
from machin_fast.model.call import safe_call
from machin_fast.utils import prepare

if TYPE_CHECKING:
    from typing_extensions import Unpack

Figures: TypeAlias = dict[str, Tensor]
"""What ``learn`` tells of one batch, each ``[]`` on the networks' device."""

# Where torch's own fused step is used: several times faster on small networks.
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad)


class Options(TypedDict, total=False):
    """What every algorithm takes besides its own arguments.

    Attributes:
        lazy: Figures stay tensors ``[]`` on the networks' device, so that no step waits for it.
            A step whose loss is not finite is then left out instead of refused.
        compile: The networks are compiled by ``torch.compile``.
        autocast: Networks compute in this dtype, ``torch.bfloat16``; parameters stay as they are.
    """

    lazy: bool
    compile: bool
    autocast: torch.dtype | None


class TorchFramework:
    """Networks and their optimizers, and what is done with all of them alike.

    A subclass names its networks in ``_is_top``, those that a file must hold in
    ``_is_restorable``, optimizers in ``_optimizers`` and numbers that training changes in
    ``_counters``; they are attributes of these names. Attributes that are arguments of its
    constructor are read at each step, and may be changed at any time.

    Networks that learn are in train mode while they do, else in eval mode; targets stay in the
    mode in which they were given.

    Args:
        **options: See ``Options``. Unknown ones do nothing, and a warning says so.

    Raises:
        ValueError: ``autocast`` is another dtype.
    """

    _is_top: ClassVar[Sequence[str]] = ()
    _is_restorable: ClassVar[Sequence[str]] = ()
    _optimizers: ClassVar[Sequence[str]] = ()
    _counters: ClassVar[Sequence[str]] = ()
    # Online networks and those that follow them.
    _targets: ClassVar[Mapping[str, str]] = {}
    # What a config says where the constructor has no default, or another one.
    _config: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **options: Unpack[Options]) -> None:
        self.lazy = options.pop("lazy", False)
        self.autocast = options.pop("autocast", None)
        self._compile = options.pop("compile", False)
        if self.autocast not in (None, torch.bfloat16):
            raise ValueError(
                f"{type(self).__name__}: autocast must be torch.bfloat16 or None, "
                f"got {self.autocast}"
            )
        warn_unknown(type(self).__name__, options, stacklevel=4)
        self.grad_max = math.inf
        self._backward: Callable[[Tensor], Any] = torch.autograd.backward
        self._pictures: set[str] = set()
        self._parameters: dict[str, list[Tensor]] = {}
        self._buffers = False  # whether networks have any
        self._lr_schedulers: list[Any] = []

    # -- what it is made of --------------------------------------------------------------------

    @classmethod
    def get_top_model_names(cls) -> list[str]:
        """Names of the attributes that are networks."""
        return list(cls._is_top)

    @classmethod
    def get_restorable_model_names(cls) -> list[str]:
        """Names of the networks that ``save`` writes."""
        return list(cls._is_restorable)

    @classmethod
    def is_distributed(cls) -> bool:
        """Whether several processes take part."""
        return False

    @property
    def role(self) -> str | None:
        """What this process does of a distributed algorithm."""
        return None

    @property
    def top_models(self) -> list[nn.Module]:
        """All networks."""
        return [getattr(self, name) for name in self._is_top]

    @property
    def restorable_models(self) -> list[nn.Module]:
        """The networks that ``save`` writes."""
        return [getattr(self, name) for name in self._is_restorable]

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """All optimizers; may be set, to wrapped ones for example."""
        return [getattr(self, name) for name in self._optimizers]

    @optimizers.setter
    def optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        if len(optimizers) != len(self._optimizers):
            raise ValueError(
                f"{type(self).__name__}: optimizers must be {', '.join(self._optimizers)}, "
                f"got {len(optimizers)}"
            )
        for name, optimizer in zip(self._optimizers, optimizers, strict=True):
            setattr(self, name, optimizer)

    @property
    def lr_schedulers(self) -> list[Any]:
        """All learning rate schedulers."""
        return list(self._lr_schedulers)

    def update_lr_scheduler(self) -> None:
        """Takes a step with every learning rate scheduler there is."""
        for scheduler in self._lr_schedulers:
            scheduler.step()

    @property
    def backward_function(self) -> Callable[[Tensor], Any]:
        """What is called with each loss."""
        return self._backward

    def set_backward_function(self, backward_func: Callable[[Tensor], Any]) -> None:
        """Sets what is called with each loss instead of ``torch.autograd.backward``.

        Args:
            backward_func: Takes a loss, ``[]``, and adds to the parameters' gradients.

        Raises:
            AssertionError: It cannot be called.
        """
        if not callable(backward_func):
            raise AssertionError(
                f"{type(self).__name__}.set_backward_function: backward_func must be callable, "
                f"got {backward_func!r}"
            )
        self._backward = backward_func

    def enable_multiprocessing(self) -> None:
        """Moves the networks into memory that processes share."""
        for model in self.top_models:
            model.share_memory()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._is_top)})"

    # -- setting up ----------------------------------------------------------------------------

    def _own(self, **networks: nn.Module) -> None:
        """Takes networks as attributes. Online ones begin as their targets are, in eval mode."""
        for name, network in networks.items():
            if not isinstance(network, nn.Module):
                raise TypeError(
                    f"{type(self).__name__}: {name} must be a torch.nn.Module, "
                    f"got {type(network).__name__}"
                )
            setattr(self, name, network)
            self._parameters[name] = list(network.parameters())
            self._buffers |= any(True for _ in network.buffers())
            if name not in self._targets.values():
                self._train(False, network)
        for online, target in self._targets.items():
            if online in networks and networks[online] is not networks[target]:
                self._copy(getattr(self, target), getattr(self, online), f"{online} like {target}")
        if self._compile:
            for network in {id(each): each for each in networks.values()}.values():
                network.compile()

    def _copy(self, source: nn.Module, target: nn.Module, what: str) -> None:
        try:
            utils.hard_update(target, source)
        except ValueError as error:
            raise ValueError(
                f"{type(self).__name__}: networks must be alike, {what}: {error}"
            ) from None

    def _optimize(
        self, name: str, optimizer: Any, parameters: Sequence[Tensor], learning_rate: float
    ) -> None:
        """Makes the optimizer ``name``."""
        if not learning_rate >= 0:
            raise ValueError(
                f"{type(self).__name__}: learning_rate must be at least 0, got {learning_rate}"
            )
        fused = optimizer in _FUSED and all(
            each.is_floating_point() and each.device.type in ("cpu", "cuda") for each in parameters
        )
        more = {"fused": True} if fused else {}
        setattr(self, name, optimizer(parameters, lr=learning_rate, **more))

    def _schedule(
        self,
        lr_scheduler: Any,
        args: Sequence[Sequence[Any]] | None,
        kwargs: Sequence[Mapping[str, Any]] | None,
        **optimizers: Sequence[str],
    ) -> None:
        """Makes schedulers: for each attribute the optimizers that share one entry of ``args``.

        Machin names them ``<what>_lr_sch``.
        """
        groups = list(optimizers.values())
        args, kwargs = args or [()] * len(groups), kwargs or [{}] * len(groups)
        for name, given in (("lr_scheduler_args", args), ("lr_scheduler_kwargs", kwargs)):
            if lr_scheduler is not None and len(given) != len(groups):
                raise ValueError(
                    f"{type(self).__name__}: {name} must have {len(groups)} entries, for "
                    f"{', '.join(optimizers)}, got {len(given)}"
                )
        for i, names in enumerate(groups):
            for name in names:
                attribute = name.removesuffix("_optim") + "_lr_sch"
                if lr_scheduler is None:
                    setattr(self, attribute, None)
                    continue
                made = lr_scheduler(getattr(self, name), *args[i], **kwargs[i])
                setattr(self, attribute, made)
                self._lr_schedulers.append(made)

    def _check_range(self, **values: tuple[float, str, bool]) -> None:
        """Refuses numbers that are out of their ranges: value, what it must be, whether it is."""
        for name, (value, rule, fits) in values.items():
            if not fits:
                raise ValueError(f"{type(self).__name__}: {name} must be {rule}, got {value}")

    # -- learning ------------------------------------------------------------------------------

    def learn(self, batch: Batch) -> Figures:
        """Learns from one batch, whoever made it; needs no memory.

        Args:
            batch: See the class for its columns.

        Returns:
            Figures by name, each ``[]``.
        """
        raise NotImplementedError

    def over(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Learns from batches, such as of a plan.

        Args:
            batches: See ``learn``. Priorities are written back where batches have any.

        Returns:
            Means of the figures by name; they are waited for once, at the end. Empty if there are
            no batches.
        """
        total: Figures = {}
        count = 0
        for batch in batches:
            for name, figure in self.learn(batch).items():
                total[name] = total[name] + figure if name in total else figure
            count += 1
        if not count:
            return {}
        means = torch.stack([each.double() for each in total.values()]) / count
        return dict(zip(total, means.tolist(), strict=True))

    @property
    def device(self) -> torch.device:
        """Of the networks' parameters."""
        for parameters in self._parameters.values():
            if parameters:
                return parameters[0].device
        return torch.device("cpu")

    # -- reading batches -----------------------------------------------------------------------

    def _named(self, batch: Batch, name: str) -> Named:
        """Inputs of networks, where the networks are."""
        return {key: self._here(x) for key, x in named(batch, name).items()}

    def _action(self, batch: Batch) -> Named:
        """Actions of a batch; of one number each they are ``[..., 1]``."""
        leading = 1 if batch.mask is None else 2
        return {
            key: x.unsqueeze(-1) if isinstance(x, Tensor) and x.dim() == leading else x
            for key, x in self._named(batch, "action").items()
        }

    def _number(self, batch: Batch, name: str) -> Tensor:
        """One number a row, ``[..., 1]``."""
        return self._here(number(batch, name))

    def _warmed_up(self, batch: Batch) -> Batch:
        """A batch whose burn-in has moved the states of all recurrent networks on."""
        if not batch.burn_in:
            return batch
        return warmed_up(batch, {name: getattr(self, name) for name in self._is_top})

    def _here(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.device != self.device:
            return value.to(self.device, non_blocking=True)
        return value

    def _applied(
        self, network: nn.Module, name: str, batch: Batch, *inputs: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """What a network, which the algorithm calls ``name``, makes of columns of a batch."""
        if batch.mask is None:
            return safe_call(network, *inputs)
        return call_steps(network, name, batch, *inputs)

    @staticmethod
    def _leading(batch: Batch) -> list[int]:
        """Rows of a batch: ``[batch]``, or ``[T, B]``."""
        return [len(batch)] if batch.mask is None else [*batch.mask.shape]

    def _mask(self, batch: Batch) -> Tensor | None:
        """Which steps of sequences are real, ``[T, B, 1]``, bool."""
        return None if batch.mask is None else self._here(batch.mask.unsqueeze(-1))

    # -- steps ---------------------------------------------------------------------------------

    def _reported(self, figure: Tensor) -> Any:
        """What ``update`` returns of a figure."""
        return figure if self.lazy else figure.item()

    @staticmethod
    def _train(mode: bool, *networks: nn.Module) -> None:
        """Sets networks to train or eval mode."""
        for network in networks:
            _set_mode(network, mode)

    @contextmanager
    def _training(self, *networks: nn.Module) -> Iterator[None]:
        """Networks are in train mode within, and in eval mode afterwards, whatever happens.

        Buffers of all networks, such as BatchNorm's statistics, are then as they were if something
        was refused, or left out as it was not finite.
        """
        owners = self.top_models if self._buffers else []
        buffers = [x for network in owners for x in network.buffers()]
        before = [x.clone() for x in buffers]
        self._train(True, *networks)
        try:
            yield
            if self.lazy:
                for x, kept in zip(buffers, before, strict=True):
                    x.copy_(x.where(x.isfinite().all(), kept))
        except BaseException:
            for x, kept in zip(buffers, before, strict=True):
                x.copy_(kept)
            raise
        finally:
            self._train(False, *networks)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)

    def _descend(self, what: str, **losses: Tensor) -> None:
        """Takes a step down losses.

        Args:
            what: The losses, for errors.
            **losses: For each network that learns its loss, ``[]``; its optimizer is
                ``<network>_optim``.

        Raises:
            ValueError: A loss is not finite; nothing is changed.
        """
        total = functools.reduce(torch.add, losses.values())
        self._check_finite(total, what)
        optimizers = [getattr(self, f"{network}_optim") for network in losses]
        learning = [[x for x in self._parameters[name] if x.requires_grad] for name in losses]
        for parameters in learning:
            for parameter in parameters:
                parameter.grad = None
        if self._backward is torch.autograd.backward:
            # Spares the gradients of other networks, such as of a critic that judges an actor.
            inputs = [x for parameters in learning for x in parameters]
            torch.autograd.backward(total, inputs=inputs)
        else:
            self._backward(total)
        judged = [total.detach()]
        if self.grad_max < math.inf:
            for parameters in learning:
                norm = _descent.clip(parameters, self.grad_max)
                self._check_finite(norm, f"the norm of the gradient of the {what}")
                judged.append(norm)
        finite = torch.stack(judged).isfinite().all() if self.lazy else None
        for optimizer in optimizers:
            _descent.step(optimizer, finite)

    def _check_finite(self, loss: Tensor, what: str) -> None:
        """Refuses a loss that is not finite, unless figures are lazy."""
        if not self.lazy and not math.isfinite(loss.item()):
            raise ValueError(
                f"{type(self).__name__}: {what} must be finite, got {loss.item()}. The network "
                "is as it was. Look for NaN in what was stored, or for too large a learning rate"
            )

    def _draw_graph(self, loss: Tensor, name: str) -> None:
        """Draws the graph of a loss, once, where the caller wants to see it."""
        if getattr(self, "visualize", False):
            self.visualize_model(loss, name, self.visualize_dir)  # type: ignore[attr-defined]

    def visualize_model(self, final_tensor: Tensor, name: str, directory: str) -> None:
        """Draws the graph behind a tensor, once for each name.

        Args:
            final_tensor: Such as a loss.
            name: Of the picture.
            directory: Where to put it.

        Raises:
            RuntimeError: Graphviz is not installed.
        """
        if name in self._pictures:
            return
        from machin_fast.utils.visualize import visualize_graph

        visualize_graph(final_tensor, os.path.join(directory, name), exit_after_vis=False)  # noqa: PTH118
        self._pictures.add(name)

    # -- files and states ----------------------------------------------------------------------

    def save(
        self, model_dir: str, network_map: Mapping[str, str] | None = None, version: int = 0
    ) -> None:
        """Writes the networks, those that are restorable, to files ``<name>_<version>.mft``.

        Args:
            model_dir: An existing folder.
            network_map: Names of files by names of networks. None: the same.
            version: At least 0.

        Raises:
            ValueError: ``version`` is negative.
        """
        if version < 0:
            raise ValueError(
                f"{type(self).__name__}.save: version must be at least 0, got {version}"
            )
        prepare.prep_save_model(model_dir, self._files(network_map), version)

    def load(
        self,
        model_dir: str,
        network_map: Mapping[str, str] | None = None,
        version: int = -1,
        *,
        trust_pickle: bool = False,
    ) -> None:
        """Reads what ``save`` wrote. Networks that learn become what their targets are.

        Args:
            model_dir: The folder.
            network_map: As for ``save``.
            version: Which; if it is not there, or negative, the newest that all networks have.
            trust_pickle: Also read Machin's files, ``.pt``, which may run any code when read.

        Raises:
            RuntimeError: There is no such folder, or no version that all networks have.
        """
        chosen = None if version < 0 else version
        prepare.prep_load_model(
            model_dir, self._files(network_map), chosen, trust_pickle=trust_pickle
        )
        for online, target in self._targets.items():
            if getattr(self, online) is not getattr(self, target):
                utils.hard_update(getattr(self, online), getattr(self, target))

    def _files(self, network_map: Mapping[str, str] | None) -> dict[str, nn.Module]:
        names = dict(network_map or {})
        unknown = names.keys() - set(self._is_restorable)
        if unknown:
            raise ValueError(
                f"{type(self).__name__}: network_map must name {', '.join(self._is_restorable)}, "
                f"got {', '.join(sorted(unknown))}"
            )
        return {names.get(name, name): getattr(self, name) for name in self._is_restorable}

    def state_dict(self, *, memory: bool = True) -> dict[str, Any]:
        """All that training changes, to go on from bit for bit on the same machine.

        Args:
            memory: Also what is stored to learn from.

        Returns:
            Copies: networks, optimizers, schedulers, counters, memory and the states of torch's,
            numpy's and Python's random generators.
        """
        state = {
            "algorithm": type(self).__name__,
            "networks": {name: getattr(self, name).state_dict() for name in self._is_top},
            "optimizers": {name: getattr(self, name).state_dict() for name in self._optimizers},
            "lr_schedulers": [each.state_dict() for each in self._lr_schedulers],
            "counters": {name: getattr(self, name) for name in self._counters},
            "rng": rng_state(),
        }
        # A memory copies itself; it may be too large for two copies.
        return {**copy.deepcopy(state), "memory": self._memory_state() if memory else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where ``state_dict`` was taken.

        Args:
            state: Of an algorithm that was made alike.

        Raises:
            ValueError: It is of another algorithm.
            RuntimeError: Networks differ.
        """
        if state.get("algorithm") != type(self).__name__:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: state must be of "
                f"{type(self).__name__}, got {state.get('algorithm')}"
            )
        for name in self._is_top:
            getattr(self, name).load_state_dict(state["networks"][name])
        # These would keep what they are given, and change it.
        for name in self._optimizers:
            getattr(self, name).load_state_dict(copy.deepcopy(state["optimizers"][name]))
        for scheduler, kept in zip(self._lr_schedulers, state["lr_schedulers"], strict=True):
            scheduler.load_state_dict(copy.deepcopy(kept))
        for name, value in state["counters"].items():
            if isinstance(value, Tensor):
                with torch.no_grad():
                    getattr(self, name).copy_(value)
            else:
                setattr(self, name, value)
        if state["memory"] is not None:
            self._set_memory_state(state["memory"])
        set_rng_state(state["rng"])

    def _memory_state(self) -> Any:
        return None

    def _set_memory_state(self, state: Any) -> None:
        pass

    # -- configs -------------------------------------------------------------------------------

    @classmethod
    def generate_config(cls, config: Any = None) -> Any:
        """Fills a config with what this algorithm takes.

        Args:
            config: A dict or ``utils.conf.Config``; its values stay. None: an empty one.

        Returns:
            Another one, with ``frame`` and all of ``frame_config``. It is JSON, but for
            ``gradient_max``, which is infinite.
        """
        made = {} if config is None else copy.deepcopy(config)
        made["frame"] = cls.__name__
        made["frame_config"] = {**cls._defaults(), **made.get("frame_config", {})}
        return made

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        taken = cls._arguments()
        networks = [name for name in taken if name in cls._is_top]
        names = [cls._config.get("models", {}).get(name, _model_name(name)) for name in networks]
        defaults: dict[str, Any] = {
            "models": names,
            "model_args": [[] for _ in names],
            "model_kwargs": [{} for _ in names],
            "optimizer": "Adam",
        }
        if "criterion" in taken:
            defaults.update(criterion="MSELoss", criterion_args=[], criterion_kwargs={})
        values = {
            name: each.default for name, each in taken.items() if each.default is not each.empty
        }
        own = {name: value for name, value in cls._config.items() if name != "models"}
        return {**defaults, **values, **own}

    @classmethod
    def _arguments(cls) -> dict[str, inspect.Parameter]:
        """What the constructor takes: with ``*args`` and ``**kwargs`` also what those behind it
        do, up to the one that names networks."""
        taken: dict[str, inspect.Parameter] = {}
        for kind in cls.__mro__:
            if "__init__" in vars(kind):
                taken = {**inspect.signature(vars(kind)["__init__"]).parameters, **taken}
            if not taken.keys().isdisjoint(cls._is_top):
                break
        return taken

    @classmethod
    def init_from_config(
        cls, config: Any, model_device: str | torch.device = "cpu"
    ) -> TorchFramework:
        """Makes the algorithm that a config describes.

        Args:
            config: As ``generate_config`` returns. ``models`` are classes, names of classes that
                are global where a caller is, or dotted paths; likewise optimizer, criterion
                and lr_scheduler.
            model_device: Where the networks shall be.

        Returns:
            The algorithm.

        Raises:
            ValueError: A name names nothing.
            KeyError: ``frame_config`` lacks something.
        """
        rest = copy.copy(dict(_as_dict(config)["frame_config"]))
        taken = cls._arguments()
        networks = [name for name in taken if name in cls._is_top]
        classes = utils.assert_and_get_valid_models(rest.pop("models"))
        model_args, model_kwargs = rest.pop("model_args"), rest.pop("model_kwargs")
        if not len(classes) == len(model_args) == len(model_kwargs) == len(networks):
            raise ValueError(
                f"{cls.__name__}.init_from_config: models, model_args and model_kwargs must have "
                f"{len(networks)} entries, for {', '.join(networks)}, got {len(classes)}, "
                f"{len(model_args)} and {len(model_kwargs)}"
            )
        made = {
            name: kind(*args, **kwargs).to(model_device)
            for name, kind, args, kwargs in zip(
                networks, classes, model_args, model_kwargs, strict=True
            )
        }
        optimizer = utils.assert_and_get_valid_optimizer(rest.pop("optimizer"))
        if "criterion" in taken:
            args, kwargs = rest.pop("criterion_args"), rest.pop("criterion_kwargs")
            if rest["criterion"] is not None:
                criterion = utils.assert_and_get_valid_criterion(rest["criterion"])
                rest["criterion"] = criterion(*args, **kwargs)
        if rest.get("lr_scheduler") is not None:
            rest["lr_scheduler"] = utils.assert_and_get_valid_lr_scheduler(rest["lr_scheduler"])
        return cls(**made, optimizer=optimizer, **rest)  # type: ignore[call-arg, arg-type]


def warn_unknown(name: str, arguments: Collection[str], stacklevel: int = 3) -> None:
    """Tells that arguments of a constructor, of class ``name``, do nothing."""
    if arguments:
        warnings.warn(
            f"{name}: arguments must be known, got {', '.join(arguments)}, which do nothing",
            stacklevel=stacklevel,
        )


def _set_mode(module: nn.Module, mode: bool) -> None:
    """As ``module.train(mode)``, which takes 5 us a layer."""
    if type(module).train is not nn.Module.train:
        module.train(mode)
        return
    vars(module)["training"] = mode
    for child in module._modules.values():
        if child is not None:
            _set_mode(child, mode)


def _as_dict(config: Any) -> dict[str, Any]:
    """A config as a dict; Machin's ``Config`` keeps one in ``data``."""
    if config is None:
        return {}
    return config if isinstance(config, dict) else config.data


def _model_name(network: str) -> str:
    """What a config calls the class of a network: Actor, Critic, QNet."""
    base = network.removesuffix("_target").rstrip("0123456789")
    return {"qnet": "QNet"}.get(base, base.capitalize())


def full_precision(x: Tensor) -> Tensor:
    """What a network returned, float32 if ``autocast`` made it less."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
