"""Files of tensors and JSON, and what they survive."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import math
import os
import pickle
import random
import resource
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from machin_fast.utils import tensor_file
from saving import Events, files_beside, kill_at, outcomes_of

DTYPES = [
    torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
    torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64,
    torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip
SHAPES = [(), (0,), (1,), (7,), (0, 3), (3, 0), (5, 1, 3)]


def any_bits(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of random bits: among them NaN with all kinds of payloads."""
    generator = torch.Generator().manual_seed(0)
    if dtype == torch.bool:
        return torch.randint(2, shape, generator=generator, dtype=torch.uint8).bool()
    n = math.prod(shape) * dtype.itemsize
    bits = torch.randint(256, (n,), generator=generator, dtype=torch.uint8)
    return bits.view(dtype).view(shape)


def bits(tensor: torch.Tensor) -> bytes:
    numbers = tensor.detach().resolve_conj().resolve_neg().cpu().flatten().contiguous()
    return numbers.view(torch.uint8).numpy().tobytes()


def assert_same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (got[name].dtype, got[name].shape) == (tensor.dtype, tensor.shape), name
        assert bits(got[name]) == bits(tensor), name


def round_trip(path: Path, tensors: dict[str, torch.Tensor], device: Any = "cpu") -> None:
    tensor_file.save(path, tensors, None, kind="test")
    found, content = tensor_file.load(path, kind="test", device=device)
    assert content is None
    assert_same(found, tensors)
    for tensor in found.values():
        assert tensor.device.type == torch.device(device).type
        assert tensor.is_contiguous()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.safetensors"


# -- what goes in comes out --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_shape_comes_back_bit_for_bit(path, dtype):
    round_trip(path, {str(shape): any_bits(shape, dtype) for shape in SHAPES})


@pytest.mark.parametrize("chunk", [1, 16, 100, 4 << 20])
def test_views_come_back(path, device, chunk, monkeypatch):
    monkeypatch.setattr(tensor_file, "_CHUNK", chunk)
    record = any_bits((50, 24), torch.uint8).to(device)
    complex_ = torch.randn(6, 5, dtype=torch.complex64, device=device)
    parameter = torch.nn.Parameter(torch.randn(3, 4, device=device))
    tensors = {
        "field/float": record[:, :8].view(torch.float32),
        "field/long": record[:, 16:].view(torch.int64),
        "transposed": record.T,
        "strided": record[::7, 1::3],
        "expanded": torch.ones(1, 3, device=device).expand(4, 3),
        "parameter": parameter,
        "of a graph": parameter * 2,
        "conjugate": complex_.conj(),
        "negative": complex_.conj().imag,
    }
    round_trip(path, tensors, device)


def test_a_file_without_tensors_and_one_with_odd_names_come_back(path):
    round_trip(path, {})
    names = ("", "a/b", "../up", "a b\n\"\\'", "weiß 🙂", '"sha256":"', "sha256", "\0")
    round_trip(path, {name: torch.tensor([i]) for i, name in enumerate(names)})


@pytest.mark.parametrize("verify", [True, False])
def test_content_comes_back(path, verify):
    content = {
        "text": ["", 'quotes " and \\', "weiß 🙂", "\ud800", "\0\n"],
        '"sha256":"' + "0" * 64 + '"': "0" * 64,
        "ints": [0, -1, 2**63, -(2**200), True, False, None],
        "floats": [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf],
        "nested": [{"": [[], {}]}],
    }
    tensor_file.save(path, {}, content, kind="test")
    _, found = tensor_file.load(path, kind="test", verify=verify)
    assert repr(found) == repr(content)


def test_nan_in_content_comes_back(path):
    tensor_file.save(path, {}, math.nan, kind="test")
    _, found = tensor_file.load(path, kind="test")
    assert isinstance(found, float)
    assert math.isnan(found)


def test_any_safetensors_reader_opens_it_and_finds_tensors_aligned(path):
    tensors = {str(dtype): any_bits((3,), dtype) for dtype in DTYPES}
    tensor_file.save(path, tensors, None, kind="test")
    assert_same(load_file(path), tensors)
    for tensor in load_file(path).values():
        assert tensor.data_ptr() % tensor.itemsize == 0


