"""Machin's utilities as a package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import machin_fast.utils

OPTIONAL = ("PIL", "colorlog", "imageio_ffmpeg", "matplotlib", "moviepy", "rich", "tensorboard",
            "tensorboardX", "torchviz")  # fmt: skip


def test_no_optional_package_is_imported():
    code = f"""
import sys
import machin_fast.utils as utils
for name in utils.__all__:
    getattr(utils, name)
print([name for name in {OPTIONAL} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_modules_are_attributes():
    from machin_fast.utils import conf

    assert machin_fast.utils.conf is conf
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = machin_fast.utils.nothing
