"""Machin's wrappers of several environments: lists in, lists out."""

from machin_fast.env.wrappers import base, openai_gym

__all__ = ["base", "openai_gym"]