def test_metadata_is_as_documented(path):
    tensor_file.save(path, {"x": torch.zeros(3)}, [1, "a"], kind="test")
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    digest = metadata.pop("sha256")
    assert metadata == {
        "format": "machin_fast", "format_version": "1", "data_bytes": "12",
        "kind": "test", "content": '[1,"a"]',
    }  # fmt: skip
    assert hashlib.sha256(data.replace(digest.encode(), b"0" * 64)).hexdigest() == digest


def test_what_was_loaded_does_not_follow_the_file(path):
    tensor_file.save(path, {"x": torch.ones(1000)}, None, kind="test")
    found, _ = tensor_file.load(path, kind="test")
    path.write_bytes(bytes(path.stat().st_size))
    assert found["x"].sum() == 1000


def test_a_file_replaced_while_it_is_read_is_checked_and_read_again(path, monkeypatch):
    check_whole = tensor_file._check_whole

    def replace_after_check(*args: Any) -> None:
        check_whole(*args)
        monkeypatch.undo()
        tensor_file.save(path, {"x": torch.ones(3)}, "new", kind="test")
        path.write_bytes(path.read_bytes()[:-4] + b"flip")

    tensor_file.save(path, {"x": torch.zeros(2)}, "old", kind="test")
    monkeypatch.setattr(tensor_file, "_check_whole", replace_after_check)
    with pytest.raises(ValueError, match="checksum"):
        tensor_file.load(path, kind="test")


# -- C7: files of earlier versions -----------------------------------------------------------------

VERSION_1 = (
    "mAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJtYWNoaW5fZmFzdCIsImZvcm1hdF92ZXJzaW9uIjoiMS"
    "IsImRhdGFfYnl0ZXMiOiIyNyIsInNoYTI1NiI6IjRmOTk5OGI5ZGZjNDljOWJkZTQ2OGZjNGMyZmZkZGJmZDMwMzMw"
    "MDIyMmNlMzllNjY1NmFkYzc0NzNkNjM1MjMiLCJraW5kIjoiZ29sZGVuIiwiY29udGVudCI6IntcInN0ZXBzXCI6My"
    "xcIm5hbWVzXCI6W1wiYVwiLFwiXFx1MDBkZlwiXX0ifSwic3RlcCI6eyJkdHlwZSI6Ikk2NCIsInNoYXBlIjpbXSwi"
    "ZGF0YV9vZmZzZXRzIjpbMCw4XX0sInN0YXRlL3giOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzIsMl0sImRhdGFfb2"
    "Zmc2V0cyI6WzgsMjRdfSwiZG9uZSI6eyJkdHlwZSI6IkJPT0wiLCJzaGFwZSI6WzNdLCJkYXRhX29mZnNldHMiOlsy"
    "NCwyN119fSAgICAHAAAAAAAAAAAAwD8AAADAAACAfwAAgD4AAQE="
)


def test_version_1_is_read(path):
    path.write_bytes(base64.b64decode(VERSION_1))
    tensors, content = tensor_file.load(path, kind="golden")
    assert_same(tensors, golden_tensors())
    assert content == {"steps": 3, "names": ["a", "ß"]}


def golden_tensors() -> dict[str, torch.Tensor]:
    return {
        "done": torch.tensor([False, True, True]),
        "state/x": torch.tensor([[1.5, -2.0], [math.inf, 0.25]]),
        "step": torch.tensor(7),
    }


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"a": [0, (1, 2)]}, "content['a'][1] must be {}, got tuple"),
        ([torch.zeros(1)], "content[0] must be {}, got Tensor"),
        ({"a": {1: 2}}, "keys of content['a'] must be str, got 1"),
        (b"a", "content must be {}, got bytes"),
        ({1, 2}, "content must be {}, got set"),
    ],
)
def test_content_that_is_not_json_is_refused(path, content, error):
    with pytest.raises(TypeError) as caught:
        tensor_file.save(path, {}, content, kind="test")
    json_types = "a dict, list, str, int, float, bool or None"
    assert str(caught.value) == f"tensor_file.save: {error.format(json_types)}"
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("x", torch.zeros(1, dtype=torch.complex128), "'x' must be dense and .*complex128"),
        ("x", torch.eye(2).to_sparse(), "'x' must be dense and .*sparse_coo"),
        ("x", torch.zeros(1, device="meta"), "'x' must be dense and .*meta"),
        ("x", [1.0], "'x' must be a tensor, got list"),
        (1, torch.zeros(1), "names of tensors must be str, got 1"),
    ],
)
def test_what_is_no_dense_tensor_is_refused(path, name, value, error):
    with pytest.raises(TypeError, match=f"^tensor_file.save: {error}"):
        tensor_file.save(path, {name: value}, None, kind="test")
    assert not path.exists()


