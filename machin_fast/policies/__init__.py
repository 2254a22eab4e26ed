"""Policies: modules that choose actions, and the distributions that they draw them from."""

import machin_fast.policies.distributions as distributions
from machin_fast.policies.categorical import CategoricalPolicy
from machin_fast.policies.deterministic import DeterministicPolicy
from machin_fast.policies.gaussian import GaussianPolicy
from machin_fast.policies.gaussian_mixture import GaussianMixturePolicy
from machin_fast.policies.multi_categorical import MultiCategoricalPolicy
from machin_fast.policies.policy import Policy
from machin_fast.policies.tanh_gaussian import TanhGaussianPolicy

__all__ = [
    "CategoricalPolicy",
    "DeterministicPolicy",
    "GaussianMixturePolicy",
    "GaussianPolicy",
    "MultiCategoricalPolicy",
    "Policy",
    "TanhGaussianPolicy",
    "distributions",
]
