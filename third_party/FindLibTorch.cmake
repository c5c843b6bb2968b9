# Finds LibTorch and defines LibTorch::torch.
#
# By default the slim wheel that scripts/setup.sh puts into .venv: headers, libtorch_cpu, libc10, and the two CUDA
# runtime libraries those were linked against. A LibTorch of your own: -DSWITCHYARD_LIBTORCH=/path/to/libtorch, or the
# environment variable of that name. With SWITCHYARD_CUDA the whole wheel in .venv-cuda, plus libtorch_cuda.
set(SWITCHYARD_LIBTORCH "$ENV{SWITCHYARD_LIBTORCH}" CACHE PATH "A LibTorch folder (include/ and lib/)")
if(SWITCHYARD_LIBTORCH)
  set(_torch_root ${SWITCHYARD_LIBTORCH})
elseif(CMAKE_PREFIX_PATH AND NOT SWITCHYARD_CUDA)
  find_path(_torch_prefix include/torch/csrc/api/include/torch/torch.h PATHS ${CMAKE_PREFIX_PATH} NO_DEFAULT_PATH)
  set(_torch_root ${_torch_prefix})
endif()
if(NOT _torch_root)
  set(_torch_venv ${CMAKE_SOURCE_DIR}/.venv)
  if(SWITCHYARD_CUDA)
    set(_torch_venv ${CMAKE_SOURCE_DIR}/.venv-cuda)
  endif()
  file(GLOB _torch_root ${_torch_venv}/lib/python3*/site-packages/torch)
endif()
if(NOT EXISTS "${_torch_root}/include/torch/csrc/api/include/torch/torch.h")
  message(FATAL_ERROR "LibTorch was not found (looked in '${_torch_root}'): run scripts/setup.sh"
                      " (with --cuda for the CUDA preset), or set SWITCHYARD_LIBTORCH.")
endif()

add_library(LibTorch::torch INTERFACE IMPORTED)
target_include_directories(LibTorch::torch SYSTEM INTERFACE ${_torch_root}/include
                                                           ${_torch_root}/include/torch/csrc/api/include)
set(_torch_libraries ${_torch_root}/lib/libtorch_cpu.so ${_torch_root}/lib/libc10.so)
file(GLOB _torch_nvidia ${_torch_root}/../nvidia/*/lib)
if(SWITCHYARD_CUDA)
  find_package(CUDAToolkit REQUIRED)
  list(PREPEND _torch_libraries ${_torch_root}/lib/libtorch.so ${_torch_root}/lib/libtorch_cuda.so
       ${_torch_root}/lib/libc10_cuda.so)
  file(GLOB _torch_nccl ${_torch_root}/../nvidia/nccl/lib/libnccl.so*)
  list(APPEND _torch_libraries ${_torch_nccl} CUDA::cudart)
  file(GLOB _torch_nccl_include ${_torch_root}/../nvidia/nccl/include)
  target_include_directories(LibTorch::torch SYSTEM INTERFACE ${_torch_nccl_include} ${CUDAToolkit_INCLUDE_DIRS})
  target_compile_definitions(LibTorch::torch INTERFACE SWITCHYARD_CUDA USE_DISTRIBUTED USE_C10D_NCCL)
  # Nothing here refers to libtorch_cuda by name, yet its registrations must be loaded.
  target_link_options(LibTorch::torch INTERFACE -Wl,--no-as-needed)
endif()
target_link_libraries(LibTorch::torch INTERFACE ${_torch_libraries})
# at::parallel_for is a template: without OpenMP in the files that call it, it runs on one thread. At run time
# LibTorch's own copy of the library is found first, so that there is one pool of threads.
if(NOT SWITCHYARD_FUZZ)  # which takes a header of LibTorch's, and is built with another compiler
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  target_compile_options(LibTorch::torch INTERFACE ${OpenMP_CXX_FLAGS})
  target_link_options(LibTorch::torch INTERFACE ${OpenMP_CXX_FLAGS})
endif()
foreach(_directory ${_torch_root}/lib ${_torch_nvidia})
  target_link_options(LibTorch::torch INTERFACE -Wl,-rpath,${_directory} -Wl,-rpath-link,${_directory})
endforeach()
set(LibTorch_FOUND TRUE)
message(STATUS "LibTorch: ${_torch_root}")
