"""Folders, and files of models.

``prep_save_model`` writes one file for each model, ``<name>_<version>.mft``: what its
``state_dict`` holds, as safetensors. No code in it is run. Machin's own files,
``<name>_<version>.pt``, are pickles of whole modules, which may run any code when they are read:
``prep_load_model`` reads them if it is told to trust them.
"""

from __future__ import annotations

import copy
import os
import pickle
import re
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from machin_fast.utils import tensor_file
from machin_fast.utils.logging import default_logger

State: TypeAlias = Mapping[str, Any]

_KIND = "model"
# What torch.load raises for files that are damaged, or of classes that are no longer there.
_FAULTS = (RuntimeError, EOFError, pickle.UnpicklingError, AttributeError, ImportError)
# What a name may be, so that names and versions can be told apart and stay in their folder.
_NAME = re.compile(r"[\w.-]+")
_FILE = re.compile(rf"(?P<name>{_NAME.pattern})_(?P<version>[0-9]+)\.(?P<ending>mft|pt)")


def prep_clear_dirs(dirs: Iterable[str | os.PathLike[str]]) -> None:
    """Removes all that is in some folders, not what links in them lead to.

    Args:
        dirs: The folders.

    Raises:
        TypeError: It is one path and no list of them.
        OSError: There is no such folder, or something cannot be removed.
    """
    for folder in _paths("prep_clear_dirs", dirs):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def prep_create_dirs(dirs: Iterable[str | os.PathLike[str]]) -> None:
    """Creates those folders that are not there, with the folders that they are in.

    Args:
        dirs: The folders.

    Raises:
        TypeError: It is one path and no list of them.
        OSError: A folder cannot be created.
    """
    for folder in _paths("prep_create_dirs", dirs):
        folder.mkdir(parents=True, exist_ok=True)


def _paths(what: str, dirs: Iterable[str | os.PathLike[str]]) -> list[Path]:
    # Each letter of a text would be a path: "/", for example.
    if isinstance(dirs, str | os.PathLike):
        raise TypeError(f"{what}: dirs must be a list of paths, got {dirs!r}. Put it in a list")
    return [Path(each) for each in dirs]


def prep_load_state_dict(model: nn.Module, state_dict: State) -> None:
    """Copies a state into a model, to whatever devices that is on.

    Args:
        model: The model.
        state_dict: From ``model.state_dict()``.

    Raises:
        RuntimeError: Names or shapes differ; the text says which.
    """
    model.load_state_dict(state_dict)


def prep_save_model(
    model_dir: str | os.PathLike[str], model_map: Mapping[str, nn.Module], version: int
) -> None:
    """Saves models as one version.

    If something is refused or cannot be written, nothing is changed. A new version that was not
    saved to its end, whatever happened, is not found. Where a version is saved again, each file is
    the old or the new one, and some may be new if the program ends within the last moment.

    Args:
        model_dir: Folder of the files; created if it is not there.
        model_map: Models by name: letters, digits, ``_``, ``-`` and ``.``.
        version: At least 0.

    Raises:
        TypeError: A model has state that is neither a dense tensor nor JSON.
        ValueError: There is no model, or a name or the version is none.
        OSError: A file cannot be written.
    """
    _check_models("prep_save_model", model_map)
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise ValueError(f"prep_save_model: version must be an int, at least 0, got {version!r}")
    folder = Path(model_dir)
    prep_create_dirs([folder])
    with tempfile.TemporaryDirectory(prefix=".saving_", dir=folder) as temporary:
        for name, model in model_map.items():
            try:
                _write(Path(temporary, f"{name}_{version}.mft"), model)
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"prep_save_model: state of {name} must be dense tensors and JSON, got one "
                    f"that is not ({error})"
                ) from error
        for file in sorted(Path(temporary).iterdir()):
            file.replace(folder / file.name)
        tensor_file._sync_folder(folder)


