"""Environments that a configuration may name: see ``auto.config``."""

from machin_fast.auto.envs import openai_gym

__all__ = ["openai_gym"]
