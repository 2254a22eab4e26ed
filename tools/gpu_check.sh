#!/bin/sh
# Checks machin_fast on a machine with an NVIDIA GPU, in one command and without a network: builds
# the CUDA library against the torch that $PYTHON has (2.10 or later), compares every op with its
# float64 reference on the GPU, and measures. Nothing is installed; all output is in build/gpu.
#
#   tools/gpu_check.sh            PYTHON=python3 OUT=build/gpu by default
set -eu

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-build/gpu}
mkdir -p "$out"

$python - <<'PY'
import importlib.util
import sys

missing = [name for name in ("pytest", "hypothesis", "pytest_timeout", "rich") if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"gpu_check: needs {', '.join(missing)} beside torch: pip install {' '.join(missing).replace('_', '-')}")
import torch

if not torch.cuda.is_available():
    sys.exit(f"gpu_check: torch {torch.__version__} sees no GPU")
major, minor = torch.cuda.get_device_capability()
print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, sm_{major}{minor}")
PY

echo "Building into $out ..."
cmake -S . -B "$out/build" -DMF_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native \
  -DPython_EXECUTABLE="$(command -v "$python")" >"$out/cmake.log" 2>&1 || { tail -n 30 "$out/cmake.log"; exit 1; }
cmake --build "$out/build" --parallel --target _ops_cuda >"$out/build.log" 2>&1 || { tail -n 30 "$out/build.log"; exit 1; }
MACHIN_FAST_LIBRARY=$(ls "$PWD/$out/build/"_ops_cuda*.so)
export MACHIN_FAST_LIBRARY PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" MF_REQUIRE_CUDA=1

status=0
echo "Tests on CUDA ..."
$python -m pytest python_tests -m cuda -q -p no:cacheprovider >"$out/tests.log" 2>&1 || status=$?
echo "Benchmarks on CUDA ..."
$python -m benchmarks --device cuda --quick --json "$out" >"$out/benchmarks.log" 2>&1 || status=$?

echo
$python -c "import machin_fast; print(machin_fast.build_info())"
tail -n 1 "$out/tests.log"
cat "$out/benchmarks.log"
[ "$status" = 0 ] || { echo "gpu_check: something failed, see $out/*.log" >&2; grep -E '^(FAILED|ERROR)' "$out/tests.log" | head -n 20; }
exit "$status"
