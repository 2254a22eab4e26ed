"""A training run as JSON describes it, and what it is made of."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import nn

from machin_fast import algorithms
from machin_fast.algorithms import TorchFramework
from machin_fast.auto import names
from machin_fast.auto.checks import check_keys, check_plain_names, check_schema
from machin_fast.auto.errors import CommandError
from machin_fast.auto.presets import GOALS, PRESETS, Actions, Preset, preset
from machin_fast.data import Replay
from machin_fast.model import for_spaces
from machin_fast.training import Behaviour, Settings, Trainer, seed_everything

if TYPE_CHECKING:
    from machin_fast.training import Hooks

SCHEMA_VERSION = 1

_VECTORS = ("pool", "sync", "native")
# Of ``for_spaces``, but for what is given elsewhere or is no JSON.
_NETWORKS = ("hidden", "recurrent", "layer_norm", "cnn", "dueling", "atoms")
_REPLAY = ("capacity", "device", "priority", "window", "burn_in", "alpha", "beta", "beta_steps")
# Options that are given elsewhere, or have no meaning here.
_NOT_OPTIONS = (
    "models", "model_args", "model_kwargs", "replay_buffer", "replay_size", "replay_device",
    "visualize", "visualize_dir", "critics",
)  # fmt: skip
_DEFAULT_REPLAY: Mapping[str, Any] = {"capacity": 100_000}


@dataclass(frozen=True)
class Experiment:
    """All that a training run is made of.

    Attributes:
        algo: Name of the algorithm, see ``presets.PRESETS``.
        env: Of Gymnasium's registry.
        env_options: Keyword arguments for it.
        envs: Environments side by side.
        vector: Who steps them: "pool", as many worker processes as pay; "sync", this process;
            "native", C++.
        workers: Of the pool. None: as many as pay.
        device: Of networks.
        threads: Of torch. None: as torch has it.
        networks: Keyword arguments of ``for_spaces``.
        options: Arguments of the algorithm.
        replay: Arguments of its ``Replay``. None: it has none.
        training: See ``Settings``.
    """

    algo: str
    env: str
    env_options: Mapping[str, Any] = field(default_factory=dict)
    envs: int = 8
    vector: str = "pool"
    workers: int | None = None
    device: str = "cpu"
    threads: int | None = None
    networks: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    replay: Mapping[str, Any] | None = None
    training: Settings = field(default_factory=Settings)

    # -- made of what --------------------------------------------------------------------------

    @classmethod
    def of(cls, algo: str, env: str, *, env_options: Mapping[str, Any] | None = None) -> Experiment:
        """The presets for an algorithm in an environment.

        Args:
            algo: Name of the algorithm.
            env: Name of the environment.
            env_options: Keyword arguments for it.

        Returns:
            The experiment.

        Raises:
            CommandError: There is no such algorithm or environment, or it cannot act there.
        """
        algo = names.algorithm(algo)
        made = make_env(env, env_options or {})
        observations, action_space = made.observation_space, made.action_space
        made.close()
        actions = _kind(action_space)
        if actions is None or actions not in PRESETS[algo].actions:
            raise CommandError(_cannot_act(algo, env, action_space, actions))
        chosen = preset(algo, env=env, actions=actions, images=_is_image(observations))
        return cls(
            algo=algo,
            env=env,
            env_options=dict(env_options or {}),
            envs=chosen.envs,
            threads=None if _is_image(observations) else 1,
            networks=dict(chosen.networks),
            options={**chosen.options, **_of_range(chosen, action_space)},
            replay=None if chosen.replay is None else dict(chosen.replay),
            training=Settings(**chosen.training),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Experiment:
        """Reads what ``to_json`` returned, or somebody wrote.

        Args:
            data: Values by name. Where fields are left out, these, and what is left out within
                others, are as in the preset.

        Returns:
            The experiment.

        Raises:
            ValueError: Something is unknown, or of another type.
        """
        check_schema(data, SCHEMA_VERSION)
        known = [each.name for each in fields(cls)]
        check_keys("config", data, ["schema_version", *known])
        for name in ("algo", "env"):
            if not isinstance(data.get(name), str):
                raise CommandError(f"config: {name} must be text, got {data.get(name)!r}")
        check_plain_names("config", {"env": data["env"], "env_options": data.get("env_options")})
        made = cls.of(data["algo"], data["env"], env_options=data.get("env_options"))
        rest = {k: x for k, x in data.items() if k not in ("schema_version", "algo", "env")}
        if all(name in data for name in known):  # it says everything
            replay: dict[str, Any] | None = None if made.replay is None else {}
            made = dataclasses.replace(
                made, networks={}, options={}, replay=replay, training=Settings()
            )
        return made.but(**rest)

    def but(self, **changes: Any) -> Experiment:
        """Another one; mappings are added to those here.

        Args:
            **changes: Fields and their values.

        Returns:
            The experiment, checked.

        Raises:
            ValueError: A name is unknown, or a value of another type.
        """
        for name, known in self._known().items():
            given = changes.get(name)
            if given is None:
                changes.pop(name, None)
                continue
            if not isinstance(given, Mapping):
                raise CommandError(f"config: {name} must be an object, got {type(given).__name__}")
            check_keys(f"config: {name}", given, known)
            before = getattr(self, name)
            if name == "training":
                changes[name] = _settings(dataclasses.replace, before, **given)
            else:
                changes[name] = {**(before or {}), **given}
        changed = dataclasses.replace(self, **changes)
        changed._check()
        return changed

    def _known(self) -> dict[str, Sequence[str] | None]:
        """Keys of the fields that are mappings; None: any."""
        return {
            "env_options": None,
            "networks": _NETWORKS,
            "options": options_of(PRESETS[self.algo].frame),
            "replay": _REPLAY if PRESETS[self.algo].replay is not None else (),
            "training": [each.name for each in fields(Settings)],
        }

    def _check(self) -> None:
        for name, least in (("envs", 1), ("workers", 0), ("threads", 1)):
            value = getattr(self, name)
            if value is None and name != "envs":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise CommandError(
                    f"config: {name} must be a whole number, at least {least}, got {value!r}"
                )
        if self.vector not in _VECTORS:
            raise CommandError(
                f"config: vector must be one of {', '.join(_VECTORS)}, got {self.vector!r}"
            )
        if not isinstance(self.device, str):
            raise CommandError(f"config: device must be text, got {self.device!r}")

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        made = {each.name: getattr(self, each.name) for each in fields(self)}
        training = {each.name: getattr(self.training, each.name) for each in fields(Settings)}
        return {"schema_version": SCHEMA_VERSION, **made, "training": training}

    @property
    def goal(self) -> float | None:
        """Mean return by which the environment counts as solved; None if nobody says."""
        known = GOALS.get(self.env)
        return known if known is not None else gymnasium.spec(self.env).reward_threshold

    # -- made ----------------------------------------------------------------------------------

    def make_envs(self, count: int | None = None) -> VectorEnv[Any, Any, Any]:
        """Environments.

        Args:
            count: How many. None: ``envs``.

        Returns:
            A vector of them, which resets each in the step that ends an episode.

        Raises:
            CommandError: They cannot be made.
        """
        count = self.envs if count is None else count
        mode = AutoresetMode.SAME_STEP
        try:
            if self.vector == "native":
                from machin_fast.env.native import NativeEnv

                return NativeEnv(self.env, count, autoreset_mode=mode, **self.env_options)
            if self.vector == "pool":
                from machin_fast.env import ActorPool

                return ActorPool(
                    self.env,
                    count,
                    num_workers=self.workers,
                    autoreset_mode=mode,
                    env_kwargs=self.env_options,
                )
            return gymnasium.make_vec(
                self.env,
                count,
                vectorization_mode="sync",
                vector_kwargs={"autoreset_mode": mode},
                **self.env_options,
            )
        except (ValueError, TypeError, gymnasium.error.Error) as error:
            raise CommandError(f"environment {self.env!r} cannot be made: {error}") from error

    def make_algorithm(
        self, observations: spaces.Space[Any], actions: spaces.Space[Any]
    ) -> TorchFramework:
        """The algorithm with new networks, which draw from torch's default generator.

        Args:
            observations, actions: Spaces of one environment.

        Returns:
            The algorithm.

        Raises:
            CommandError: A value does not suit it.
        """
        frame = PRESETS[self.algo].frame
        try:
            nets = for_spaces(observations, actions, self.algo, **self.networks)
            options = _resolved(self.options)
            burn_in = 0
            if self.replay is not None:
                replay = dict(self.replay)
                burn_in = replay.pop("burn_in", 0)
                options["replay_buffer"] = Replay(**{"device": self.device, **replay})
            made = getattr(algorithms, frame)(*[net.to(self.device) for net in nets], **options)
        except (ValueError, TypeError, RuntimeError) as error:
            raise CommandError(f"{self.algo} in {self.env}: {error}") from error
        if burn_in:
            made.burn_in = burn_in
        return made

    def trainer(
        self,
        *,
        folder: str | os.PathLike[str] | None = None,
        hooks: Sequence[Hooks] = (),
        logs: Sequence[Any] = (),
        evaluate: bool = True,
    ) -> Trainer:
        """All that is needed to train. It seeds the global generators.

        Args:
            folder: Of the run. None: nothing is written.
            hooks, logs: Of the trainer.
            evaluate: Make environments for evaluations.

        Returns:
            The trainer.

        Raises:
            CommandError: Something cannot be made.
        """
        check_device(self.device)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        seed_everything(self.training.seed)
        envs = self.make_envs()
        algorithm = self.make_algorithm(envs.single_observation_space, envs.single_action_space)
        judged = evaluate and self.training.evaluation_every > 0
        return Trainer(
            algorithm,
            envs,
            self.training,
            evaluation_envs=self.make_envs(self.training.evaluation_episodes) if judged else None,
            folder=folder,
            hooks=hooks,
            logs=logs,
            about=self.to_json(),
        )

    def player(self, actions: spaces.Space[Any], algorithm: TorchFramework) -> Behaviour:
        """How a trained algorithm acts."""
        return Behaviour(algorithm, actions, noise=self.training.noise)


# -- help ----------------------------------------------------------------------------------------


def make_env(env: str, options: Mapping[str, Any], **more: Any) -> gymnasium.Env[Any, Any]:
    """One environment of Gymnasium's registry.

    Args:
        env: Its name.
        options: Keyword arguments for it.
        **more: Further ones.

    Returns:
        The environment.

    Raises:
        CommandError: There is none of that name, it needs a package, or refuses an argument.
    """
    try:
        return gymnasium.make(env, **options, **more)
    except (gymnasium.error.NameNotFound, gymnasium.error.NamespaceNotFound) as error:
        known = [each for each in gymnasium.registry if "/" not in each or "/" in env]
        raise CommandError(names.unknown("environment", env, known)) from error
    except gymnasium.error.DependencyNotInstalled as error:
        raise CommandError(f"environment {env!r} needs more: {error}") from error
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise CommandError(f"environment {env!r} cannot be made: {error}") from error


def check_device(device: str) -> None:
    """Refuses a device that is not there.

    Args:
        device: As torch names it.

    Raises:
        CommandError: It is none, or torch or our kernels cannot use it.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise CommandError(f"--device must be one of torch's, such as cpu, got {device}") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise CommandError(
            f"--device must be one that torch can use, got {device}, and torch "
            f"{torch.__version__} sees no GPU. Use --device cpu"
        )
    if kind == "cuda":
        from machin_fast import build_info

        if (info := build_info()).cuda is None:
            raise CommandError(
                f"--device must be one that machin_fast was built for, got {device}, and there "
                f"are no CUDA kernels ({info.cuda_reason}). Use --device cpu, or rebuild"
            )