@pytest.mark.parametrize("name", ["__metadata__", "\ud800"])
def test_names_that_safetensors_cannot_hold_are_refused(path, name):
    with pytest.raises(ValueError, match=r"__metadata__|surrogates"):
        tensor_file.save(path, {name: torch.zeros(1)}, None, kind="test")
    assert not path.exists()


def test_content_that_is_too_deep_or_too_large_is_refused(path, monkeypatch):
    deep: list[Any] = []
    deep.append(deep)
    with pytest.raises(ValueError, match=r"^tensor_file.save: content must be less deep"):
        tensor_file.save(path, {}, deep, kind="test")
    monkeypatch.setattr(tensor_file, "_MOST_HEADER", 1000)
    with pytest.raises(ValueError, match=r"content must be at most 1000 bytes .*, got 1"):
        tensor_file.save(path, {}, "a" * 1000, kind="test")
    assert not path.exists()


def test_a_missing_file_or_folder_is_named(path):
    with pytest.raises(FileNotFoundError, match=f"tensor_file.load: path .* got {path}, which"):
        tensor_file.load(path, kind="test")
    path = path / "b"
    with pytest.raises(FileNotFoundError, match=f"tensor_file.save: path .* got {path}. Create"):
        tensor_file.save(path, {}, None, kind="test")


def test_another_kind_is_refused(path):
    tensor_file.save(path, {}, None, kind="trajectory")
    error = f"{path} must be of kind 'replay', got 'trajectory'"
    with pytest.raises(ValueError, match=error):
        tensor_file.load(path, kind="replay")


def test_a_later_version_is_refused(path, monkeypatch):
    monkeypatch.setattr(tensor_file, "_FORMAT_VERSION", "12")
    tensor_file.save(path, {}, None, kind="test")
    monkeypatch.undo()
    error = f"{path} must be of format version 1, got 12. Use a later machin_fast"
    with pytest.raises(ValueError, match=error):
        tensor_file.load(path, kind="test")


@pytest.mark.parametrize("content", [b"", b"x", b"PK\3\4" + bytes(500), bytes(1000)])
def test_files_of_other_programs_are_refused(path, content):
    path.write_bytes(content)
    error = f"{path} must begin like a file of machin_fast, got {len(content)} bytes"
    with pytest.raises(ValueError, match=error):
        tensor_file.load(path, kind="test")


def test_safetensors_of_others_are_refused(path):
    header = b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\1")
    assert load_file(path)["x"] == 1
    with pytest.raises(ValueError, match="must begin like a file of machin_fast"):
        tensor_file.load(path, kind="test")


def test_without_safetensors_the_cure_is_told(path, monkeypatch):
    tensor_file.save(path, {}, None, kind="test")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="Install it with: pip install safetensors"):
        tensor_file.load(path, kind="test")


# -- C2, C3: damage --------------------------------------------------------------------------------


@pytest.fixture
def sample(path: Path) -> bytes:
    tensors = {"x": any_bits((40, 3), torch.float32), "flag": any_bits((9,), torch.bool)}
    tensor_file.save(path, tensors, {"numbers": [1, 2.5, "three"]}, kind="test")
    return path.read_bytes()


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("sixteenth", range(16))
def test_a_cut_file_is_found(path, sample, sixteenth, verify):
    size = len(sample) * sixteenth // 16
    path.write_bytes(sample[:size])
    with pytest.raises(ValueError, match=str(path)) as caught:
        tensor_file.load(path, kind="test", verify=verify)
    assert f"got {size}" in str(caught.value)
    if size > 256:
        assert f"must be whole, {len(sample)} bytes, got {size}. Use" in str(caught.value)


