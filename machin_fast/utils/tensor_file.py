"""Files of tensors and JSON: safetensors with a checksum, replaced whole or not at all.

Any safetensors reader opens such a file. What we add is in the metadata of its header: ``format``,
``format_version``, ``data_bytes`` (the length of what comes after the header), ``sha256`` (of the
whole file, with 64 zeros for these digits), ``kind`` and ``content`` (the JSON text).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_FORMAT_VERSION = "1"
_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.bool: "BOOL", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
# What safetensors reads at most.
_MOST_HEADER = 100_000_000
# Bytes that are read or written at once.
_CHUNK = 4 << 20

# How files begin, those of later versions too. The digits of the checksum may be anything, so that
# damage to them is told as what it is.
_BEGIN = re.compile(
    rb'(?P<header_bytes>.{8})\{"__metadata__":\{"format":"machin_fast",'
    rb'"format_version":"(?P<version>\d+)","data_bytes":"(?P<data_bytes>\d+)",'
    rb'"sha256":"(?P<sha256>.{64})"',
    re.DOTALL,
)
_BEGIN_BYTES = 256
_ZEROS = b"0" * 64


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    content: Json,
    *,
    kind: str,
) -> None:
    """Writes a file, or replaces it. Whatever happens meanwhile, it is the old or the new one.

    Needs memory for some rows of one tensor, no copy of all.

    Args:
        path: Of the file, in a folder that exists.
        tensors: By name; dense, of any shape, strides and device.
        content: What else there is; any float is fine, infinite ones and NaN, too.
        kind: What the file is, for ``load`` to check.

    Raises:
        TypeError: ``content`` holds something that is not JSON, or ``tensors`` something that is
            no dense tensor of a dtype of safetensors; then nothing is written.
        ValueError: A name is ``__metadata__``, or ``content`` is too deep or too large; then
            nothing is written.
        OSError: The file cannot be written; the old one is as it was.
    """
    path = Path(path)
    for name, tensor in tensors.items():
        _check_tensor(name, tensor)
    # Large elements first: then all are aligned.
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
    header = _header(tensors, _json(content), kind)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"tensor_file.save: path must be in a folder that exists, got {path}. Create it first"
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        _write(temporary, header, tensors)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # the disk is full: it names none
        raise
    _sync_folder(path.parent)


def load(
    path: str | os.PathLike[str],
    *,
    kind: str,
    device: torch.device | str = "cpu",
    verify: bool = True,
) -> tuple[dict[str, Tensor], Json]:
    """Reads a file that ``save`` wrote. Runs no code that is in it, whoever made it.

    Args:
        path: Of the file.
        kind: As saved.
        device: Where the tensors shall be.
        verify: Compare the checksum, which reads the file once more.

    Returns:
        The tensors by name, in no particular order, each in contiguous memory of its own; and the
        content.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another kind, program or later version, or it is damaged.
        ImportError: safetensors is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"tensor_file.load: path must name a file, got {path}, which does not exist"
        )
    with path.open("rb") as file:
        _check_whole(path, file, verify)
        found = _read(path, kind, torch.device(device))
        same = os.path.samestat(os.fstat(file.fileno()), path.stat())
    # If another process replaced the file meanwhile, what was read is not what was checked.
    return found if same else load(path, kind=kind, device=device, verify=verify)


# -- writing ---------------------------------------------------------------------------------


def _check_tensor(name: str, tensor: Tensor) -> None:
    if not isinstance(name, str):
        raise TypeError(f"tensor_file.save: names of tensors must be str, got {name!r}")
    if name == "__metadata__":
        raise ValueError("tensor_file.save: names of tensors must not be '__metadata__', got it")
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor_file.save: {name!r} must be a tensor, got {type(tensor).__name__}")
    if tensor.dtype not in _DTYPES or tensor.layout != torch.strided or tensor.is_meta:
        raise TypeError(
            f"tensor_file.save: {name!r} must be dense and {', '.join(_DTYPES.values())}, "
            f"got {tensor.layout}, {tensor.dtype}, {tensor.device}"
        )


def _json(content: Json) -> str:
    try:
        _check_json(content, "content")
        return json.dumps(content, separators=(",", ":"))
    except RecursionError as error:
        raise ValueError(
            "tensor_file.save: content must be less deep, got one inside the other too often "
            "(or itself)"
        ) from error


