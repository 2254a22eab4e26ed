"""Folders, and files of models."""

from __future__ import annotations

import base64
import copy
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from machin_fast.utils import tensor_file
from machin_fast.utils.prepare import (
    prep_clear_dirs,
    prep_create_dirs,
    prep_load_model,
    prep_load_state_dict,
    prep_save_model,
)
from saving import Events, kill_at, outcomes_of


class Net(nn.Module):
    """Parameters, nested buffers, tied parameters."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 2, bias=False)
        self.tied = nn.Linear(3, 2, bias=False)
        self.tied.weight = self.head.weight
        self.body.register_buffer("scale", torch.ones(2, dtype=torch.float64))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        for tensor in self.state_dict().values():
            tensor.fill_(value)


class Extra(nn.Module):
    """State that is no tensor."""

    def __init__(self, extra: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.extra = extra

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


class Log:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.info = self.warning = self.said.append


def line(value: float) -> nn.Linear:
    model = nn.Linear(1, 1)
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def value(model: nn.Module) -> float:
    (one,) = {each for parameter in model.parameters() for each in parameter.flatten().tolist()}
    return one


def save(folder: Path, version: int, **values: float) -> None:
    prep_save_model(folder, {name: line(each) for name, each in values.items()}, version)


def loaded(folder: Path, *names: str, **kwargs: Any) -> tuple[Any, ...]:
    """The version that is loaded, and the value of each model."""
    models = {name: line(-1.0) for name in names}
    version = prep_load_model(folder, models, **kwargs)
    return version, *(value(model) for model in models.values())


# -- folders ---------------------------------------------------------------------------------------


def test_folders_are_created_with_those_around_them(tmp_path):
    prep_create_dirs([tmp_path / "a" / "b", str(tmp_path / "c")])
    prep_create_dirs([tmp_path / "a" / "b"])
    assert (tmp_path / "a" / "b").is_dir() and (tmp_path / "c").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        prep_create_dirs([tmp_path / "file"])


def test_all_in_a_folder_is_removed_but_not_what_links_lead_to(tmp_path):
    kept = tmp_path / "kept"
    (kept / "inner").mkdir(parents=True)
    (kept / "file").touch()
    folder = tmp_path / "folder"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "file").touch()
    (folder / ".hidden").touch()
    (folder / "to_file").symlink_to(kept / "file")
    (folder / "to_folder").symlink_to(kept / "inner")
    (folder / "to_nothing").symlink_to(tmp_path / "nothing")
    prep_clear_dirs([str(folder)])
    assert list(folder.iterdir()) == []
    assert sorted(each.name for each in kept.iterdir()) == ["file", "inner"]
    with pytest.raises(FileNotFoundError):
        prep_clear_dirs([tmp_path / "nothing"])


@pytest.mark.parametrize("call", [prep_clear_dirs, prep_create_dirs])
def test_one_path_is_not_taken_letter_by_letter(call, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, str(tmp_path)):
        with pytest.raises(TypeError, match=f"{call.__name__}: dirs must be a list of paths, got"):
            call(path)
    assert (tmp_path / "file").exists()


# -- state dicts -----------------------------------------------------------------------------------


def test_a_state_is_copied_to_where_the_model_is(device):
    model, other = Net(1.0).to(device), Net(2.0)
    prep_load_state_dict(model, other.state_dict())
    for name, tensor in model.state_dict().items():
        assert tensor.device.type == device.type
        assert torch.equal(tensor.cpu(), other.state_dict()[name])


def test_other_names_and_shapes_are_told():
    with pytest.raises(RuntimeError, match=r"Missing key.*bias"):
        prep_load_state_dict(nn.Linear(1, 1), {"weight": torch.zeros(1, 1)})
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        prep_load_state_dict(nn.Linear(1, 1), nn.Linear(2, 1).state_dict())


# -- what is saved comes back ----------------------------------------------------------------------


def test_parameters_and_buffers_come_back_and_stay_where_they_are(tmp_path, device):
    model = Net().to(device)
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.rand_like(tensor.double()) * 9)
    prep_save_model(tmp_path / "new" / "folder", {"net": model}, 3)
    other = Net(-1.0).to(device)
    other.scratch.fill_(7)
    assert prep_load_model(tmp_path / "new" / "folder", {"net": other}) == 3
    for name, tensor in other.state_dict().items():
        assert tensor.device.type == device.type
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert other.head.weight is other.tied.weight
    assert other.scratch == 7
    assert [each.name for each in (tmp_path / "new" / "folder").iterdir()] == ["net_3.mft"]


def test_versions_of_modules_come_back(tmp_path):
    class Versioned(nn.Linear):
        _version = 5

        def _load_from_state_dict(self, state, prefix, local_metadata, *rest):
            seen.append(local_metadata)
            super()._load_from_state_dict(state, prefix, local_metadata, *rest)

    seen: list[Any] = []
    prep_save_model(tmp_path, {"a": nn.Sequential(Versioned(1, 1))}, 0)
    prep_load_model(tmp_path, {"a": nn.Sequential(Versioned(1, 1))})
    assert seen == [{"version": 5}]


@pytest.mark.parametrize(
    "extra", [None, 3, {"steps": [1, 2.5, "a"], "best": float("inf")}, torch.arange(3)], ids=repr
)
def test_extra_state_comes_back(tmp_path, extra):
    prep_save_model(tmp_path, {"a": nn.Sequential(Extra(extra))}, 0)
    model = nn.Sequential(Extra("other"))
    prep_load_model(tmp_path, {"a": model})
    assert repr(model[0].extra) == repr(extra)


@pytest.mark.parametrize(
    ("model", "error"),
    [
        (Extra({1, 2}), r"content\['extra_state'\]\['_extra_state'\] must be a dict, .* got set"),
        (Extra((1,)), r"must be a dict, .* got tuple"),
        (Extra({"a": torch.ones(1)}), r"\['a'\] must be a dict, .* got Tensor"),
        (line(0).to("meta"), "'weight' must be dense and"),
        (nn.LazyLinear(1), "uninitialized parameter"),
        (nn.Linear(1, 1, dtype=torch.complex128), "'weight' must be dense and"),
    ],
)
def test_state_that_cannot_be_saved_is_refused_and_nothing_is_changed(tmp_path, model, error):
    save(tmp_path, 0, a=1, b=1)
    for version in (0, 1):
        with pytest.raises(TypeError, match=f"prep_save_model: state of b must be.*{error}"):
            prep_save_model(tmp_path, {"a": line(2), "b": model}, version)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a_0.mft", "b_0.mft"]
    assert loaded(tmp_path, "a", "b") == (0, 1, 1)


# Of version 1 of the format.
NET_7 = (
    "+AEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJtYWNoaW5fZmFzdCIsImZvcm1hdF92ZXJzaW9uIjoiMS"
    "IsImRhdGFfYnl0ZXMiOiIxMiIsInNoYTI1NiI6ImQ0Y2NmZGYwNDI5NTBhN2IxMzU1ZmUwNGJkMzhjZDQ3NWFmZDYz"
    "NDM0ZTJjOTJjZGRkMmE5MzUxNGI0YjFmYzYiLCJraW5kIjoibW9kZWwiLCJjb250ZW50Ijoie1wibWV0YWRhdGFcIj"
    "p7XCJcIjp7XCJ2ZXJzaW9uXCI6MX0sXCIwXCI6e1widmVyc2lvblwiOjF9LFwiMVwiOntcInZlcnNpb25cIjoxfX0s"
    "XCJleHRyYV9zdGF0ZVwiOntcIjEuX2V4dHJhX3N0YXRlXCI6e1wic3RlcHNcIjozfX19In0sIjAud2VpZ2h0Ijp7Im"
    "R0eXBlIjoiRjMyIiwic2hhcGUiOlsxLDFdLCJkYXRhX29mZnNldHMiOlswLDRdfSwiMC5iaWFzIjp7ImR0eXBlIjoi"
    "RjMyIiwic2hhcGUiOlsxXSwiZGF0YV9vZmZzZXRzIjpbNCw4XX0sIjEud2VpZ2h0Ijp7ImR0eXBlIjoiRjMyIiwic2"
    "hhcGUiOlsxXSwiZGF0YV9vZmZzZXRzIjpbOCwxMl19fSAgICAgICAAAAA/AAAAPwAAAAA="
)


def test_files_of_earlier_versions_are_read(tmp_path):
    (tmp_path / "net_7.mft").write_bytes(base64.b64decode(NET_7))
    model = nn.Sequential(line(0), Extra(None))
    assert prep_load_model(tmp_path, {"net": model}) == 7
    assert value(model[0]) == 0.5 and value(model[1]) == 0 and model[1].extra == {"steps": 3}


def test_names_may_end_like_versions(tmp_path):
    save(tmp_path, 5, **{"critic": 1, "critic_2": 2, "a-b.c": 3})
    save(tmp_path, 6, critic_2=4)
    assert loaded(tmp_path, "critic", "critic_2", "a-b.c") == (5, 1, 2, 3)
    assert loaded(tmp_path, "critic_2") == (6, 4)


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "a\n"])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    for call in (lambda models: prep_save_model(tmp_path, models, 0),
                 lambda models: prep_load_model(tmp_path, models)):  # fmt: skip
        with pytest.raises(ValueError, match="names of models must be letters, digits"):
            call({name: line(1)})
        with pytest.raises(ValueError, match="model_map must have one or more models, got none"):
            call({})


@pytest.mark.parametrize("version", [-1, 1.0, "1", None, True])
def test_versions_are_natural_numbers(tmp_path, version):
    with pytest.raises(ValueError, match="prep_save_model: version must be an int, at least 0"):
        prep_save_model(tmp_path, {"a": line(1)}, version)


# -- which version ---------------------------------------------------------------------------------


def test_the_newest_version_that_all_have_is_loaded(tmp_path):
    for version in (0, 9, 10):
        save(tmp_path, version, a=version, b=version + 0.5)
    save(tmp_path, 11, a=11)
    save(tmp_path, 12, b=12)
    (tmp_path / "a_13.mft.tmp").touch()
    (tmp_path / "a_x.mft").touch()
    (tmp_path / "other_14.mft").touch()
    assert loaded(tmp_path, "a", "b") == (10, 10, 10.5)
    assert loaded(tmp_path, "a") == (11, 11)
    assert loaded(str(tmp_path), "a", "b", version=9) == (9, 9, 9.5)
    assert loaded(tmp_path, "a", "b", version=0) == (0, 0, 0.5)
    assert loaded(tmp_path, "a", "b", version=-1) == (10, 10, 10.5)


def test_a_version_that_is_not_there_falls_back_to_the_newest(tmp_path):
    save(tmp_path, 1, a=1, b=1)
    save(tmp_path, 2, a=2)
    log = Log()
    assert loaded(tmp_path, "a", "b", version=2, logger=log) == (1, 1, 1)
    assert log.said == ["Specified version 2 for network b is invalid", "Using version: 1"]
    assert loaded(tmp_path, "a", "b", version=100, quiet=True) == (1, 1, 1)


def test_the_default_logger_is_told_by_default(tmp_path, caplog):
    save(tmp_path, 1, a=1)
    with caplog.at_level("INFO", logger="default_logger"):
        loaded(tmp_path, "a")
    assert caplog.messages == ["Using version: 1"]


def test_no_common_version_is_an_error_or_quiet(tmp_path):
    save(tmp_path, 1, a=1)
    save(tmp_path, 2, b=2)
    with pytest.raises(RuntimeError, match="Cannot find a valid version for all models!") as error:
        loaded(tmp_path, "a", "b", "c")
    assert "a: [1], b: [2], c: []" in str(error.value)
    assert loaded(tmp_path, "a", "b", quiet=True) == (None, -1, -1)


def test_no_folder_is_an_error_even_if_quiet(tmp_path):
    (tmp_path / "file").touch()
    for name in ("nothing", "file"):
        with pytest.raises(RuntimeError, match="Model directory doesn't exist!"):
            loaded(tmp_path / name, "a", quiet=True)


# -- Machin's files --------------------------------------------------------------------------------


class RanError(Exception):
    """The code in a pickle."""


class Evil:
    def __reduce__(self):
        return _run, ()


def _run():
    raise RanError


def test_machins_files_are_read_if_they_are_trusted(tmp_path):
    for version in (1, 2):
        for name in ("a", "b"):
            torch.save(line(version), tmp_path / f"{name}_{version}.pt")
    torch.save(line(3), tmp_path / "a_3.pt")
    assert loaded(tmp_path, "a", "b", trust_pickle=True) == (2, 2, 2)
    assert loaded(tmp_path, "a", "b", version=1, trust_pickle=True) == (1, 1, 1)
    assert loaded(tmp_path, "a", "b", version=7, trust_pickle=True) == (2, 2, 2)


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_without_trust_no_code_is_run_and_the_text_says_what_to_do(tmp_path, zipped, quiet):
    torch.save(Evil(), tmp_path / "a_0.pt", _use_new_zipfile_serialization=zipped)
    for version in (None, 0, 5):
        with pytest.raises(RuntimeError, match=r"a_0\.pt must hold a state dict.* trust_pickle=Tr"):
            loaded(tmp_path, "a", version=version, quiet=quiet)
    with pytest.raises(RanError):
        loaded(tmp_path, "a", trust_pickle=True)


def test_a_state_dict_needs_no_trust(tmp_path):
    torch.save(Net(3.0).state_dict(), tmp_path / "net_4.pt")
    torch.save(line(3).state_dict(), tmp_path / "a_4.pt", _use_new_zipfile_serialization=False)
    model = Net()
    assert prep_load_model(tmp_path, {"net": model}) == 4
    assert all((tensor == 3).all() for tensor in model.state_dict().values())
    assert loaded(tmp_path, "a", trust_pickle=True) == (4, 3)


def test_untrusted_versions_are_passed_over_with_a_warning(tmp_path):
    save(tmp_path, 1, a=1, b=1)
    save(tmp_path, 3, a=3)
    torch.save(line(3), tmp_path / "b_3.pt")
    torch.save(line(2).state_dict(), tmp_path / "a_2.pt")
    save(tmp_path, 2, b=2)
    log = Log()
    assert loaded(tmp_path, "a", "b", logger=log) == (2, 2, 2)
    warning, info = log.said
    assert "b_3.pt" in warning and "trust_pickle=True" in warning and "older version" in warning
    assert info == "Using version: 2"
    assert loaded(tmp_path, "a", "b", trust_pickle=True) == (3, 3, 3)
    with pytest.raises(RuntimeError, match="trust_pickle=True"):
        loaded(tmp_path, "a", "b", version=3)


def test_safe_files_come_before_pickles_of_the_same_version(tmp_path):
    torch.save(Evil(), tmp_path / "a_1.pt")
    save(tmp_path, 1, a=1)
    assert loaded(tmp_path, "a", trust_pickle=True) == (1, 1)


def test_other_objects_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "a_0.pt")
    with pytest.raises(ValueError, match=r"a_0\.pt must hold a module or its state dict, got list"):
        loaded(tmp_path, "a")


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mft", "pt"])
def test_a_damaged_file_is_an_error_and_no_older_version(tmp_path, ending):
    save(tmp_path, 0, a=0)
    if ending == "mft":
        save(tmp_path, 1, a=1)
    else:
        torch.save(line(1).state_dict(), tmp_path / "a_1.pt")
    file = tmp_path / f"a_1.{ending}"
    whole = file.read_bytes()
    for part in (whole[:-10], b""):
        file.write_bytes(part)
        with pytest.raises(ValueError, match=rf"a_1\.{ending} must be"):
            loaded(tmp_path, "a")
    assert loaded(tmp_path, "a", version=0) == (0, 0)


def test_a_class_that_is_gone_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys.modules[__name__], "Gone", type("Gone", (nn.Linear,), {}), raising=False
    )
    Gone.__module__ = __name__  # noqa: F821
    Gone.__qualname__ = "Gone"  # noqa: F821
    torch.save(Gone(1, 1), tmp_path / "a_1.pt")  # noqa: F821
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"a_1\.pt must be .* whose classes can be imported"):
        loaded(tmp_path, "a", trust_pickle=True)


def test_a_file_of_another_kind_is_refused(tmp_path):
    tensor_file.save(tmp_path / "a_1.mft", {}, {}, kind="replay")
    with pytest.raises(ValueError, match="must be of kind 'model', got 'replay'"):
        loaded(tmp_path, "a")


def test_a_model_that_does_not_fit_leaves_all_as_they_were(tmp_path):
    prep_save_model(tmp_path, {"a": Net(1.0), "b": Net(1.0)}, 0)
    models = {"a": Net(5.0), "b": Net(6.0)}
    models["b"].head = nn.Linear(7, 2, bias=False)  # tied no more, and of another shape
    before = copy.deepcopy([model.state_dict() for model in models.values()])
    with pytest.raises(
        RuntimeError, match=r"(?s)b must have the parameters of .*b_0\.mft, got .*for head\.weight"
    ):
        prep_load_model(tmp_path, models)
    for model, state in zip(models.values(), before, strict=True):
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[name])


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_full_disk_leaves_the_old_files_and_nothing_else(tmp_path, monkeypatch, at):
    save(tmp_path, 0, a=0, b=0)
    fsync = os.fsync
    calls: list[int] = []

    def fail(fd: int) -> None:
        calls.append(fd)
        if len(calls) > at:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)
    for version in (0, 1):
        calls.clear()
        with pytest.raises(OSError, match="No space"):
            save(tmp_path, version, a=1, b=1)
    monkeypatch.undo()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a_0.mft", "b_0.mft"]
    assert loaded(tmp_path, "a", "b") == (0, 0, 0)


def kill_at_events(folder: Path) -> Iterator[str]:
    def save_new() -> None:
        prep_save_model(folder, {"a": line(1), "b": line(1)}, 1)

    with Events() as events:
        save_new()
    for point in range(1, events.count + 1, events.count // 50):
        for file in folder.glob("?_1.mft"):
            file.unlink()
        save(folder, 0, a=0, b=0)
        kill_at(point, save_new)
        version, a, b = loaded(folder, "a", "b")
        assert version == a == b
        yield str(version)


def test_a_kill_at_any_point_leaves_a_whole_version(tmp_path):
    outcomes = outcomes_of(__file__, tmp_path)
    assert len(outcomes) >= 50
    assert set(outcomes) == {"0", "1"}
    assert sorted(outcomes) == outcomes  # first the old one, then the new one


if __name__ == "__main__":  # of the test of kills: a process of one thread, which may fork
    torch.set_num_threads(1)
    print(*kill_at_events(Path(sys.argv[1])))
