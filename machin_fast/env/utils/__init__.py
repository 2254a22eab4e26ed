"""Helpers for environments."""

from machin_fast.env.utils import openai_gym

__all__ = ["openai_gym"]
