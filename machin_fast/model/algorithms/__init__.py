"""Base classes of models that certain algorithms need."""

import machin_fast.model.algorithms.trpo as trpo

__all__ = ["trpo"]
