"""Noise for exploration: on actions, and on the parameters of the network that chooses them."""

import machin_fast.noise.action_space_noise as action_space_noise
import machin_fast.noise.generator as generator
import machin_fast.noise.param_space_noise as param_space_noise

__all__ = ["action_space_noise", "generator", "param_space_noise"]
