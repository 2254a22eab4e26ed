"""Checkpoints against damage, malice, full disks and later versions."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import resource
import shutil
import subprocess
import sys
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from machin_fast.training import checkpoint
from machin_fast.training.checkpoint import MANIFEST, DamagedError, read, write
from machin_fast.training.checkpoints import Checkpoints

GOLDEN = Path(__file__).parent / "golden"
STATES = {
    "algorithm": {"networks": {"actor": {"weight": torch.arange(300.0).view(30, 10)}}},
    "trainer": {"progress": {"steps": 7, "evaluations": [[3, 1.5]]}, "pair": (1, None)},
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return write(tmp_path / "one", STATES, step=7, about={"env": "CartPole-v1"}).path


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return a == b


def files(path: Path) -> list[Path]:
    return sorted(path.iterdir())


def test_a_checkpoint_comes_back(saved: Path) -> None:
    found = read(saved)
    assert (found.path, found.step, found.about) == (saved, 7, {"env": "CartPole-v1"})
    assert found.names == ("algorithm", "trainer")
    assert all(equal(found.load(name), state) for name, state in STATES.items())
    assert [path.name for path in files(saved)] == ["algorithm.mft", MANIFEST, "trainer.mft"]
    with pytest.raises(KeyError, match="name must be one of algorithm, trainer, got 'replay'"):
        found.load("replay")


def test_any_sha256_program_can_check_it(saved: Path) -> None:
    said = json.loads((saved / MANIFEST).read_text())["files"]
    assert said == {
        path.name: {
            "bytes": path.stat().st_size,
            "sha256": sha256(path.read_bytes()).hexdigest(),
        }
        for path in files(saved)
        if path.name != MANIFEST
    }


@pytest.mark.parametrize("name", ["algorithm.mft", "trainer.mft", MANIFEST])
def test_a_file_cut_short_is_named(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    for sixteenth in range(16):
        (saved / name).write_bytes(whole[: len(whole) * sixteenth // 16])
        with pytest.raises(DamagedError, match=re.escape(str(saved / name))) as error:
            read(saved)
        assert f"got {len(whole) * sixteenth // 16}" in str(error.value)
        if name != MANIFEST:
            assert f"whole, {len(whole)} bytes" in str(error.value)
    (saved / name).write_bytes(whole)
    read(saved)


def test_each_of_200_flipped_bits_is_found(saved: Path) -> None:
    draw = random.Random(0)
    chosen = files(saved)
    whole = [path.read_bytes() for path in chosen]
    found = 0
    for _ in range(200):
        position = draw.randrange(sum(map(len, whole)))
        i = 0
        while position >= len(whole[i]):
            position -= len(whole[i])
            i += 1
        damaged = bytearray(whole[i])
        damaged[position] ^= 1 << draw.randrange(8)
        chosen[i].write_bytes(damaged)
        with pytest.raises(DamagedError, match=re.escape(str(chosen[i]))):
            read(saved)
        found += 1
        chosen[i].write_bytes(whole[i])
    assert found == 200
    read(saved)


@pytest.mark.parametrize("name", ["algorithm.mft", "trainer.mft", MANIFEST])
def test_a_missing_file_is_found(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(DamagedError, match=f"{name}.* got none"):
        read(saved)


# -- malice ------------------------------------------------------------------------------------


class Bomb:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was read",)


def with_manifest(path: Path, **changes: Any) -> None:
    """Writes a manifest that its own checksum fits, as an attacker would."""
    content = {**json.loads((path / MANIFEST).read_text()), **changes}
    del content["sha256"]
    rest = json.dumps(content).removeprefix("{").encode()
    (path / MANIFEST).write_bytes(b'{"sha256": "%s",\n' % sha256(rest).hexdigest().encode() + rest)


def bombs() -> dict[str, bytes]:
    state = {"networks": Bomb()}
    zipped = Path("bomb.pt")
    torch.save(state, zipped)
    made = {
        "pickle": pickle.dumps(state),
        "torch": zipped.read_bytes(),
        "text pickle": pickle.dumps(state, 0),
        "deep JSON": b'{"sha256": ' + b"[" * 100_000,
        "empty": b"",
        "huge header": (2**63).to_bytes(8, "little") + b"{}",
    }
    zipped.unlink()
    return made


@pytest.mark.parametrize("kind", ["pickle", "torch", "text pickle", "deep JSON", "empty",
                                  "huge header"])  # fmt: skip
def test_no_malicious_file_runs(
    saved: Path, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = bombs()[kind]
    for target in ("algorithm.mft", "trainer.mft", MANIFEST):
        whole = (saved / target).read_bytes()
        (saved / target).write_bytes(bomb)
        with pytest.raises(DamagedError):
            read(saved)
        if target != MANIFEST:
            # Whoever makes the file can make a manifest that fits it.
            fingerprint = {"bytes": len(bomb), "sha256": sha256(bomb).hexdigest()}
            manifest = (saved / MANIFEST).read_bytes()
            with_manifest(saved, files={target: fingerprint})
            with pytest.raises(ValueError, match="must begin like a file of machin_fast"):
                read(saved).load(target.removesuffix(".mft"))
            (saved / MANIFEST).write_bytes(manifest)
        (saved / target).write_bytes(whole)


@pytest.mark.parametrize(
    "name", ["../secret.mft", "/etc/passwd", "a/b.mft", "..", "trainer.pt", "Trainer.mft", ".mft"]
)
def test_a_manifest_cannot_name_files_elsewhere(saved: Path, name: str) -> None:
    with_manifest(saved, files={name: {"bytes": 0, "sha256": "0" * 64}})
    with pytest.raises(DamagedError, match=re.escape(f"must name files beside it, got {name!r}")):
        read(saved)


@pytest.mark.parametrize("changes", [{"files": 3}, {"files": {"a.mft": {}}}, {"step": "many"}])
def test_a_manifest_of_another_form_is_refused(saved: Path, changes: dict[str, Any]) -> None:
    with_manifest(saved, **changes)
    with pytest.raises(DamagedError, match="must say step, about and files"):
        read(saved)


def test_nothing_is_unpickled(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("pickle was used")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"),
                         (torch, "load")):  # fmt: skip
        monkeypatch.setattr(module, name, refuse)
    found = read(saved)
    assert all(equal(found.load(name), state) for name, state in STATES.items())
    write(saved.with_name("two"), STATES, step=8)


def test_no_source_of_ours_reads_pickles_unasked() -> None:
    folder = Path(checkpoint.__file__).parents[1]
    for path in folder.glob("training/**/*.py"):
        assert not re.search(r"pickle|torch\.load|dill|marshal|eval\(", path.read_text()), path


# -- versions ----------------------------------------------------------------------------------


def test_version_1_is_read() -> None:
    found = read(GOLDEN / "checkpoint_1")
    assert found.step == 7
    assert found.about == {"env": "CartPole-v1"}
    assert all(equal(found.load(name), state) for name, state in STATES.items())


def test_a_later_version_is_refused(saved: Path) -> None:
    with_manifest(saved, format_version=2)
    with pytest.raises(ValueError, match=r"must be of format version 1 .* got 2. Use a later"):
        read(saved)
    # Not damage: going on from an older one would lose what the later version learned.
    folder = Checkpoints(saved.parent / "run")
    shutil.move(saved, folder.save(STATES, step=1).with_name("000002_step_7"))
    with pytest.raises(ValueError, match="Use a later machin_fast"):
        folder.latest()


# -- a folder of them --------------------------------------------------------------------------


def test_the_newest_stay(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path / "run", keep=2)
    for step in (100, 200, 300):
        folder.save(STATES, step=step)
    assert [path.name for path in folder.all()] == ["000002_step_200", "000003_step_300"]
    folder.save(STATES, step=150)  # by who went back
    assert [path.name for path in folder.all()] == ["000003_step_300", "000004_step_150"]
    assert folder.latest().step == 150
    assert len(files(folder.folder)) == 2


def test_damaged_ones_are_passed_over_and_it_is_said_why(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"must have a checkpoint, got .* which has none"):
        folder.latest()
    for step in (100, 200, 300):
        folder.save(STATES, step=step)
    (folder.all()[2] / MANIFEST).unlink()
    (folder.all()[1] / "algorithm.mft").write_bytes(b"")
    with pytest.warns(UserWarning, match="is passed over") as warned:
        assert folder.latest().step == 100
    first, second = (str(each.message) for each in warned)
    assert first.startswith("000003_step_300 is passed over: ")
    assert first.endswith("must have a manifest.json, got none")
    assert second.startswith("000002_step_200 is passed over: ")
    assert "algorithm.mft must be whole" in second
    (folder.all()[0] / "trainer.mft").unlink()
    damaged = pytest.raises(DamagedError, match="got 3 damaged ones")
    with warnings.catch_warnings(record=True), damaged:
        folder.latest()


def test_what_broken_off_writing_left_goes(tmp_path: Path) -> None:
    left = tmp_path / f"{checkpoint.TEMPORARY}000001_step_5.77.abcd"
    left.mkdir()
    (left / "algorithm.mft").write_bytes(b"half")
    Checkpoints(tmp_path).save(STATES, step=1)
    assert [path.name for path in files(tmp_path)] == ["000001_step_1"]


def test_what_cannot_be_saved_changes_nothing(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path)
    folder.save(STATES, step=1)
    with pytest.raises(TypeError, match=r"state\['f'\] must be"):
        folder.save({"algorithm": {"f": print}}, step=2)
    with pytest.raises(TypeError, match="not JSON serializable"):
        folder.save(STATES, step=2, about={1, 2})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"names of states must be .* got '../a'"):
        folder.save({"../a": 1}, step=2)
    with pytest.raises(FileExistsError, match="path must be free"):
        write(folder.all()[0], STATES, step=2)
    assert [path.name for path in files(tmp_path)] == ["000001_step_1"]
    assert folder.latest().step == 1
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Checkpoints(tmp_path, keep=0)


# -- a full disk -------------------------------------------------------------------------------

LARGE = "{'algorithm': {'x': torch.zeros(1_000_000)}}"  # 4 MB
FILL = f"""
import sys, torch
from machin_fast.training.checkpoints import Checkpoints
folder = Checkpoints(sys.argv[1], keep=2)
folder.save({{"algorithm": {{"x": 1}}}}, step=1)
{{limit}}
try:
    folder.save({LARGE}, step=2)
except OSError as error:
    print(type(error).__name__, error.errno, error)
print([path.name for path in sorted(folder.folder.iterdir())], folder.latest().step)
"""


def fill(folder: Path, limit: str = "") -> list[str]:
    program = FILL.replace("{limit}", limit)
    done = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_a_disk_without_room_is_an_error_and_nothing_is_lost(tmp_path: Path) -> None:
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    )
    assert hasattr(resource, "RLIMIT_FSIZE")
    error, left = fill(tmp_path, limit)
    assert error.startswith("OSError 27 [Errno 27] File too large") and "algorithm.mft" in error
    assert left == "['000001_step_1'] 1"


def test_a_full_file_system_of_1_mib_is_an_error_and_nothing_is_lost(tmp_path: Path) -> None:
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    try:
        error, left = fill(tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert error.startswith("OSError 28 [Errno 28] No space left") and "algorithm.mft" in error
    assert left == "['000001_step_1'] 1"
