"""Checks that objects of one instruction set define nothing outside its namespace.

    check_isa_symbols.py <nm> <instruction set> <object>...

The linker keeps one copy of a symbol that several objects define. If that copy came from an
AVX-512 object, a processor without AVX-512 would crash in baseline code. See csrc/core/isa.h.
"""

from __future__ import annotations

import re
import subprocess
import sys


def outsiders(nm: str, isa: str, objects: list[str]) -> list[str]:
    """Symbols that ``objects`` define for others to see, and that are not of ``isa``."""
    listing = subprocess.run(
        [nm, "--defined-only", "--extern-only", "--format=posix", *objects],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    # Also type information, guards and locals of functions of the namespace.
    own = re.compile(rf"_Z(Z|GV|T[VTIS])*NK?11machin_fast{len(isa)}{isa}(?=[\dCDEIKL])")
    symbols = {line.split()[0] for line in listing.splitlines() if len(line.split()) > 2}
    if not symbols:
        raise SystemExit(f"check_isa_symbols: no symbols in {objects}, is this the right file?")
    return sorted(symbol for symbol in symbols if not own.match(symbol))


def readable(symbols: list[str]) -> list[str]:
    names = subprocess.run(["c++filt", *symbols], check=True, capture_output=True, text=True)
    return names.stdout.splitlines()


def main() -> int:
    nm, isa, *objects = sys.argv[1:]
    found = outsiders(nm, isa, objects)
    if found:
        many = "s" if len(found) > 1 else ""
        print(f"{len(found)} symbol{many} outside machin_fast::{isa}; inline functions must be")
        print("MF_HD, helpers in an anonymous namespace (csrc/core/isa.h):")
        print("\n".join(f"  {name}" for name in readable(found)))
    return len(found) > 0


if __name__ == "__main__":
    raise SystemExit(main())