def options_of(frame: str) -> list[str]:
    """What the constructor of an algorithm takes, apart from networks and memory."""
    taken: dict[str, Any] = getattr(algorithms, frame)._defaults()
    return [name for name in taken if name not in _NOT_OPTIONS] + ["lazy", "compile"]


def _settings(make: Any, *args: Any, **given: Any) -> Settings:
    try:
        made: Settings = make(*args, **given)
    except (TypeError, ValueError) as error:
        raise CommandError(f"config: training: {error}") from error
    return made


def _resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    """Names of classes as classes."""
    made = dict(options)
    made["optimizer"] = _class("optimizer", made.get("optimizer", "Adam"), torch.optim)
    args, kwargs = made.pop("criterion_args", ()), made.pop("criterion_kwargs", {})
    if made.get("criterion") is not None:
        made["criterion"] = _class("criterion", made["criterion"], nn)(*args, **kwargs)
    if made.get("lr_scheduler") is not None:
        scheduler = made["lr_scheduler"]
        made["lr_scheduler"] = _class("lr_scheduler", scheduler, torch.optim.lr_scheduler)
    return made


def _class(what: str, name: Any, module: Any) -> Any:
    """A class of one of torch's modules: nothing else is ever looked for."""
    known = [each for each, x in vars(module).items() if isinstance(x, type) and each[0] != "_"]
    if not isinstance(name, str) or name not in known:
        raise CommandError(f"config: options: {names.unknown(what, str(name), known)}")
    return getattr(module, name)


