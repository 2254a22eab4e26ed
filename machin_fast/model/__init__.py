"""Networks, and how they are called."""

import machin_fast.model.algorithms as algorithms
import machin_fast.model.nets as nets
from machin_fast.model.call import safe_call, safe_return

__all__ = ["algorithms", "nets", "safe_call", "safe_return"]
