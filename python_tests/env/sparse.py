"""Environments with peculiarities."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete


class Old:
    """As environments were before Gymnasium."""

    observation_space = action_space = Discrete(9)

    def __init__(self, number):
        self.state = number

    def seed(self, seed):
        self.state = seed
        return [seed]

    def reset(self):
        return self.state

    def step(self, action):
        return self.state, float(action), True, {}

    def render(self, mode):
        assert mode == "rgb_array"
        return np.zeros((2, 2, 3), np.uint8)

    def close(self):
        pass


class PeculiarError(Exception):
    """Cannot be pickled and read again."""

    def __init__(self, first, second):
        super().__init__(f"of 2 arguments, {first} and {second}")


class Faulty(gymnasium.Env):
    """Does what its action says; the reward is the number of the step."""

    observation_space = action_space = Discrete(9)
    render_mode = "rgb_array"

    def __init__(self, number):
        self.t = 0
        self.number = number

    def render(self):
        return np.full((2, 2, 3), self.number, np.uint8)

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        self.t += 1
        if action == "divide":
            self.divide_by_zero()
        if action == "be peculiar":
            raise PeculiarError(1, 2)
        return 0, float(self.t), False, False, {"f": lambda: 0} if "lambda" in action else {}

    def divide_by_zero(self):
        return 1 / 0
