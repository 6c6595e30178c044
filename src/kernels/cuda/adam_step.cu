#include <algorithm>
#include <climits>

#include "adam_tables.cuh"
#include "e4m3_pair.cuh"
#include "qwen3fp4/kernels/cuda/adam_step.h"

// A warp a group of 128 elements, a lane four of them. kMin sums along rows, so there a warp takes
// the groups of a row one after the other.
namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

using Four = float[4];
using FourCodes = std::int32_t[4];

// Where a lane's four elements are.
struct Place {
  std::int64_t row;
  std::int64_t element;  // of the whole weight: row * cols + column
  std::int64_t group;    // of the whole weight
  int col;
};

__device__ void load(const float* from, Four& to) {
  const float4 four = *reinterpret_cast<const float4*>(from);
  to[0] = four.x;
  to[1] = four.y;
  to[2] = four.z;
  to[3] = four.w;
}
__device__ void load(const std::uint16_t* from, Four& to) {
  const uint2 bits = *reinterpret_cast<const uint2*>(from);
  to[0] = float_from_bits(bits.x << 16U);
  to[1] = float_from_bits(bits.x & 0xFFFF0000U);
  to[2] = float_from_bits(bits.y << 16U);
  to[3] = float_from_bits(bits.y & 0xFFFF0000U);
}
__device__ void store(const Four& from, float* to) {
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}
__device__ void load_nibbles(const std::uint8_t* codes, std::int64_t element, FourCodes& to) {
  const unsigned word = *reinterpret_cast<const std::uint16_t*>(codes + element / 2);
  for (unsigned i = 0; i < 4; ++i) to[i] = static_cast<std::int32_t>(word >> (4 * i) & 0xFU);
}
__device__ void store_nibbles(const FourCodes& from, std::uint8_t* codes, std::int64_t element) {
  unsigned word = 0;
  for (unsigned i = 0; i < 4; ++i) word |= (static_cast<unsigned>(from[i]) & 0xFU) << (4 * i);
  *reinterpret_cast<std::uint16_t*>(codes + element / 2) = static_cast<std::uint16_t>(word);
}
__device__ void load_bytes(const std::uint8_t* bytes, std::int64_t element, FourCodes& to) {
  const unsigned word = *reinterpret_cast<const std::uint32_t*>(bytes + element);
  for (unsigned i = 0; i < 4; ++i) to[i] = static_cast<std::int32_t>(word >> (8 * i) & 0xFFU);
}
__device__ void store_bytes(const FourCodes& from, std::uint8_t* bytes, std::int64_t element) {
  unsigned word = 0;
  for (unsigned i = 0; i < 4; ++i) word |= (static_cast<unsigned>(from[i]) & 0xFFU) << (8 * i);
  *reinterpret_cast<std::uint32_t*>(bytes + element) = word;
}

template <AdamProfile kProfile>
constexpr std::int32_t kLevelsOf = kProfile == AdamProfile::kExact ? 4096 : 256;

template <AdamProfile kProfile>
constexpr int kSecondBits = kProfile == AdamProfile::kExact ? 8 : 4;

// Codes of m or v: bytes in kExact, else nibbles.
template <AdamProfile kProfile>
__device__ void load_codes(const std::uint8_t* codes, std::int64_t element, FourCodes& to) {
  if constexpr (kProfile == AdamProfile::kExact) {
    load_bytes(codes, element, to);
  } else {
    load_nibbles(codes, element, to);
  }
}
template <AdamProfile kProfile>
__device__ void store_codes(const FourCodes& from, std::uint8_t* codes, std::int64_t element) {
  if constexpr (kProfile == AdamProfile::kExact) {
    store_bytes(from, codes, element);
  } else {
    store_nibbles(from, codes, element);
  }
}

