#!/bin/sh
# Installs the package as a user would, away from the checkout and from any cache of it, in both
# ways (build isolation on and off), and uses it: the second time as a newcomer would.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git -C "$root" ls-files -z | (cd "$root" && xargs -0 tar cf -) | (mkdir "$work/src" && tar xf - -C "$work/src")

use() {
  cd "$work"
  "$1/bin/python" - <<'PY'
import torch, machin_fast
from machin_fast.data import SumTree

print(machin_fast.build_info())
tree = SumTree(1000)
tree.update_(torch.arange(1000), torch.rand(1000))
assert tree.sample(64)[0].max() < 1000
PY
}

for isolation in "" --no-build-isolation; do
  echo "pip install $isolation . in a fresh environment"
  "${PYTHON:-python3}" -m venv "$work/venv"
  install="$work/venv/bin/python -m pip --disable-pip-version-check install --quiet"
  if [ -n "$isolation" ]; then
    $install --constraint "$root/constraints.txt" torch numpy scikit-build-core cmake ninja
  fi
  $install --constraint "$root/constraints.txt" $isolation "$work/src"
  use "$work/venv"
  if [ -n "$isolation" ]; then
    mkdir "$work/newcomer"
    (cd "$work/newcomer" && "$work/venv/bin/python" "$root/tools/newcomer.py")
  fi
  rm -rf "$work/venv"
done
