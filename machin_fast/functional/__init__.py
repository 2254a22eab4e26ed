"""Pure functions: targets, losses, distributions and the like. Tensors in, tensors out."""

from machin_fast.functional.advantage import normalize_advantage
from machin_fast.functional.categorical import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    masked_log_softmax,
    safe_log,
)
from machin_fast.functional.curvature import (
    fisher_vector_product,
    hessian_vector_product,
    information_vector_product,
)
from machin_fast.functional.distributional import (
    categorical_cross_entropy,
    double_q_distribution,
    expected_value,
)
from machin_fast.functional.flat import flatten_tensors, unflatten_tensors
from machin_fast.functional.gaussian import gaussian_entropy, gaussian_kl, gaussian_log_prob
from machin_fast.functional.gaussian_mixture import gaussian_mixture_log_prob
from machin_fast.functional.importance_ratio import importance_ratio
from machin_fast.functional.line_search import line_search
from machin_fast.functional.masked_mean import masked_mean
from machin_fast.functional.multi_categorical import (
    multi_categorical_entropy,
    multi_categorical_kl,
    multi_categorical_log_prob,
)
from machin_fast.functional.natural_gradient import conjugate_gradient, natural_gradient_step
from machin_fast.functional.policy_loss import (
    deterministic_policy_loss,
    entropy_loss,
    policy_gradient_loss,
    surrogate_loss,
)
from machin_fast.functional.ppo import kl_coefficient, ppo_clip_loss, ppo_kl_loss
from machin_fast.functional.priority import importance_weight
from machin_fast.functional.sequence_priority import sequence_priority
from machin_fast.functional.soft_policy_loss import (
    discrete_soft_policy_loss,
    soft_policy_loss,
    temperature_loss,
)
from machin_fast.functional.soft_value import expected_soft_q_value, soft_q_value
from machin_fast.functional.tanh_gaussian import inverse_tanh, tanh_gaussian_log_prob
from machin_fast.functional.target_network import hard_update_, polyak_update_
from machin_fast.functional.td import (
    double_q_value,
    greedy_action,
    hysteretic_target,
    max_q_value,
    min_q_value,
    td_target,
)
from machin_fast.functional.value_loss import clipped_value_loss, value_loss

__all__ = [
    "categorical_cross_entropy",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "clipped_value_loss",
    "conjugate_gradient",
    "deterministic_policy_loss",
    "discrete_soft_policy_loss",
    "double_q_distribution",
    "double_q_value",
    "entropy_loss",
    "expected_soft_q_value",
    "expected_value",
    "fisher_vector_product",
    "flatten_tensors",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_prob",
    "gaussian_mixture_log_prob",
    "greedy_action",
    "hard_update_",
    "hessian_vector_product",
    "hysteretic_target",
    "importance_ratio",
    "importance_weight",
    "information_vector_product",
    "inverse_tanh",
    "kl_coefficient",
    "line_search",
    "masked_log_softmax",
    "masked_mean",
    "max_q_value",
    "min_q_value",
    "multi_categorical_entropy",
    "multi_categorical_kl",
    "multi_categorical_log_prob",
    "natural_gradient_step",
    "normalize_advantage",
    "policy_gradient_loss",
    "polyak_update_",
    "ppo_clip_loss",
    "ppo_kl_loss",
    "safe_log",
    "sequence_priority",
    "soft_policy_loss",
    "soft_q_value",
    "surrogate_loss",
    "tanh_gaussian_log_prob",
    "td_target",
    "temperature_loss",
    "unflatten_tensors",
    "value_loss",
]