def test_bytes_at_the_end_are_found(path, sample):
    path.write_bytes(sample + b"\0")
    with pytest.raises(ValueError, match=f"{len(sample)} bytes, got {len(sample) + 1}"):
        tensor_file.load(path, kind="test", verify=False)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_200_flipped_bits_are_found(path, sample):
    found = 0
    for bit in random.Random(0).sample(range(8 * len(sample)), 200):
        path.write_bytes(flipped(sample, bit))
        with pytest.raises(ValueError, match=str(path)):
            tensor_file.load(path, kind="test")
        found += 1
    assert found == 200


def test_each_flipped_bit_of_the_header_is_found(path, sample):
    digest = sample.index(b'"sha256":"') + len('"sha256":"')
    header = sample.index(b'"kind"')
    for bit in range(8 * sample.index(b"]}}")):
        path.write_bytes(flipped(sample, bit))
        with pytest.raises(ValueError, match=str(path)) as caught:
            tensor_file.load(path, kind="test")
        if digest <= bit // 8 < digest + 64 or bit // 8 >= header:
            assert "must be whole, got a file whose checksum differs" in str(caught.value)


def test_unverified_damage_is_an_error_or_other_numbers_and_nothing_worse(path, sample):
    header = sample.index(b"]}}") + 3
    for bit in range(8 * header):
        path.write_bytes(flipped(sample, bit))
        with suppress(ValueError):
            tensor_file.load(path, kind="test", verify=False)


# -- C4, C5: malice --------------------------------------------------------------------------------


