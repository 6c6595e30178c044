# One target carries every warning and sanitizer flag; all our targets link it.
add_library(qf_flags INTERFACE)
target_include_directories(qf_flags INTERFACE ${PROJECT_SOURCE_DIR}/include)
target_compile_options(
  qf_flags
  INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Werror;-ffp-contract=off>
    $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-lineinfo>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False alarm in g++ 12's own std::string at -O3 (GCC bug 105651).
  target_compile_options(qf_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(QF_SANITIZE)
  target_compile_options(
    qf_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined;-fno-sanitize-recover=all;-fno-omit-frame-pointer>)
  target_link_options(qf_flags INTERFACE -fsanitize=address,undefined)
endif()

option(QF_USE_CCACHE "Compile through ccache where it is installed" ON)
find_program(QF_CCACHE ccache)
if(QF_USE_CCACHE AND QF_CCACHE)
  # Precompiled headers are cached only with these two checks relaxed.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${QF_CCACHE})
  add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>)
endif()
