"""``python -m machin_fast`` is ``machin-fast``."""

import sys

from machin_fast.auto.cli import main

if __name__ == "__main__":
    sys.exit(main())