def _check_json(value: object, where: str) -> None:
    """Refuses what json would turn into something else, such as tuples, or not take at all."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"tensor_file.save: keys of {where} must be str, got {key!r}")
            _check_json(inner, f"{where}[{key!r}]")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _check_json(inner, f"{where}[{i}]")
    elif value is not None and not isinstance(value, str | int | float):
        raise TypeError(
            f"tensor_file.save: {where} must be a dict, list, str, int, float, bool or None, "
            f"got {type(value).__name__}"
        )


def _header(tensors: Mapping[str, Tensor], content: str, kind: str) -> bytes:
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.itemsize
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    metadata = {
        "format": "machin_fast",
        "format_version": _FORMAT_VERSION,
        "data_bytes": str(end),
        "sha256": _ZEROS.decode(),
        "kind": kind,
        "content": content,
    }
    header = {"__metadata__": metadata, **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # aligns the data
    if len(text) > _MOST_HEADER:
        raise ValueError(
            f"tensor_file.save: content must be at most {_MOST_HEADER} bytes of JSON, with the "
            f"names of tensors, got {len(text)}. Keep numbers in tensors"
        )
    return len(text).to_bytes(8, "little") + text


def _write(path: Path, header: bytes, tensors: Mapping[str, Tensor]) -> None:
    """Writes a new file; it is on the disk when this returns."""
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for part in _parts(header, tensors):
            digest.update(part)
            file.write(part)
        file.seek(header.index(_ZEROS))
        file.write(digest.hexdigest().encode())
        file.flush()
        os.fsync(file.fileno())


def _parts(header: bytes, tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    yield header
    for tensor in tensors.values():
        yield from _bytes(tensor)


def _bytes(tensor: Tensor) -> Iterator[memoryview]:
    """The numbers of a tensor, some rows at a time, for it may be strided or on a GPU."""
    if not tensor.numel():
        return
    rows = tensor.detach() if tensor.dim() else tensor.detach()[None]
    row_bytes = rows[0].numel() * rows.itemsize
    for part in rows.split(max(1, _CHUNK // row_bytes)):
        dense = part.resolve_conj().resolve_neg().cpu().contiguous()
        # Of stride 1 also where there is one element, which is contiguous with any.
        flat = dense.as_strided((dense.numel(),), (1,))
        yield memoryview(flat.view(torch.uint8).numpy())


def _sync_folder(path: Path) -> None:
    """Puts on the disk which files there are, without which a replaced one may come back."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# -- reading ---------------------------------------------------------------------------------


def _check_whole(path: Path, file: BufferedReader, verify: bool) -> None:
    """Refuses files that are not ours or not as they were written."""
    begin = file.read(_BEGIN_BYTES)
    size = os.fstat(file.fileno()).st_size
    found = _BEGIN.match(begin)
    if found is None:
        raise ValueError(
            f"tensor_file.load: {path} must begin like a file of machin_fast, got {size} bytes "
            "that do not. Name another file; if it is the right one, it is damaged: use an "
            "earlier copy"
        )
    version = found["version"].decode()
    if version != _FORMAT_VERSION:
        raise ValueError(
            f"tensor_file.load: {path} must be of format version {_FORMAT_VERSION}, got "
            f"{version}. Use a later machin_fast"
        )
    expected = 8 + int.from_bytes(found["header_bytes"], "little") + int(found["data_bytes"])
    if size != expected:
        raise ValueError(
            f"tensor_file.load: {path} must be whole, {expected} bytes, got {size}. "
            "Use an earlier copy"
        )
    if verify and _digest(file, begin, found.span("sha256")) != found["sha256"]:
        raise ValueError(
            f"tensor_file.load: {path} must be whole, got a file whose checksum differs. "
            "Use an earlier copy"
        )


def _digest(file: BufferedReader, begin: bytes, digits: tuple[int, int]) -> bytes:
    """Checksum of the file, of which ``begin`` was read, without that checksum's own digits."""
    digest = hashlib.sha256(begin[: digits[0]] + _ZEROS + begin[digits[1] :])
    buffer = memoryview(bytearray(_CHUNK))
    while n := file.readinto(buffer):
        digest.update(buffer[:n])
    return digest.hexdigest().encode()


def _read(path: Path, kind: str, device: torch.device) -> tuple[dict[str, Tensor], Json]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(
            "tensor_file.load: safetensors must be installed, got none. "
            "Install it with: pip install safetensors"
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            _check_kind(path, metadata, kind)
            # Copies: the file's own memory would follow later changes of the file.
            tensors = {name: file.get_tensor(name).to(device, copy=True) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _unsound(path, error) from error
    return tensors, _parse(path, metadata)


def _check_kind(path: Path, metadata: Mapping[str, str], kind: str) -> None:
    if metadata.get("kind") != kind:
        raise ValueError(
            f"tensor_file.load: {path} must be of kind {kind!r}, got {metadata.get('kind')!r}"
        )


def _parse(path: Path, metadata: Mapping[str, str]) -> Json:
    try:
        content: Json = json.loads(metadata["content"])
    except (KeyError, ValueError, RecursionError) as error:
        raise _unsound(path, error) from error
    return content


def _unsound(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"tensor_file.load: {path} must be safetensors with JSON in its metadata, got a file with "
        f"an error in it ({type(error).__name__}: {error}). Use an earlier copy"
    )
