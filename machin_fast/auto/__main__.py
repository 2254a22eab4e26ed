"""``python -m machin_fast.auto`` is ``machin-fast``, as Machin's users call it."""

import sys

from machin_fast.auto.cli import main

if __name__ == "__main__":
    sys.exit(main())