// Of the whole warp's values.
__device__ float largest_magnitude(const Four& values) {
  std::uint32_t largest = 0;
  for (const float value : values) largest = max(largest, float_bits(magnitude(value)));
  return float_from_bits(__reduce_max_sync(kAllLanes, largest));
}
__device__ float sum_over_lanes(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value = rounded_sum(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

template <AdamProfile kProfile>
__device__ void load_moments(const AdamTables& tables, const AdamWeight& w, const Place& at,
                             Four& m, Four& v) {
  if constexpr (kProfile == AdamProfile::kFp32) {
    load(w.m + at.element, m);
    load(w.v + at.element, v);
    return;
  }
  FourCodes codes;
  const float m_scale = w.m_scales[at.group];
  load_codes<kProfile>(w.m_codes, at.element, codes);
  for (int i = 0; i < 4; ++i) {
    const float value = kProfile == AdamProfile::kExact
                            ? int8_value(codes[i])
                            : e2m1_of_bits(static_cast<unsigned>(codes[i]));
    m[i] = rounded_product(value, m_scale);
  }
  if constexpr (kProfile == AdamProfile::kMin) {
    load(w.v_columns + at.col, v);
    for (float& value : v) value = rounded_product(w.v_rows[at.row], value);
  } else {
    constexpr int kBits = kSecondBits<kProfile>;
    load_codes<kProfile>(w.v_codes, at.element, codes);
    const float base = geometric_base<kBits>(w.v_scales[at.group]);
    for (int i = 0; i < 4; ++i) {
      const float power = power_of<kBits>(tables, codes[i]);
      const float root = rounded_product(power, base);
      m[i] = rounded_product(m[i], power);
      v[i] = rounded_product(root, root);
    }
  }
}

template <AdamProfile kProfile>
__device__ void move(const AdamTables& tables, const AdamRule& rule, const AdamWeight& w,
                     const Place& at, const Four& change, const std::uint32_t (&words)[4]) {
  const float inverse = inverse_scale(
      rounded_product(e4m3_pair(w.scales_e4m3[at.element / kNvfp4Block]).x, w.global_scale));
  FourCodes codes;
  if constexpr (kProfile == AdamProfile::kFp32) {
    Four y;
    load(w.position + at.element, y);
    for (int i = 0; i < 4; ++i) {
      y[i] = moved_position(rule, y[i], change[i], inverse);
      codes[i] = cell_code(magnitude(y[i])) | sign_code(y[i]);
    }
    store(y, w.position + at.element);
    store_nibbles(codes, w.codes, at.element);
    return;
  }
  load_nibbles(w.codes, at.element, codes);
  if constexpr (kProfile == AdamProfile::kMin) {
    for (int i = 0; i < 4; ++i) {
      const float y =
          moved_position(rule, e2m1_of_bits(static_cast<unsigned>(codes[i])), change[i], inverse);
      codes[i] = draw_e2m1(y, position_draw<16>(words[i]));
    }
    store_nibbles(codes, w.codes, at.element);
    return;
  }
  constexpr bool kTwelveBits = kProfile == AdamProfile::kExact;
  constexpr std::int32_t kLevels = kLevelsOf<kProfile>;
  FourCodes residual, high{};
  load_bytes(w.residual, at.element, residual);
  if constexpr (kTwelveBits) load_nibbles(w.residual_high, at.element, high);
  for (int i = 0; i < 4; ++i) {
    const float y = position_of<kLevels>(tables, codes[i], residual[i] | high[i] << 8);
    const Position moved =
        rounded_position<kLevels>(tables, moved_position(rule, y, change[i], inverse),
                                  position_draw<kPositionDrawBits<kLevels>>(words[i]));
    codes[i] = moved.code;
    residual[i] = moved.residual;
    high[i] = moved.residual >> 8;
  }
  store_nibbles(codes, w.codes, at.element);
  store_bytes(residual, w.residual, at.element);
  if constexpr (kTwelveBits) store_nibbles(high, w.residual_high, at.element);
}

// All lanes call these, for the group's scale, also those beyond the row's end. This one leaves in
// `m` what is stored of it by the codes of v.
template <AdamProfile kProfile>
__device__ void store_second_moments(const AdamTables& tables, const AdamWeight& w, const Place& at,
                                     const Four& root, const std::uint32_t (&words)[4], Four& m) {
  constexpr int kBits = kSecondBits<kProfile>;
  const GroupScale group = second_moment_scale<kBits>(largest_magnitude(root));
  if (threadIdx.x % 32 == 0) w.v_scales[at.group] = group.scale;
  if (at.col >= w.cols) return;
  FourCodes codes;
  for (int i = 0; i < 4; ++i) {
    const float ratios = rounded_product(root[i], group.inverse);
    codes[i] = geometric_code<kBits>(tables, ratios, second_draw(words[i]));
    m[i] = rounded_product(m[i], inverse_of<kBits>(tables, codes[i]));
  }
  store_codes<kProfile>(codes, w.v_codes, at.element);
}

template <AdamProfile kProfile>
__device__ void store_first_moments(const AdamWeight& w, const Place& at, const Four& m,
                                    const std::uint32_t (&words)[4]) {
  constexpr bool kEightBits = kProfile == AdamProfile::kExact;
  const GroupScale group =
      first_moment_scale(largest_magnitude(m), kEightBits ? kInt8Max : kE2M1Max);
  if (threadIdx.x % 32 == 0) w.m_scales[at.group] = group.scale;
  if (at.col >= w.cols) return;
  FourCodes codes;
  for (int i = 0; i < 4; ++i) {
    const float value = rounded_product(m[i], group.inverse);
    const std::uint32_t draw = first_draw(words[i]);
    codes[i] = kEightBits ? draw_int8(value, draw) : draw_e2m1(value, draw);
  }
  store_codes<kProfile>(codes, w.m_codes, at.element);
}

// `gradient` is already scaled; 0 in lanes that are not active.
template <AdamProfile kProfile>
__device__ void step_group(const AdamTables& tables, const AdamRule& rule, const AdamWeight& w,
                           const Place& at, const Four& gradient, bool active) {
  Four m{}, v{}, root{}, change{};
  std::uint32_t words[4]{};
  if (active) {
    load_moments<kProfile>(tables, w, at, m, v);
    for (int i = 0; i < 4; ++i) {
      m[i] = next_first_moment(rule, m[i], gradient[i]);
      v[i] = next_second_moment(rule, v[i], gradient[i]);
      root[i] = ieee_sqrt(v[i]);
      change[i] = adam_change(rule, m[i], root[i]);
    }
    if constexpr (kProfile != AdamProfile::kFp32) {
      const PhiloxWords drawn = philox(quad_counter(rule, at.element / 4), rule.seed);
      words[0] = drawn.a;
      words[1] = drawn.b;
      words[2] = drawn.c;
      words[3] = drawn.d;
    }
    move<kProfile>(tables, rule, w, at, change, words);
  }
  if constexpr (kProfile == AdamProfile::kFp32) {
    if (!active) return;
    store(m, w.m + at.element);
    store(v, w.v + at.element);
  } else {
    // Lanes beyond the row's end have zeros, which change no maximum.
    if constexpr (kProfile != AdamProfile::kMin) {
      store_second_moments<kProfile>(tables, w, at, root, words, m);
    }
    store_first_moments<kProfile>(w, at, m, words);
  }
}

template <class T>
__device__ void load_gradient(const AdamRule& rule, const GradientRows<T>& in, std::int64_t offset,
                              Four& gradient) {
  load(in.values + offset, gradient);
  for (float& value : gradient) value = rounded_product(rule.gradient_scale, value);
}

// Warps take groups a grid apart: the tables are filled once for many. No division on the way.
template <AdamProfile kProfile, class T>
__global__ void __launch_bounds__(kThreads)
    group_kernel(AdamRule rule, AdamWeight w, GradientRows<T> in, int groups) {
  __shared__ AdamTables tables;
  fill(tables, kLevelsOf<kProfile>);
  const int stride = static_cast<int>(gridDim.x) * kWarps;
  const int rows_of_stride = stride / groups;
  const int groups_of_stride = stride - rows_of_stride * groups;
  const int start = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x / 32);
  std::int64_t row_of_chunk = start / groups;
  int group = start % groups;
  while (row_of_chunk < in.rows.count) {
    const int col = group * static_cast<int>(kMomentGroup) + 4 * static_cast<int>(threadIdx.x % 32);
    const bool active = col < w.cols;
    const std::int64_t row = in.rows.first + row_of_chunk;
    Four gradient{};
    if (active) load_gradient(rule, in, row_of_chunk * w.cols + col, gradient);
    step_group<kProfile>(tables, rule, w, {row, row * w.cols + col, row * groups + group, col},
                         gradient, active);
    row_of_chunk += rows_of_stride;
    group += groups_of_stride;
    if (group >= groups) {
      group -= groups;
      ++row_of_chunk;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    row_kernel(AdamRule rule, AdamWeight w, GradientRows<T> in, int groups) {
  __shared__ AdamTables tables;
  fill(tables, kLevelsOf<AdamProfile::kMin>);
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; i < in.rows.count;
       i += std::int64_t{gridDim.x} * kWarps) {
    const std::int64_t row = in.rows.first + i;
    float squares = 0;
    for (int group = 0; group < groups; ++group) {
      const int col =
          group * static_cast<int>(kMomentGroup) + 4 * static_cast<int>(threadIdx.x % 32);
      const bool active = col < w.cols;
      Four gradient{};
      if (active) load_gradient(rule, in, i * w.cols + col, gradient);
      step_group<AdamProfile::kMin>(
          tables, rule, w, {row, row * w.cols + col, row * groups + group, col}, gradient, active);
      for (const float value : gradient) squares = added_square(squares, value);
    }
    const float sum = sum_over_lanes(squares);
    if (threadIdx.x % 32 == 0) w.v_rows[row] = next_mean(rule, w.v_rows[row], sum, w.cols);
  }
}

// ---- Sums over rows: 32 columns a block, 32 tiles of rows at a time ----

constexpr int kTilesAtATime = 32;

__device__ float to_float(float value) { return value; }
__device__ float to_float(std::uint16_t bf16) {
  return float_from_bits(static_cast<std::uint32_t>(bf16) << 16U);
}

template <class T>
__global__ void column_kernel(AdamRule rule, ColumnSquares s, GradientRows<T> in) {
  __shared__ float of_tile[kTilesAtATime][33];
  const std::int64_t col = std::int64_t{blockIdx.x} * 32 + threadIdx.x;
  const std::int64_t end = in.rows.first + in.rows.count;
  const bool active = col < s.cols;
  const bool adds = threadIdx.y == 0 && active;
  float total = adds ? s.total[col] : 0;
  float open = adds ? s.open[col] : 0;
  for (std::int64_t tile = in.rows.first / kColumnTileRows; tile * kColumnTileRows < end;
       tile += kTilesAtATime) {
    const std::int64_t mine = (tile + threadIdx.y) * kColumnTileRows;
    const std::int64_t first = max(mine, in.rows.first);
    const std::int64_t last = min(mine + kColumnTileRows, end);
    // Only the first tile of all can have rows from an earlier chunk.
    float sum = active && first > mine ? s.open[col] : 0;
    for (std::int64_t row = first; active && row < last; ++row) {
      const T value = in.values[(row - in.rows.first) * s.cols + col];
      sum = added_square(sum, rounded_product(rule.gradient_scale, to_float(value)));
    }
    of_tile[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    for (int i = 0; adds && i < kTilesAtATime; ++i) {
      const std::int64_t begin = (tile + i) * kColumnTileRows;
      if (begin >= end) break;
      const std::int64_t done = min(begin + kColumnTileRows, end);
      const bool whole = done == begin + kColumnTileRows || done == s.rows;
      total = whole ? rounded_sum(total, of_tile[i][threadIdx.x]) : total;
      open = whole ? 0.0F : of_tile[i][threadIdx.x];
    }
    __syncthreads();
  }
  if (!adds) return;
  s.total[col] = total;
  s.open[col] = open;
}

// One block.
__global__ void finish_kernel(AdamRule rule, ColumnSquares s, ColumnMeans means) {
  __shared__ float sum_of_means;
  for (std::int64_t col = threadIdx.x; col < s.cols; col += blockDim.x) {
    means.mean[col] = next_mean(rule, means.mean[col], s.total[col], s.rows);
    s.total[col] = 0;
    s.open[col] = 0;
  }
  __syncthreads();
  if (threadIdx.x < kSumLanes) {
    float sum = 0;
    for (std::int64_t col = threadIdx.x; col < s.cols; col += kSumLanes) {
      sum = rounded_sum(sum, means.mean[col]);
    }
    sum = sum_over_lanes(sum);
    if (threadIdx.x == 0) sum_of_means = sum;
  }
  __syncthreads();
  for (std::int64_t col = threadIdx.x; col < s.cols; col += blockDim.x) {
    means.ratio[col] = column_ratio(means.mean[col], sum_of_means, s.cols);
  }
}

template <class T>
__global__ void dense_kernel(AdamRule rule, AdamDense w, const T* gradient) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= w.count) return;
  dense_step(rule, to_float(gradient[i]), w.values[i], w.m[i], w.v[i]);
}

// ---- Sums of squares: a block a part ----

__device__ float squares_of(const float4& v) {
  return fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, v.x * v.x)));
}
__device__ float squares_of(const uint4& words, const float* /*type*/) {
  return squares_of(make_float4(__uint_as_float(words.x), __uint_as_float(words.y),
                                __uint_as_float(words.z), __uint_as_float(words.w)));
}
__device__ float squares_of(const uint4& words, const std::uint16_t* /*type*/) {
  const auto low = [](unsigned word) { return __uint_as_float(word << 16); };
  const auto high = [](unsigned word) { return __uint_as_float(word & 0xFFFF0000U); };
  return squares_of(make_float4(low(words.x), high(words.x), low(words.y), high(words.y))) +
         squares_of(make_float4(low(words.z), high(words.z), low(words.w), high(words.w)));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    squares_kernel(const T* values, std::int64_t count, float* parts) {
  constexpr int kEach = 16 / static_cast<int>(sizeof(T));
  constexpr int kAtATime = 4;
  constexpr std::int64_t kStride = std::int64_t{kSquareParts} * kThreads;
  const std::int64_t vectors = count / kEach;
  const auto* const all = reinterpret_cast<const uint4*>(values);
  const std::int64_t thread = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  float sums[kAtATime] = {};
  std::int64_t i = thread;
  for (; i + (kAtATime - 1) * kStride < vectors; i += kAtATime * kStride) {
    uint4 words[kAtATime];
#pragma unroll
    for (int k = 0; k < kAtATime; ++k) words[k] = all[i + k * kStride];
#pragma unroll
    for (int k = 0; k < kAtATime; ++k) sums[k] += squares_of(words[k], values);
  }
  for (; i < vectors; i += kStride) sums[0] += squares_of(all[i], values);
  const std::int64_t rest = vectors * kEach + thread;
  if (rest < count) sums[1] = fmaf(to_float(values[rest]), to_float(values[rest]), sums[1]);

  __shared__ float of_warp[kWarps];
  const float sum = sum_over_lanes(sums[0] + sums[1] + (sums[2] + sums[3]));
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += of_warp[warp];
  parts[blockIdx.x] = total;
}

// ---- What is refused ----

// Thread blocks for `items` of which one takes `each`, or 0 when they do not fit into a grid.
unsigned grid_for(std::int64_t items, std::int64_t each) {
  const std::int64_t grid = (items + each - 1) / each;
  return grid > INT_MAX ? 0 : static_cast<unsigned>(grid);
}

bool usable(const void* pointer) {
  return pointer != nullptr && reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

bool has_states(AdamProfile profile, const AdamWeight& w) {
  if (!usable(w.codes) || w.scales_e4m3 == nullptr) return false;
  switch (profile) {
    case AdamProfile::kFp32:
      return usable(w.position) && usable(w.m) && usable(w.v);
    case AdamProfile::kExact:
      return usable(w.residual) && usable(w.residual_high) && usable(w.m_codes) &&
             usable(w.m_scales) && usable(w.v_codes) && usable(w.v_scales);
    case AdamProfile::kDefault:
      return usable(w.residual) && usable(w.m_codes) && usable(w.m_scales) && usable(w.v_codes) &&
             usable(w.v_scales);
    case AdamProfile::kMin:
      return usable(w.m_codes) && usable(w.m_scales) && usable(w.v_rows) && usable(w.v_columns);
  }
  return false;
}

template <class T>
bool has_rows(const GradientRows<T>& in, std::int64_t rows) {
  return usable(in.values) && in.rows.first >= 0 && in.rows.count > 0 &&
         in.rows.first <= rows - in.rows.count;
}

}  // namespace

template <class T>
cudaError_t adam_step(AdamProfile profile, const AdamRule& rule, const AdamWeight& weight,
                      const GradientRows<T>& gradient, cudaStream_t stream) {
  const bool shaped =
      weight.cols > 0 && weight.cols % kNvfp4Block == 0 && weight.cols < INT_MAX / 2;
  if (!shaped || !has_rows(gradient, weight.rows) || !has_states(profile, weight)) {
    return cudaErrorInvalidValue;
  }
  const int groups = static_cast<int>(moment_groups(weight.cols));
  const std::int64_t tasks = gradient.rows.count * (profile == AdamProfile::kMin ? 1 : groups);
  // Enough for every GPU, each block with dozens of tasks where there are many.
  const auto grid =
      static_cast<unsigned>(std::min<std::int64_t>((tasks + kWarps - 1) / kWarps, 2048));
  const auto launch = [&](auto kernel) {
    kernel<<<grid, kThreads, 0, stream>>>(rule, weight, gradient, groups);
  };
  switch (profile) {
    case AdamProfile::kFp32:
      launch(group_kernel<AdamProfile::kFp32, T>);
      break;
    case AdamProfile::kExact:
      launch(group_kernel<AdamProfile::kExact, T>);
      break;
    case AdamProfile::kDefault:
      launch(group_kernel<AdamProfile::kDefault, T>);
      break;
    case AdamProfile::kMin:
      launch(row_kernel<T>);
      break;
  }
  return cudaGetLastError();
}

template <class T>
cudaError_t add_column_squares(const AdamRule& rule, const ColumnSquares& squares,
                               const GradientRows<T>& gradient, cudaStream_t stream) {
  const bool shaped = squares.cols > 0 && squares.total != nullptr && squares.open != nullptr;
  const unsigned grid = grid_for(squares.cols, 32);
  if (!shaped || !has_rows(gradient, squares.rows) || grid == 0) return cudaErrorInvalidValue;
  column_kernel<<<grid, dim3(32, kTilesAtATime), 0, stream>>>(rule, squares, gradient);
  return cudaGetLastError();
}

cudaError_t finish_column_squares(const AdamRule& rule, const ColumnSquares& squares,
                                  const ColumnMeans& means, cudaStream_t stream) {
  if (squares.cols <= 0 || squares.rows <= 0 || means.mean == nullptr || means.ratio == nullptr) {
    return cudaErrorInvalidValue;
  }
  finish_kernel<<<1, 1024, 0, stream>>>(rule, squares, means);
  return cudaGetLastError();
}

template <class T>
cudaError_t adam_dense_step(const AdamRule& rule, const AdamDense& weight, const T* gradient,
                            cudaStream_t stream) {
  const unsigned grid = grid_for(weight.count, kThreads);
  if (weight.count <= 0 || grid == 0 || gradient == nullptr) return cudaErrorInvalidValue;
  dense_kernel<<<grid, kThreads, 0, stream>>>(rule, weight, gradient);
  return cudaGetLastError();
}

template <class T>
cudaError_t sum_of_squares(const T* values, std::int64_t count, float* parts, cudaStream_t stream) {
  if (count <= 0 || !usable(values) || parts == nullptr) return cudaErrorInvalidValue;
  squares_kernel<<<kSquareParts, kThreads, 0, stream>>>(values, count, parts);
  return cudaGetLastError();
}

#define QF_GRADIENT_TYPE(T)                                                                        \
  template cudaError_t adam_step(AdamProfile, const AdamRule&, const AdamWeight&,                  \
                                 const GradientRows<T>&, cudaStream_t);                            \
  template cudaError_t add_column_squares(const AdamRule&, const ColumnSquares&,                   \
                                          const GradientRows<T>&, cudaStream_t);                   \
  template cudaError_t adam_dense_step(const AdamRule&, const AdamDense&, const T*, cudaStream_t); \
  template cudaError_t sum_of_squares(const T*, std::int64_t, float*, cudaStream_t);
QF_GRADIENT_TYPE(float)
QF_GRADIENT_TYPE(std::uint16_t)

}  // namespace qf::cuda
