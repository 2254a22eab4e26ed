"""Gymnasium's classic environments, many at once, in C++ or CUDA."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from machin_fast._extension import direct_calls, library
from machin_fast.ops import native_envs_new, native_envs_outputs, native_envs_reset_
from machin_fast.ops.native_envs import AUTORESETS, EPISODE, FINISHED, NUMBERS, SEED, SIZES

_NAMES = {
    AutoresetMode.NEXT_STEP: "next_step",
    AutoresetMode.SAME_STEP: "same_step",
    AutoresetMode.DISABLED: "disabled",
}
# Sets of results that are kept for another step. A loop holds on to one or two.
_KEPT = 4


class NativeEnv(VectorEnv[Any, Any, Any]):
    """CartPole-v1, Pendulum-v1, Acrobot-v1, MountainCar-v0 or MountainCarContinuous-v0.

    It steps as Gymnasium's own do, from the same state with the same actions, in float64, and
    returns what Gymnasium's ``SyncVectorEnv`` does, but rewards in float32. Random beginnings come
    from another generator: one seed gives the same episodes on every device, and environment i
    the same ones however many stand beside it.

    Results are never written again while they are in use, so there is no need to copy them.

    Args:
        env_id: Name of the environment.
        num_envs: How many of it.
        device: Where they live.
        autoreset_mode: When an episode that is over begins anew. ``DISABLED`` leaves that to
            ``reset(options={"reset_mask": ...})``.
        max_episode_steps: After how many steps an episode is truncated. None: as Gymnasium has
            registered it; -1: never.
        output: ``"numpy"`` arrays, or ``"torch"`` tensors on the device. None: arrays on the CPU.
        check: Refuse bad actions on CUDA too, which waits for the device at each step. Without
            it a step with one changes nothing and says nothing. The CPU always checks.
        render_mode: None; nothing is drawn.

    Attributes:
        state: ``[variables, num_envs]``, float64, as ``ops.native_envs_new`` lists them. It may be
            written.
        counters: ``[4, num_envs]``, int64, likewise.

    Raises:
        ValueError: An argument is not as listed above.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        *,
        device: torch.device | str = "cpu",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        output: Literal["numpy", "torch"] | None = None,
        check: bool = True,
        render_mode: None = None,
    ) -> None:
        if env_id not in SIZES:
            raise ValueError(f"NativeEnv: env_id must be one of {', '.join(SIZES)}, got {env_id!r}")
        if num_envs < 1:
            raise ValueError(f"NativeEnv: num_envs must be at least 1, got {num_envs}")
        if render_mode is not None:
            raise ValueError(
                f"NativeEnv: render_mode must be None, got {render_mode!r}. "
                "Draw one of gymnasium.make instead, with its state set to a column of this one's"
            )
        device = torch.device(device)
        if output is None:
            output = "numpy" if device.type == "cpu" else "torch"
        if output not in ("numpy", "torch"):
            raise ValueError(f"NativeEnv: output must be 'numpy' or 'torch', got {output!r}")
        if output == "numpy" and device.type != "cpu":
            raise ValueError(f"NativeEnv: output must be 'torch' on {device}, got {output!r}")
        with gymnasium.make(env_id, disable_env_checker=True) as one:
            self.single_observation_space = one.observation_space
            self.single_action_space = one.action_space
        self.spec = gymnasium.spec(env_id)
        if max_episode_steps is None:
            max_episode_steps = self.spec.max_episode_steps or -1
        if max_episode_steps < 1 and max_episode_steps != -1:
            raise ValueError(
                f"NativeEnv: max_episode_steps must be at least 1, or -1, got {max_episode_steps}"
            )
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        self.num_envs = num_envs
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.max_episode_steps = max_episode_steps
        self.check = check

        self._env_id = env_id
        self._discrete = isinstance(self.single_action_space, Discrete)
        with torch.inference_mode(False):  # so that steps may write them in any mode
            self.state, self.counters = native_envs_new(env_id, num_envs, device=device)
        self.device = self.state.device  # with its index
        self._seeded = np.zeros(num_envs, bool)
        self._ready = False
        self._advance = self._way_to_step()
        self._numpy = output == "numpy"
        self._like = native_envs_outputs(env_id, self.state, autoreset=_NAMES[self.autoreset_mode])
        self._results: list[_Results] = []
        self._action_array = np.zeros(
            (num_envs,) if self._discrete else (num_envs, 1),
            np.int64 if self._discrete else np.float32,
        )
        self._action = torch.from_numpy(self._action_array)

    def _way_to_step(self) -> Callable[[Tensor, Any], None]:
        """What steps, given actions and the memory of results: past torch's dispatcher if it can,
        which takes 1 us for 8 environments."""
        number, autoreset = NUMBERS[self._env_id], AUTORESETS[_NAMES[self.autoreset_mode]]
        limit = max(self.max_episode_steps, 0)
        if self.device.type == "cpu" and direct_calls:
            step, batch = library.native_envs_step, library.views((self.state, self.counters))
            return lambda action, memory: step(number, batch, action, limit, autoreset, memory)
        op = torch.ops.machin_fast.native_envs_step_.default

        def by_op(action: Tensor, memory: tuple[Tensor, ...]) -> None:
            final = memory[4] if len(memory) > 4 else None
            op(
                number, self.state, self.counters, action, limit, autoreset, self.check,
                *memory[:4], final,
            )  # fmt: skip

        return by_op

    # -- Gymnasium's face

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in all environments, or some.

        Args:
            seed: From which each environment's seed is made; or a seed for each, None to go on with
                the random numbers it has. None: all go on; the first time they begin anywhere.
            options: ``reset_mask``, ``[num_envs]``, bool: which begin an episode. ``low`` and
                ``high``, or for Pendulum ``x_init`` and ``y_init``: where these begin, as Gymnasium
                has it.

        Returns:
            Observations of all environments, and no infos.

        Raises:
            ValueError: A seed is negative, there are too few, or there is no such option.
            TypeError: ``reset_mask`` is not bool.
        """
        self._check_open("reset")
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        bounds = self._bounds(options)
        if mask is not None and not self._ready and not mask.all():
            raise ResetNeeded(
                "NativeEnv.reset: the first one must be of all environments, got some"
            )
        self._seed(seed, np.ones(self.num_envs, bool) if mask is None else mask)
        chosen = None if mask is None else torch.from_numpy(mask).to(self.device)
        observation = native_envs_reset_(
            self._env_id, self.state, self.counters, mask=chosen, bounds=bounds
        )
        self._ready = True
        return (observation.numpy() if self._numpy else observation), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes one step in each environment. If one may not take it, none does.

        Args:
            actions: ``[num_envs]``, integers; or ``[num_envs, 1]``, reals, which Gymnasium's
                environments clip to their space, and so do these. NaN and infinities are refused.

        Returns:
            Observations ``[num_envs, ...]``, float32; rewards ``[num_envs]``, float32; terminated
            and truncated ``[num_envs]``, bool; and infos. With ``SAME_STEP`` these hold
            ``final_obs``: as arrays, what ``SyncVectorEnv`` gives where an episode ended; as
            tensors those of all environments before any began anew, so that nothing has to wait.

        Raises:
            ValueError: An action is not of its space, or there are too few or too many.
            TypeError: Their dtype is of another kind.
            ResetNeeded: There was no reset, or with ``DISABLED`` an episode is over.
        """
        if not self._ready:
            self._check_open("step")
            raise ResetNeeded(
                "NativeEnv.step: all environments must be reset first, got none that is"
            )
        if not self._numpy:
            return self._step_tensors(self._as_tensor(actions))
        if (
            type(actions) is np.ndarray
            and actions.dtype is self._action_array.dtype
            and actions.shape == self._action_array.shape
        ):
            np.copyto(self._action_array, actions)
        else:
            self._convert(np.asarray(actions))
        results = self._free_results()
        self._take_step(self._action, results.memory)
        observation, reward, terminated, truncated, *final = results.arrays
        infos = _final_infos(final[0], terminated | truncated) if final else {}
        return observation, reward, terminated, truncated, infos

    def render(self) -> None:
        """Nothing is drawn.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("NativeEnv.render: native environments draw nothing")

    def close_extras(self, **kwargs: Any) -> None:
        """Makes steps and resets raise from now on."""
        self._ready = False

    # -- state

    def observe(self) -> Any:
        """The observations of the present state, for who set it."""
        nobody = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        observation = native_envs_reset_(self._env_id, self.state, self.counters, mask=nobody)
        return observation.numpy() if self._numpy else observation

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of ``state`` and ``counters``, from which any such environment goes on."""
        return {"state": self.state.clone(), "counters": self.counters.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state_dict`` gave: the next steps are those of that environment.

        Args:
            state: Of as many environments of this kind, on any device.

        Raises:
            ValueError: It is not of such environments; nothing is changed.
        """
        own = {"state": self.state, "counters": self.counters}
        if set(state) != set(own):
            raise ValueError(
                f"NativeEnv.load_state_dict: state must have {sorted(own)}, got {sorted(state)}"
            )
        for name, x in own.items():
            if state[name].shape != x.shape or state[name].dtype != x.dtype:
                raise ValueError(
                    f"NativeEnv.load_state_dict: {name} must be {x.dtype} of shape "
                    f"{tuple(x.shape)}, got {state[name].dtype} of {tuple(state[name].shape)}"
                )
        for name, x in own.items():
            x.copy_(state[name])
        self._seeded[:] = True
        self._ready = not self.closed

    # -- what goes in

    def _convert(self, actions: np.ndarray[Any, Any]) -> None:
        self._check_actions(actions.shape, actions.dtype, actions.dtype.kind in self._kinds)
        with np.errstate(over="ignore"):  # infinity is refused later
            np.copyto(self._action_array, actions, casting="unsafe")

    def _as_tensor(self, actions: Any) -> Tensor:
        wanted = self._action.dtype
        if not isinstance(actions, Tensor):
            actions = torch.as_tensor(actions)
        dtype: torch.dtype = actions.dtype
        if (
            dtype is wanted
            and actions.shape == self._action.shape
            and actions.device == self.device
            and actions.is_contiguous()
            and not actions.requires_grad
        ):
            return actions
        real = dtype.is_floating_point
        integer = not (real or dtype.is_complex or dtype == torch.bool)
        self._check_actions(tuple(actions.shape), dtype, integer if self._discrete else real)
        return actions.detach().to(self.device, wanted).contiguous()

    @property
    def _kinds(self) -> str:
        return "iu" if self._discrete else "f"

    def _check_actions(self, shape: tuple[int, ...], dtype: object, of_kind: bool) -> None:
        if shape != self._action_array.shape:
            raise ValueError(
                f"NativeEnv.step: actions of {self.num_envs} {self._env_id} must have shape "
                f"{self._action_array.shape}, got {shape}"
            )
        if not of_kind:
            kind = "integers" if self._discrete else "floating point numbers"
            raise TypeError(
                f"NativeEnv.step: actions of {self._env_id} must be {kind}, got {dtype}"
            )

    def _take_step(self, action: Tensor, memory: Any) -> None:
        try:
            self._advance(action, memory)
        except RuntimeError:
            self._explain(action)
            raise

    def _explain(self, actions: Tensor) -> None:
        """Raises what is wrong with a step that was refused."""
        if self._discrete:
            count = SIZES[self._env_id].actions
            rule, good = f"be in [0, {count})", (actions >= 0) & (actions < count)
        else:
            rule, good = "be finite", actions.isfinite()[:, 0]
        if not good.all():
            bad = int(good.logical_not().nonzero()[0, 0])
            raise ValueError(
                f"NativeEnv.step: actions of {self._env_id} must {rule}, "
                f"got {actions[bad].item()} at position {bad}"
            )
        over = self.counters[FINISHED].nonzero()
        if self.autoreset_mode is AutoresetMode.DISABLED and len(over):
            raise ResetNeeded(
                "NativeEnv.step: every episode must go on, got one that is over at position "
                f"{int(over[0, 0])}. Reset it with options={{'reset_mask': ...}}"
            )

    def _mask(self, mask: Any) -> np.ndarray[Any, Any] | None:
        if mask is None:
            return None
        mask = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
        if mask.dtype != np.bool_:
            raise TypeError(f"NativeEnv.reset: reset_mask must be bool, got {mask.dtype}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"NativeEnv.reset: reset_mask must have shape ({self.num_envs},) and choose some, "
                f"got shape {mask.shape} and {mask.sum()} of them"
            )
        return np.ascontiguousarray(mask)

    def _bounds(self, options: dict[str, Any]) -> Tensor | None:
        """Where episodes begin, if the options say so, as Gymnasium's environments read them."""
        pendulum = self._env_id == "Pendulum-v1"
        names = ("x_init", "y_init") if pendulum else ("low", "high")
        if unknown := set(options).difference(names):
            raise ValueError(
                f"NativeEnv.reset: options of {self._env_id} must be reset_mask, {names[0]} or "
                f"{names[1]}, got {sorted(unknown)}"
            )
        if not options:
            return None
        if pendulum:
            high = [float(options.get("x_init", np.pi)), float(options.get("y_init", 1.0))]
            low = [-x for x in high]
        else:
            usual = {"CartPole-v1": (-0.05, 0.05), "Acrobot-v1": (-0.1, 0.1)}
            least, most = usual.get(self._env_id, (-0.6, -0.4))
            draws = SIZES[self._env_id].draws
            low = [float(options.get("low", least))] * draws
            high = [float(options.get("high", most))] * draws
        for x, y in zip(low, high, strict=True):
            if not (x <= y and np.isfinite(y - x)):
                raise ValueError(
                    f"NativeEnv.reset: options must give bounds that ascend, got {x} and {y}"
                )
        return torch.tensor([low, high], dtype=torch.float64)

    def _seed(self, seed: int | Sequence[int | None] | None, mask: np.ndarray[Any, Any]) -> None:
        """Gives seeds to the environments of ``mask`` that get one, or have none yet."""
        words, given = _words(None, self.num_envs), ~self._seeded
        if isinstance(seed, int | np.integer):
            words, given = _words(int(seed), self.num_envs), np.ones_like(given)
        elif seed is not None:
            if len(seed) != self.num_envs:
                raise ValueError(
                    f"NativeEnv.reset: seed must have {self.num_envs} entries, got {len(seed)}"
                )
            for i, each in enumerate(seed):
                if each is not None:
                    words[i], given[i] = _words(int(each), 1)[0], True
        chosen = torch.from_numpy(given & mask).to(self.device)
        new = torch.from_numpy(words.view(np.int64)).to(self.device)
        self.counters[SEED] = torch.where(chosen, new, self.counters[SEED])
        self.counters[EPISODE].masked_fill_(chosen, 0)
        self._seeded |= given & mask

    def _check_open(self, method: str) -> None:
        if self.closed:
            raise ClosedEnvironmentError(f"NativeEnv.{method}: it must be open, got it closed")

    # -- what comes out

    def _new_memory(self) -> tuple[Tensor, ...]:
        return tuple(map(torch.empty_like, self._like))  # quicker than by shapes

    def _free_results(self) -> _Results:
        """Results that nobody else has any more, or new ones."""
        for results in self._results:
            if results.free():
                return results
        results = _Results(self._new_memory())
        self._results = [results, *self._results[: _KEPT - 1]]
        return results

    def _step_tensors(
        self, action: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]:
        memory = self._new_memory()
        self._take_step(action, memory)
        observation, reward, terminated, truncated, *final = memory
        infos = {"final_obs": final[0], "_final_obs": terminated | truncated} if final else {}
        return observation, reward, terminated, truncated, infos


class _Results:
    """Arrays that steps write into, again if nobody has them any more."""

    __slots__ = ("_unused", "arrays", "memory")

    def __init__(self, memory: tuple[Tensor, ...]) -> None:
        self.memory: Any = library.views(memory) if direct_calls else memory
        self.arrays = tuple(x.numpy() for x in memory)
        self._unused = self._references()

    def free(self) -> bool:
        """Whether no array, nor any view of one, is in the hands of others."""
        return self._references() == self._unused

    def _references(self) -> list[int]:
        return [sys.getrefcount(x) for x in self.arrays]  # views of an array refer to it


def _words(seed: int | None, n: int) -> np.ndarray[Any, Any]:
    """Seeds for n environments; the first ones are the same for any n."""
    if seed is not None and seed < 0:
        raise ValueError(f"NativeEnv.reset: seed must not be negative, got {seed}")
    return np.random.SeedSequence(seed).generate_state(n, np.uint64)


def _final_infos(observation: np.ndarray[Any, Any], over: np.ndarray[Any, Any]) -> dict[str, Any]:
    """As ``SyncVectorEnv`` gives them."""
    if not over.any():
        return {}
    final = np.full(len(over), None, dtype=object)
    for i in over.nonzero()[0]:
        final[i] = observation[i].copy()
    return {
        "final_obs": final, "_final_obs": over,
        "final_info": {}, "_final_info": over.copy(),
    }  # fmt: skip
