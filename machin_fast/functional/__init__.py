"""Pure functions: targets, losses and the like. Tensors in, tensors out."""

from machin_fast.functional.priority import importance_weight
from machin_fast.functional.sequence_priority import sequence_priority
from machin_fast.functional.target_network import polyak_update_
from machin_fast.functional.td import double_q_value, td_target

__all__ = [
    "double_q_value",
    "importance_weight",
    "polyak_update_",
    "sequence_priority",
    "td_target",
]
