"""What all tests share."""

from __future__ import annotations

import os

import hypothesis
import pytest
import torch

import machin_fast

# The same examples in every run, and no clock: other work may share the machine.
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("default")


def _without_cuda() -> str | None:
    """Why tests on CUDA cannot run here; None if they can."""
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no GPU"
    info = machin_fast.build_info()
    return None if info.cuda else f"machin_fast was built without CUDA: {info.cuda_reason}"


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn. Where MF_REQUIRE_CUDA=1, one without CUDA fails and does not skip."""
    if request.param == "cuda":
        reason = _without_cuda()
        if reason is not None and os.environ.get("MF_REQUIRE_CUDA") == "1":
            pytest.fail(f"MF_REQUIRE_CUDA=1, but {reason}")
        if reason is not None:
            pytest.skip(reason)
    return torch.device(request.param)
