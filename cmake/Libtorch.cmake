# libtorch as imported targets: torch_cpu and c10, headers as SYSTEM. PyTorch's own TorchConfig.cmake
# would add global CUDA flags and fail where no CUDA toolkit is, so it is not used.
#
# Looked for in Torch_DIR and CMAKE_PREFIX_PATH, then in the wheel that scripts/setup.sh installs.
set(QF_TORCH_VERSION 2.11.0)

file(GLOB qf_wheel_torch ${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch)
set(qf_torch_hints ${CMAKE_PREFIX_PATH})
if(Torch_DIR)
  list(PREPEND qf_torch_hints ${Torch_DIR} ${Torch_DIR}/../../..)
endif()
find_path(QF_TORCH_ROOT include/ATen/ATen.h HINTS ${qf_torch_hints} ${qf_wheel_torch} NO_DEFAULT_PATH)
if(NOT QF_TORCH_ROOT)
  message(FATAL_ERROR "libtorch not found: run scripts/setup.sh, or set CMAKE_PREFIX_PATH or Torch_DIR")
endif()
file(STRINGS ${QF_TORCH_ROOT}/include/torch/headeronly/version.h qf_torch_version_line
     REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "#define TORCH_VERSION_[A-Z]+ " "" qf_torch_version "${qf_torch_version_line}")
string(REPLACE ";" "." qf_torch_version "${qf_torch_version}")
message(STATUS "libtorch ${qf_torch_version}: ${QF_TORCH_ROOT}")
if(NOT qf_torch_version VERSION_EQUAL QF_TORCH_VERSION)
  message(WARNING "the tests are run with libtorch ${QF_TORCH_VERSION}")
endif()

add_library(torch::c10 SHARED IMPORTED)
set_target_properties(torch::c10 PROPERTIES IMPORTED_LOCATION ${QF_TORCH_ROOT}/lib/libc10.so)
# After the system's headers: the wheel carries its own fmt, newer than the one that spdlog uses.
target_compile_options(
  torch::c10
  INTERFACE "SHELL:-idirafter ${QF_TORCH_ROOT}/include"
            "SHELL:-idirafter ${QF_TORCH_ROOT}/include/torch/csrc/api/include")
add_library(torch::cpu SHARED IMPORTED)
set_target_properties(torch::cpu PROPERTIES IMPORTED_LOCATION ${QF_TORCH_ROOT}/lib/libtorch_cpu.so
                                            INTERFACE_LINK_LIBRARIES torch::c10)
# libtorch_cpu.so finds libcudart and libcupti by its own RPATH; the linker need not.
target_link_options(torch::cpu INTERFACE -Wl,--allow-shlib-undefined)

if(QF_CUDA)
  add_library(torch::cuda SHARED IMPORTED)
  set_target_properties(
    torch::cuda
    PROPERTIES IMPORTED_LOCATION ${QF_TORCH_ROOT}/lib/libtorch_cuda.so
               INTERFACE_LINK_LIBRARIES "torch::cpu;${QF_TORCH_ROOT}/lib/libc10_cuda.so")
  # Its kernels register themselves when it is loaded; no symbol of ours asks for it.
  target_link_options(torch::cuda INTERFACE -Wl,--no-as-needed)
endif()
