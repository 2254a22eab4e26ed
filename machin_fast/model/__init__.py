"""Networks, and how they are called."""

import machin_fast.model.algorithms as algorithms
import machin_fast.model.nets as nets
from machin_fast.model.call import safe_call, safe_return
from machin_fast.model.spaces import for_spaces

__all__ = ["algorithms", "for_spaces", "nets", "safe_call", "safe_return"]
