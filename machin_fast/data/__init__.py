"""Trajectories, replay memory and what chooses from it. Needs torch and numpy alone."""

from machin_fast.data.replay import Batch, Replay
from machin_fast.data.sum_tree import SumTree

__all__ = ["Batch", "Replay", "SumTree"]
