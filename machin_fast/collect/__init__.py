"""Collecting experience from environments."""

from machin_fast.collect.collector import Collector, Rollout

__all__ = ["Collector", "Rollout"]
