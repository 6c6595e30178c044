# cuBLASLt, for block-scaled FP4 products: its header from the CUDA toolkit, else from the wheel
# nvidia-cublas; its library from that wheel, else from the toolkit. libtorch loads the wheel's, and a
# program that names another version would give libtorch that one. Builds without it say so when such
# a product is asked for.
set(qf_cublaslt_places ${CMAKE_CUDA_TOOLKIT_ROOT_DIR} ${CMAKE_CUDA_COMPILER_TOOLKIT_ROOT})
file(GLOB qf_wheel_cublaslt
     ${CMAKE_CURRENT_LIST_DIR}/../.deps/venv/lib/python3*/site-packages/nvidia/cu13)
if(QF_TORCH_ROOT)
  list(APPEND qf_wheel_cublaslt ${QF_TORCH_ROOT}/../nvidia/cu13)
endif()
list(APPEND qf_cublaslt_places ${qf_wheel_cublaslt})
find_path(QF_CUBLASLT_INCLUDE cublasLt.h
          HINTS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} ${qf_cublaslt_places}
          PATH_SUFFIXES include)
# The wheel has only the name with the version.
find_library(QF_CUBLASLT_LIBRARY NAMES cublasLt libcublasLt.so.13 NAMES_PER_DIR
             HINTS ${qf_wheel_cublaslt} ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} ${qf_cublaslt_places}
             PATH_SUFFIXES lib64 lib)
if(QF_CUBLASLT_INCLUDE AND QF_CUBLASLT_LIBRARY)
  message(STATUS "cuBLASLt: ${QF_CUBLASLT_LIBRARY}")
else()
  message(STATUS "cuBLASLt: not found, no block-scaled FP4 products")
endif()

# Links cuBLASLt where it was found, to programs that use it: the library has half a gigabyte.
function(qf_link_cublaslt target scope)
  if(QF_CUBLASLT_INCLUDE AND QF_CUBLASLT_LIBRARY)
    target_compile_definitions(${target} PRIVATE QF_HAVE_CUBLASLT=1)
    target_include_directories(${target} SYSTEM PRIVATE ${QF_CUBLASLT_INCLUDE})
    target_link_libraries(${target} ${scope} -Wl,--push-state,--as-needed ${QF_CUBLASLT_LIBRARY}
                                             -Wl,--pop-state)
  endif()
endfunction()
