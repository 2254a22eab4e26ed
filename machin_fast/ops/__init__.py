"""Compiled operations on tensors, with CPU and CUDA twins. They need torch and numpy alone."""

from machin_fast.ops.categorical_projection import categorical_projection
from machin_fast.ops.discounted_return import discounted_return
from machin_fast.ops.gae import gae
from machin_fast.ops.gather_rows import gather_rows
from machin_fast.ops.lambda_return import lambda_return
from machin_fast.ops.native_envs import (
    native_envs_new,
    native_envs_outputs,
    native_envs_reset_,
    native_envs_step_,
)
from machin_fast.ops.nstep_return import nstep_return
from machin_fast.ops.retrace import retrace
from machin_fast.ops.sum_tree import (
    sum_tree_find,
    sum_tree_leaves,
    sum_tree_minimum,
    sum_tree_new,
    sum_tree_rebuild_,
    sum_tree_sample,
    sum_tree_total,
    sum_tree_update_,
)
from machin_fast.ops.vtrace import vtrace
from machin_fast.ops.write_rows import write_rows_

__all__ = [
    "categorical_projection",
    "discounted_return",
    "gae",
    "gather_rows",
    "lambda_return",
    "native_envs_new",
    "native_envs_outputs",
    "native_envs_reset_",
    "native_envs_step_",
    "nstep_return",
    "retrace",
    "sum_tree_find",
    "sum_tree_leaves",
    "sum_tree_minimum",
    "sum_tree_new",
    "sum_tree_rebuild_",
    "sum_tree_sample",
    "sum_tree_total",
    "sum_tree_update_",
    "vtrace",
    "write_rows_",
]
