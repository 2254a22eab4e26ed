"""The TensorBoard writer of the program."""

from __future__ import annotations

import pytest

from machin_fast.utils.extras import MissingExtraError
from machin_fast.utils.tensor_board import TensorBoard, default_board


def test_a_board_is_initialized_once(tmp_path):
    board = TensorBoard()
    assert board.writer is None and not board.is_inited()
    board.init(str(tmp_path))
    assert board.is_inited()
    with pytest.raises(RuntimeError, match="has been initialized"):
        board.init(str(tmp_path))
    board.writer.add_scalar("loss", 1.0, 0)
    board.writer.close()
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("events.out.tfevents")


def test_the_default_board_waits():
    assert isinstance(default_board, TensorBoard)
    assert not default_board.is_inited()


def test_without_tensorboard_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    board = TensorBoard()
    with pytest.raises(MissingExtraError, match=r"pip install 'machin_fast\[tensorboard\]'"):
        board.init()
    assert not board.is_inited()
