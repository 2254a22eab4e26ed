"""Checkpoints: folders of state files with a manifest, written whole or not at all.

``manifest.json`` has one line with the SHA-256 of all that comes after it, then JSON: the format's
version, the step, what the caller says it is ``about``, and the size and SHA-256 of each file.
Files are those of ``utils.state_file``: nothing in a checkpoint can run code, and a changed bit
anywhere is found before anything is used.

A checkpoint is written beside its place, under a name that no reader looks at, and put on the disk
file by file; the manifest comes last, then the folder gets its name. Whatever happens meanwhile,
there is a whole checkpoint or none, and those from before are as they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from machin_fast.utils.state_file import load_state, save_state
from machin_fast.utils.tensor_file import Json

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TEMPORARY = ".writing-"

_KIND = "checkpoint"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FIRST_LINE = re.compile(rb'\{"sha256": "([0-9a-f]{64})",\n')
_MOST_MANIFEST = 16 << 20
_CHUNK = 4 << 20


class DamagedError(ValueError):
    """A checkpoint is not as it was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found to be whole.

    Attributes:
        path: Its folder.
        step: Environment steps at which it was written.
        about: What its writer said of it.
        names: Of the states in it.
    """

    path: Path
    step: int
    about: Json
    names: tuple[str, ...]

    def load(self, name: str, *, device: torch.device | str | None = None) -> Any:
        """Reads one of its states.

        Args:
            name: One of ``names``.
            device: Where tensors shall be that were not on the CPU. None: where each was.

        Returns:
            What was saved.

        Raises:
            KeyError: There is no such state.
            ValueError: A tensor was on a device that takes none now, or the file was damaged
                after the checkpoint was read.
        """
        if name not in self.names:
            raise KeyError(
                f"Checkpoint.load: name must be one of {', '.join(self.names)}, got {name!r}"
            )
        return load_state(self.path / f"{name}.mft", kind=_KIND, device=device)


def write(path: Path, states: Mapping[str, Any], *, step: int, about: Json = None) -> Checkpoint:
    """Writes a checkpoint.

    Args:
        path: Of its folder, which must not exist; that around it must.
        states: By name: lower-case letters, digits and underscores. See ``save_state`` for what
            they may hold.
        step: Environment steps at which it is written.
        about: Whatever shall be known of it before its states are read.

    Returns:
        The checkpoint.

    Raises:
        FileExistsError: There is something at ``path``; it is left alone.
        TypeError: A state holds something that is neither a tensor nor near to JSON.
        ValueError: A name is another one.
        OSError: It cannot be written, for the disk is full, for example.

    After all of these nothing has changed.
    """
    for name in states:
        if not _NAME.fullmatch(name):
            raise ValueError(
                "checkpoint.write: names of states must be lower-case letters, digits and "
                f"underscores, got {name!r}"
            )
    if path.exists():
        raise FileExistsError(f"checkpoint.write: path must be free, got {path}, which exists")
    temporary = path.with_name(f"{TEMPORARY}{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        for name, state in states.items():
            save_state(temporary / f"{name}.mft", state, kind=_KIND)
        _write_manifest(temporary, tuple(states), step, about)
        _sync(temporary)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(path.parent)
    return Checkpoint(path, step, about, tuple(states))


def read(path: str | os.PathLike[str], *, verify: bool = True) -> Checkpoint:
    """Opens a checkpoint.

    Args:
        path: Its folder.
        verify: Compare the checksums of its files, which reads them once more.

    Returns:
        The checkpoint, whose states can then be loaded.

    Raises:
        FileNotFoundError: There is no such folder.
        DamagedError: It is not whole; the text says what differs.
        ValueError: It is of a later version.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(
            f"checkpoint.read: path must be the folder of a checkpoint, got {path}, which is none"
        )
    manifest = _manifest(path)
    version = manifest.get("format_version")
    if version not in _READERS:
        raise ValueError(
            f"checkpoint.read: {path} must be of format version {FORMAT_VERSION} or before, "
            f"got {version}. Use a later machin_fast"
        )
    return _READERS[version](path, manifest, verify)


# -- writing -----------------------------------------------------------------------------------


def _write_manifest(folder: Path, names: tuple[str, ...], step: int, about: Json) -> None:
    from machin_fast import __version__

    content = {
        "format": "machin_fast checkpoint",
        "format_version": FORMAT_VERSION,
        "step": step,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machin_fast": __version__,
        "torch": torch.__version__,
        "about": about,
        "files": {f"{name}.mft": _fingerprint(folder / f"{name}.mft") for name in names},
    }
    rest = json.dumps(content, indent=1).removeprefix("{\n").encode() + b"\n"
    if len(rest) > _MOST_MANIFEST:
        raise ValueError(
            f"checkpoint.write: about must be at most {_MOST_MANIFEST} bytes of JSON, "
            f"got {len(rest)}"
        )
    digest = hashlib.sha256(rest).hexdigest()
    with (folder / MANIFEST).open("xb") as file:
        file.write(b'{"sha256": "%s",\n' % digest.encode() + rest)
        file.flush()
        os.fsync(file.fileno())


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _sync(folder: Path) -> None:
    """Puts on the disk which files a folder has."""
    with contextlib.suppress(PermissionError):  # Windows opens no folders
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


# -- reading -----------------------------------------------------------------------------------


def _manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.is_file():
        raise DamagedError(f"checkpoint.read: {path} must have a {MANIFEST}, got none")
    if file.stat().st_size > 2 * _MOST_MANIFEST:
        raise DamagedError(
            f"checkpoint.read: {file} must be at most {_MOST_MANIFEST} bytes, "
            f"got {file.stat().st_size}"
        )
    text = file.read_bytes()
    first = _FIRST_LINE.match(text)
    if first is None or hashlib.sha256(text[first.end() :]).hexdigest().encode() != first[1]:
        raise DamagedError(
            f"checkpoint.read: {file} must be whole, got {len(text)} bytes whose checksum "
            "differs. Use an earlier checkpoint"
        )
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"checkpoint.read: {file} must be JSON, got {error}") from error
    return found


def _read_1(path: Path, manifest: dict[str, Any], verify: bool) -> Checkpoint:
    try:
        step, about, files = int(manifest["step"]), manifest["about"], dict(manifest["files"])
        expected = {name: (int(x["bytes"]), str(x["sha256"])) for name, x in files.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(
            f"checkpoint.read: {path / MANIFEST} must say step, about and files, "
            f"got one without ({type(error).__name__}: {error})"
        ) from error
    for name, (size, digest) in expected.items():
        # Such as ../../etc/passwd.
        if not name.endswith(".mft") or not _NAME.fullmatch(name.removesuffix(".mft")):
            raise DamagedError(
                f"checkpoint.read: {path / MANIFEST} must name files beside it, got {name!r}"
            )
        _check_file(path / name, size, digest if verify else None)
    return Checkpoint(path, step, about, tuple(name.removesuffix(".mft") for name in expected))


def _check_file(path: Path, size: int, digest: str | None) -> None:
    if not path.is_file():
        raise DamagedError(f"checkpoint.read: {path} must be a file, got none")
    found = path.stat().st_size
    if found != size:
        raise DamagedError(
            f"checkpoint.read: {path} must be whole, {size} bytes, got {found}. "
            "Use an earlier checkpoint"
        )
    if digest is not None and _fingerprint(path)["sha256"] != digest:
        raise DamagedError(
            f"checkpoint.read: {path} must be whole, got a file whose checksum differs. "
            "Use an earlier checkpoint"
        )


_READERS = {1: _read_1}
