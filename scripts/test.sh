#!/usr/bin/env bash
# Builds and runs every test. Installs what is missing first (scripts/setup.sh); from an empty cache this takes about
# half an hour on two cores, later a few minutes.
#
#   scripts/test.sh            everything below
#   scripts/test.sh --quick    release build and its tests only
#   scripts/test.sh --cuda     also the whole CUDA build, where nvcc is installed (compiled and linked; without a GPU
#                              its tests skip themselves)
#
# In order: set-up, release build, format and folder-order checks, the CUDA kernels alone where nvcc is installed, all
# tests, the unit tests again under AddressSanitizer and UndefinedBehaviorSanitizer, up to 20,000 made-up inputs for each
# parser of foreign bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=false cuda=false
for argument in "$@"; do
  case "$argument" in
    --quick) quick=true ;;
    --cuda) cuda=true ;;
    -h|--help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) printf 'test: unknown option %s; there are --quick and --cuda\n' "$argument" >&2; exit 2 ;;
  esac
done

started=$SECONDS
stage() { printf '\n== %s (after %d min %02d s)\n' "$1" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }

build() {  # $1: preset, rest: targets
  local preset=$1
  shift
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset" ${1:+--target "$@"}
}

stage "set-up"
scripts/setup.sh --dev

stage "release build"
build release

stage "lint"
scripts/lint.sh --strict

stage "CUDA kernels"
scripts/check_cuda_kernels.sh

stage "tests"
python3 -m unittest discover -s tests/scripts -q
ctest --preset release

if ! $quick; then
  stage "sanitizer build"
  build asan unit_tests
  stage "unit tests under AddressSanitizer and UndefinedBehaviorSanitizer"
  ctest --preset asan
  stage "fuzzing"
  scripts/fuzz.sh --seconds 6
fi

if $cuda; then
  stage "CUDA build"
  export PATH="$PATH:/usr/local/cuda/bin"
  if command -v nvcc >/dev/null; then
    scripts/setup.sh --cuda
    build cuda switchyard test_ops test_train check_cuda_kernels
    ctest --preset cuda
  else
    echo "skipped: nvcc is not installed"
  fi
fi
stage "all passed"
