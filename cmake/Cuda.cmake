# CUDA is C++17 here: Debian's CMake 3.25 does not know nvcc 13's C++20 dialect. Sets QF_HAVE_CUDA.
set(QF_CUDA_ARCHITECTURES
    80-real;86-real;89-real;90a-real;100a-real;120a-real;121a-real
    CACHE STRING "GPU architectures to build for")
set(QF_HAVE_CUDA FALSE)
if(NOT QF_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  set(CMAKE_CUDA_ARCHITECTURES ${QF_CUDA_ARCHITECTURES})
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 17)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(QF_HAVE_CUDA TRUE)
  elseif(QF_CUDA STREQUAL "ON")
    message(FATAL_ERROR "QF_CUDA=ON but no nvcc: put it on PATH or set CMAKE_CUDA_COMPILER")
  endif()
endif()
message(STATUS "CUDA kernels: ${QF_HAVE_CUDA} (QF_CUDA=${QF_CUDA})")
