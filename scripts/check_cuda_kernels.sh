#!/usr/bin/env bash
# Compiles and links the CUDA kernels (src/ops/cuda) with nvcc alone, without LibTorch, and runs them where there is a
# GPU, against the same kernels on the host. Says so, and succeeds, where nvcc or a GPU is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PATH="$PATH:/usr/local/cuda/bin"
if ! command -v nvcc >/dev/null; then
  echo "check_cuda_kernels: skipped: nvcc is not installed"
  exit 0
fi
mkdir -p build
# Options as in switchyard_cuda_kernels() of CMakeLists.txt.
nvcc -std=c++17 -O3 -DNDEBUG -DSWITCHYARD_CUDA -Isrc -Werror=all-warnings -Xcompiler=-Wall,-Wextra \
  -gencode arch=compute_80,code=sm_80 -gencode 'arch=compute_90,code=[sm_90,compute_90]' \
  src/ops/cuda/launch.cu tests/ops/check_cuda_kernels.cpp -o build/check_cuda_kernels
build/check_cuda_kernels || { status=$?; [[ $status == 77 ]] || exit "$status"; }
