#!/usr/bin/env bash
# Runs the C++ tests, and the Python tests that call the ops library, with AddressSanitizer and
# UndefinedBehaviorSanitizer. Takes the cmake and python3 of the PATH; needs gcc, GoogleTest and
# what the Python tests need. More arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/asan
python=$(command -v python3)

cmake -S . -B "$build" -G Ninja -DMF_SANITIZE=ON -DMF_TESTS=ON -DMF_PYTHON=ON -DMF_CUDA=OFF \
  -DPython_EXECUTABLE="$python" >/dev/null
cmake --build "$build" --parallel

# The first report ends the run, with a stack.
export UBSAN_OPTIONS=print_stacktrace=1

shards=()
for shard in 0 1; do
  GTEST_TOTAL_SHARDS=2 GTEST_SHARD_INDEX=$shard "$build/cpp_tests/machin_fast_tests" --gtest_brief=1 &
  shards+=($!)
done
for shard in "${shards[@]}"; do wait "$shard"; done

# Python itself is not sanitized and so loads the runtime first; libstdc++ with it, or exceptions
# would pass unseen. What Python keeps until its end are no leaks. pytest leaves the file
# descriptors alone, as a report comes while the process dies.
# Of the data tests, those that reach the library by ways of their own.
tests=(python_tests/ops)
for name in direct_calls frames replay replay_calls replay_model sum_tree table; do
  tests+=("python_tests/data/test_$name.py")
done
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" \
  ASAN_OPTIONS=detect_leaks=0 \
  MACHIN_FAST_LIBRARY="$PWD/$build/_ops.abi3.so" \
  "$python" -m pytest -q --capture=sys -n "$(nproc)" --dist worksteal -m "not compile and not slow and not cuda" "${tests[@]}" "$@"