def _kind(space: spaces.Space[Any]) -> Actions | None:
    if isinstance(space, spaces.Discrete):
        return "discrete" if space.start == 0 else None
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return "choices"
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1 and not space.start.any():
        return "choices"
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return "bounded" if space.is_bounded() else "box"
    return None


def _cannot_act(algo: str, env: str, space: spaces.Space[Any], actions: Actions | None) -> str:
    text = f"{algo} cannot act in {env}, whose actions are {space}"
    able = [name for name, each in PRESETS.items() if actions in each.actions]
    return f"{text}. These can: {', '.join(able)}" if able else f"{text}. No algorithm here can"


def _of_range(chosen: Preset, space: spaces.Space[Any]) -> dict[str, Any]:
    """Options that are measured by the range of actions."""
    if chosen.frame != "TD3" or not isinstance(space, spaces.Box):
        return {}
    low, high = float(space.low.min()), float(space.high.max())
    half = (high - low) / 2
    return {"target_noise": [0.2 * half, 0.5 * half], "action_range": [low, high]}


def _is_image(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 3


def default_folder(experiment: Experiment, base: str | os.PathLike[str] = "runs") -> Path:
    """Where a run is kept if nobody says otherwise: a folder that is not there yet."""
    name = f"{experiment.algo}_{experiment.env}".replace("/", "_").replace(":", "_")
    path, count = Path(base) / name, 1
    while path.exists():
        count += 1
        path = Path(base) / f"{name}_{count}"
    return path
