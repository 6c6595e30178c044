#pragma once

#include <cstdint>

// Borrowed views of packed weights: raw pointers and sizes, valid as long as their owner. C++17,
// for nvcc reads this header too. Pointers are host or device ones, as the kernel that takes them
// says.
namespace qf {

inline constexpr std::int64_t kNvfp4Block = 16;
inline constexpr std::int64_t kNf4Block = 64;

// w[r, c] = e2m1(code) * scale[r, c / 16] * global_scale
struct Nvfp4View {
  const std::uint8_t* codes;        // [rows, cols/2]   element 2j low nibble, 2j+1 high nibble
  const std::uint8_t* scales_e4m3;  // [rows, cols/16]  row-major; nullptr when scales_f32 is set
  const float* scales_f32;          // [rows, cols/16]  files with real scales; else nullptr
  float global_scale;               // 1 for single-level files
  std::int64_t rows, cols;          // cols: multiple of 16
};

// w[i] = code_book[code[i]] * absmax[i / block], i over the flattened matrix
struct Nf4View {
  const std::uint8_t* codes;  // [rows*cols/2]  element 2i HIGH nibble, 2i+1 low nibble
  const float* absmax;        // [ceil(rows*cols / block)]
  const float* code_book;     // [16]
  std::int64_t block;         // 64 unless the file says otherwise; even
  std::int64_t rows, cols;    // rows*cols even
};

// Dense fp32 values.
struct DenseView {
  const float* values;  // [rows, cols]
  std::int64_t rows, cols;
};

}  // namespace qf