def prep_load_model(
    model_dir: str | os.PathLike[str],
    model_map: Mapping[str, nn.Module],
    version: int | None = None,
    quiet: bool = False,
    logger: Any = None,
    *,
    trust_pickle: bool = False,
) -> int | None:
    """Loads models of one version: the given one, or else the newest that all of them have.

    Where there are both, ``.mft`` files are taken. A ``.pt`` file that holds a state dict of
    tensors is as safe. Other ``.pt`` files count only if they are trusted. On errors all models
    are as they were.

    Args:
        model_dir: Folder of the files.
        model_map: Models by name.
        version: Which version; None or one below 0: the newest.
        quiet: Do nothing if no file of that name is there for one of the models.
        logger: Told what is done; the default logger if None.
        trust_pickle: Read pickles, such as Machin's files. They may run any code: only for files
            from somebody whom you trust.

    Returns:
        The version that was loaded; None if there was none and ``quiet``.

    Raises:
        RuntimeError: There is no folder, no version of all models, or no trust in its files; or a
            model has other parameters than its file.
        ValueError: There is no model, a name is none, or a file is damaged.
        OSError: A file cannot be read.
    """
    _check_models("prep_load_model", model_map)
    folder = Path(model_dir)
    if not folder.is_dir():
        raise RuntimeError(
            f"prep_load_model: model_dir must be a folder, got {folder}. "
            "Model directory doesn't exist!"
        )
    logger = default_logger if logger is None else logger
    files = _find(folder, model_map)
    common = set.intersection(*(set(versions) for versions in files.values()))
    if version is not None and version >= 0 and version not in common:
        for name, versions in files.items():
            if version not in versions:
                logger.warning(f"Specified version {version} for network {name} is invalid")
    found = [version] if version in common else sorted(common, reverse=True)
    untrusted = []
    for each in found:
        try:
            states = {name: _read(files[name][each], trust_pickle) for name in model_map}
        except _UntrustedError as error:
            untrusted.append(error)
            continue
        if untrusted:
            logger.warning(f"{untrusted[0]}. Taking an older version instead")
        logger.info(f"Using version: {each}")
        _load(model_map, states, {name: files[name][each] for name in model_map})
        return each
    if untrusted:
        raise RuntimeError(str(untrusted[0]))
    if quiet:
        return None
    there = ", ".join(f"{name}: {sorted(versions)}" for name, versions in files.items())
    raise RuntimeError(
        f"prep_load_model: model_dir must have a version of all models, got {folder} with {there}. "
        "Cannot find a valid version for all models!"
    )


class _UntrustedError(Exception):
    """A file must be trusted to be read."""


def _check_models(what: str, model_map: Mapping[str, nn.Module]) -> None:
    if not model_map:
        raise ValueError(f"{what}: model_map must have one or more models, got none")
    for name in model_map:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{what}: names of models must be letters, digits, '_', '-' and '.', got {name!r}"
            )


def _find(folder: Path, names: Iterable[str]) -> dict[str, dict[int, Path]]:
    """Files by model and version."""
    files: dict[str, dict[int, Path]] = {name: {} for name in names}
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix, reverse=True):  # .mft last
        match = _FILE.fullmatch(path.name)
        if match is not None and match["name"] in files:
            files[match["name"]][int(match["version"])] = path
    return files


def _write(file: Path, model: nn.Module) -> None:
    state = model.state_dict()
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    content = {
        "metadata": getattr(state, "_metadata", {}),
        "extra_state": {key: value for key, value in state.items() if key not in tensors},
    }
    tensor_file.save(file, tensors, cast(tensor_file.Json, content), kind=_KIND)


def _read(file: Path, trust_pickle: bool) -> State:
    if file.suffix == ".pt":
        return _read_pt(file, trust_pickle)
    tensors, content = tensor_file.load(file, kind=_KIND)
    parts = cast("dict[str, dict[str, Any]]", content)
    state = OrderedDict({**tensors, **parts["extra_state"]})
    state._metadata = parts["metadata"]  # type: ignore[attr-defined]  # load_state_dict reads it
    return state


def _read_pt(file: Path, trust_pickle: bool) -> State:
    try:
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if not trust_pickle:
                raise _UntrustedError(
                    f"prep_load_model: {file} must hold a state dict of tensors, got another "
                    "pickle, which may run any code when it is read. If you trust whoever made it, "
                    "load it with trust_pickle=True, then save it again with prep_save_model"
                ) from error
            found = torch.load(file, map_location="cpu", weights_only=False)
    except _FAULTS as error:
        raise ValueError(
            f"prep_load_model: {file} must be a file of torch.save, whose classes can be imported, "
            f"got {type(error).__name__}: {error}"
        ) from error
    if isinstance(found, nn.Module):
        found = found.state_dict()
    if not isinstance(found, Mapping):
        raise ValueError(
            f"prep_load_model: {file} must hold a module or its state dict, "
            f"got {type(found).__name__}"
        )
    return found


def _load(
    model_map: Mapping[str, nn.Module], states: Mapping[str, State], files: Mapping[str, Path]
) -> None:
    before: dict[str, State] = {}
    try:
        for name, model in model_map.items():
            before[name] = copy.deepcopy(model.state_dict())
            prep_load_state_dict(model, states[name])
    except BaseException as error:
        for changed, state in before.items():
            model_map[changed].load_state_dict(state)
        if isinstance(error, RuntimeError):
            raise RuntimeError(
                f"prep_load_model: {name} must have the parameters of {files[name]}, got {error}"
            ) from error
        raise
