#!/bin/sh
# Sees that the C++ tests find what pip cannot install: a C++20 compiler and GoogleTest.
# Installs them where it may, else says which command does.
set -eu

missing=""
command -v g++ >/dev/null || command -v c++ >/dev/null || missing="$missing g++"
echo '#include <gtest/gtest.h>' | ${CXX:-c++} -x c++ -std=c++20 -fsyntax-only - 2>/dev/null ||
  missing="$missing libgtest-dev"
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing$missing ..."
  apt-get update -qq
  # shellcheck disable=SC2086  (a list of words)
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
else
  echo "The C++ tests need:$missing. Install them and run again:" >&2
  echo "  sudo apt-get install -y$missing        (Debian, Ubuntu)" >&2
  echo "  sudo dnf install -y gcc-c++ gtest-devel   (Fedora)" >&2
  exit 1
fi
