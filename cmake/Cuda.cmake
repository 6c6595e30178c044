# CUDA is C++17 here: Debian's CMake 3.25 does not know nvcc 13's C++20 dialect.
set(QF_CUDA_ARCHITECTURES
    80-real;86-real;89-real;90a-real;100a-real;120a-real;121a-real
    CACHE STRING "GPU architectures to build for")
if(QF_CUDA)
  # nvcc on PATH, else the one that `scripts/setup.sh --cuda` takes from PyPI.
  file(GLOB qf_wheel_nvcc ${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc)
  find_program(qf_nvcc nvcc)
  if(NOT qf_nvcc AND qf_wheel_nvcc AND NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${qf_wheel_nvcc})
  endif()
  include(CheckLanguage)
  set(CMAKE_CUDA_ARCHITECTURES ${QF_CUDA_ARCHITECTURES})
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "QF_CUDA=ON but no nvcc: scripts/setup.sh --cuda, or set CMAKE_CUDA_COMPILER")
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  include(cmake/CublasLt.cmake)
endif()
