"""Trajectories, replay memory and what chooses from it. Needs torch and numpy alone."""

from machin_fast.data import plans, transforms
from machin_fast.data.batch import Batch
from machin_fast.data.replay import Replay
from machin_fast.data.shared_replay import SharedReplay
from machin_fast.data.sum_tree import SumTree
from machin_fast.data.trajectory import Trajectory, concat

__all__ = [
    "Batch",
    "Replay",
    "SharedReplay",
    "SumTree",
    "Trajectory",
    "concat",
    "plans",
    "transforms",
]