def test_nothing_is_pickled(path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        pytest.fail("pickle was called")

    for module, names in (
        (pickle, ("dump", "dumps", "load", "loads", "Pickler", "Unpickler")),
        (torch, ("load", "save")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, fail)
    round_trip(path, {"x": torch.ones(3)})


def forge(
    path: Path,
    entries: str = "",
    data: bytes = b"",
    *,
    content: str = "null",
    more: str = "",
    header_bytes: int | None = None,
) -> None:
    """Writes what a forger may: a right checksum and size over anything."""
    begin = '{"__metadata__":{"format":"machin_fast","format_version":"1","data_bytes":"%d",'
    begin += '"sha256":"%s","kind":"test","content":%s%s}%s}'
    inner = json.dumps(content)
    text = begin % (len(data), "0" * 64, inner, more, entries)
    length = len(text.encode()) if header_bytes is None else header_bytes
    zeros = struct.pack("<Q", length) + text.encode() + data
    digest = hashlib.sha256(zeros).hexdigest().encode()
    path.write_bytes(zeros.replace(b"0" * 64, digest, 1))


def entry(dtype: str, shape: str, begin: int, end: int, name: str = "x") -> str:
    return f',"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}'


def test_a_forged_file_is_otherwise_sound(path):
    forge(path, entry("F32", "[2]", 0, 8, "../../x"), struct.pack("<2f", 1, 2))
    tensors, content = tensor_file.load(path, kind="test")
    assert_same(tensors, {"../../x": torch.tensor([1.0, 2.0])})
    assert content is None
    assert files_beside(path) == []


FORGERIES: dict[str, dict[str, Any]] = {
    "less bytes than the shape": {"entries": entry("F32", "[2]", 0, 4), "data": bytes(4)},
    "more bytes than the shape": {"entries": entry("F32", "[2]", 0, 16), "data": bytes(16)},
    "beyond the end": {"entries": entry("F32", "[2]", 0, 8), "data": bytes(4)},
    "a hole": {"entries": entry("F32", "[2]", 8, 16), "data": bytes(16)},
    "backwards": {"entries": entry("F32", "[2]", 8, 0), "data": bytes(8)},
    "negative offset": {"entries": entry("F32", "[2]", -8, 0), "data": bytes(8)},
    "negative shape": {"entries": entry("F32", "[-2]", 0, 8), "data": bytes(8)},
    "overflow": {"entries": entry("F32", f"[{2**62 + 1},4]", 0, 16), "data": bytes(16)},
    "overlap": {
        "entries": entry("F32", "[2]", 0, 8) + entry("F32", "[2]", 0, 8, "y"),
        "data": bytes(8),
    },
    "no shape": {"entries": entry("F32", "2", 0, 8), "data": bytes(8)},
    "no dtype": {"entries": entry("object", "[1]", 0, 8), "data": bytes(8)},
    "no entry": {"entries": ',"x":null'},
    "deep entry": {"entries": ',"x":' + "[" * 100_000},
    "two headers": {"entries": "}"},
    "data of nothing": {"data": bytes(8)},
    "metadata of numbers": {"more": ',"a":1'},
    "deep metadata": {"more": ',"a":' + "[" * 100_000},
    "deep lists": {"content": "[" * 100_000},
    "deep mappings": {"content": '{"a":' * 100_000},
    "long number": {"content": "1" * 10_000},
    "half content": {"content": "{"},
    "no content": {"content": ""},
    "endless header": {"header_bytes": 2**64 - 1},
    "header too large": {"header_bytes": 200_000_000},
    "empty header": {"header_bytes": 0},
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_files_are_refused(path, forgery):
    forge(path, **FORGERIES[forgery])
    with pytest.raises(ValueError, match=str(path)):
        tensor_file.load(path, kind="test")


def test_a_header_of_any_length_is_refused_before_it_is_read(path):
    forge(path, header_bytes=50_000_000_000)
    with path.open("ab") as file:
        file.truncate(8 + 50_000_000_000)  # takes no space on the disk
    with pytest.raises(ValueError, match=f"{path} must be safetensors .*"):
        tensor_file.load(path, kind="test", verify=False)


# -- C1, C8: what breaks off while it is written ---------------------------------------------------

OLD = {"x": torch.zeros(3000), "y": torch.zeros(7, dtype=torch.int64)}
NEW = {"x": torch.ones(5000), "y": torch.ones(9, dtype=torch.int64)}


def save_old(path: Path) -> None:
    tensor_file.save(path, OLD, "old", kind="test")


def save_new(path: Path) -> None:
    tensor_file.save(path, NEW, "new", kind="test")


def which(path: Path) -> str:
    """Of the two, which the file is, wholly."""
    tensors, content = tensor_file.load(path, kind="test")
    assert content in ("old", "new")
    assert_same(tensors, OLD if content == "old" else NEW)
    return str(content)


def events_of_a_save(path: Path) -> int:
    with Events() as events:
        save_new(path)
    return events.count


def kill_at_every_event(path: Path) -> Iterator[str]:
    for point in range(1, events_of_a_save(path) + 1):
        save_old(path)
        kill_at(point, lambda: save_new(path))
        yield which(path)


def test_a_kill_at_any_point_leaves_a_whole_file(path):
    outcomes = outcomes_of(__file__, path)
    assert len(outcomes) >= 50
    assert set(outcomes) == {"old", "new"}
    assert sorted(outcomes, reverse=True) == outcomes  # first old ones, then new ones
    assert files_beside(path)
    save_new(path)


def test_an_interrupt_at_any_point_leaves_a_whole_file_and_nothing_else(path):
    def interrupt() -> None:
        raise KeyboardInterrupt

    outcomes = []
    for point in range(1, events_of_a_save(path) + 1):
        save_old(path)
        with pytest.raises(KeyboardInterrupt), Events(point, interrupt):
            save_new(path)
        outcomes.append(which(path))
        assert files_beside(path) == []
    assert set(outcomes) == {"old", "new"}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Lets no file of this process grow further, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 8192, 15_000, 20_000])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(path, size):
    save_old(path)
    with pytest.raises(OSError, match=str(path)), largest_file(size):
        save_new(path)
    assert which(path) == "old"
    assert files_beside(path) == []


@pytest.mark.parametrize(("module", "name"), [(os, "fsync"), (Path, "replace")])
def test_an_error_at_the_end_leaves_the_old_file_and_nothing_else(path, module, name, monkeypatch):
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    save_old(path)
    monkeypatch.setattr(module, name, fail)
    with pytest.raises(OSError, match=f"No space .*{path}"):
        save_new(path)
    assert which(path) == "old"
    assert files_beside(path) == []


def test_the_file_is_on_the_disk_before_it_takes_its_place(path, monkeypatch):
    calls: list[Any] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(fd: int) -> None:
        calls.append(os.stat(fd).st_ino)
        fsync(fd)

    def noted_replace(source: Path, target: Path) -> None:
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    save_new(path)
    assert calls == [path.stat().st_ino, "replace", path.parent.stat().st_ino]


if __name__ == "__main__":  # of the test of kills: a process of one thread, which may fork
    torch.set_num_threads(1)
    print(*kill_at_every_event(Path(sys.argv[1])))
