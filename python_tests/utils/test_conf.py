"""Configurations."""

from __future__ import annotations

import math
import sys

import pytest

from machin_fast.utils.conf import (
    Config,
    load_config_cmd,
    load_config_file,
    merge_config,
    save_config,
)


@pytest.fixture
def command_line(monkeypatch):
    def set_to(*configs: str) -> None:
        arguments = [part for each in configs for part in ("--conf", each)]
        monkeypatch.setattr(sys, "argv", ["program", *arguments])

    return set_to


def test_values_are_attributes_and_items_and_missing_ones_are_none():
    conf = Config(a=1)
    conf.b = 2
    conf["c"] = 3
    assert (conf.a, conf["b"], conf.c, conf.d, conf["d"]) == (1, 2, 3, None, None)
    assert conf.data == {"a": 1, "b": 2, "c": 3}


def test_in_get_and_iteration_tell_what_is_there():
    conf = Config(a=None, b=2)
    assert "a" in conf and "c" not in conf and "data" not in conf and "__init__" not in conf
    assert conf.get("b") == 2
    assert conf.get("a", 5) is None
    assert conf.get("c", 5) == 5
    assert conf.get("c") is None
    assert list(conf) == ["a", "b"]


def test_names_of_methods_are_values():
    conf = Config(get=1, data=2)
    conf["call"] = 3
    assert (conf["get"], conf["data"], conf["call"], conf.get("get")) == (1, 2, 3, 1)


def test_the_right_side_wins_in_a_copy():
    left, right = Config(a=1, b=[2]), Config(b=3, c=4)
    for merged in (merge_config(left, right), merge_config(left, right.data)):
        assert merged.data == {"a": 1, "b": 3, "c": 4}
    assert left.data == {"a": 1, "b": [2]} and right.data == {"b": 3, "c": 4}
    assert merge_config(left, {}).b is not left.b


def test_constants_stay_in_a_merge():
    class Fixed(Config):
        def __init__(self):
            super().__init__(a=1)
            self.const_attrs.add("a")

    assert merge_config(Fixed(), Config(a=2, b=3)).data == {"a": 1, "b": 3}
    with pytest.raises(RuntimeError, match="a is const"):
        merge_config(Fixed(), {"a": 2})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1e-3", -1e-3),
        ("Infinity", math.inf),
        ('"cuda:1"', "cuda:1"),
        ("'a=b=c'", "a=b=c"),
        ("true", True),
        ("True", True),
        ("null", None),
        ("None", None),
        ('{"some_key": [1, 2]}', {"some_key": [1, 2]}),
        ("{'k': (1, {2})}", {"k": (1, {2})}),
    ],
)
def test_values_of_the_command_line_are_json_or_literals(command_line, text, value):
    command_line(f"x={text}")
    assert load_config_cmd().x == value


def test_the_command_line_wins_and_may_be_empty(command_line):
    conf = Config(a=1, b=2)
    command_line("b=3", "c=4", "c=5")
    assert load_config_cmd(conf).data == {"a": 1, "b": 3, "c": 5}
    command_line()
    assert load_config_cmd(conf).data == conf.data == {"a": 1, "b": 2}
    assert load_config_cmd().data == {}


@pytest.mark.parametrize(
    "code", ["", "__import__('os').getcwd()", "print(1)", "1 +", "cuda:1", "2 ** 9"]
)
def test_code_is_refused_with_the_name(command_line, code, capsys):
    command_line(f"device={code}")
    with pytest.raises(
        ValueError, match="load_config_cmd: device must be JSON or a Python literal"
    ):
        load_config_cmd()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("argument", ["a", "=1"])
def test_what_is_no_pair_is_refused(command_line, argument):
    command_line(argument)
    with pytest.raises(ValueError, match=f"--conf must be name=value, got '{argument}'"):
        load_config_cmd()


def test_a_file_comes_back(tmp_path):
    file = tmp_path / "config.json"
    conf = Config(b={"x": [1, 2.5, None, "ü"]}, a=math.inf)
    save_config(conf, file)
    assert load_config_file(file).data == conf.data
    assert load_config_file(str(file), Config(a=1, c=2)).data == {**conf.data, "c": 2}
    assert file.read_text().startswith('{\n    "a": Infinity,\n    "b"')


def test_what_is_not_json_leaves_the_old_file(tmp_path):
    file = tmp_path / "config.json"
    save_config(Config(a=1), file)
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_config(Config(a=2, b=object()), file)
    assert load_config_file(file).data == {"a": 1}


def test_wrong_files_are_refused(tmp_path):
    file = tmp_path / "config.json"
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_config_file(file)
    file.write_text("[1]")
    with pytest.raises(ValueError, match=r"config\.json must hold a JSON object, got list"):
        load_config_file(file)
    file.write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        load_config_file(file)
