#include <algorithm>
#include <climits>

#include "adam_tables.cuh"
#include "qwen3fp4/kernels/cuda/adam_step.h"

// Half a warp a group of 128 elements, a lane eight of them: what a lane does once, addresses and
// scales, costs as much as one or two elements. kMin sums along rows, so there a warp takes the
// groups of a row two after two.
namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
// Of the step itself: as many small blocks as registers allow.
constexpr int kStepThreads = 128;
constexpr int kStepWarps = kStepThreads / 32;
constexpr int kStepBlocks = 6;  // a multiprocessor
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

constexpr int kEach = 8;
constexpr int kGroupLanes = static_cast<int>(kMomentGroup) / kEach;
constexpr int kGroupsOfWarp = 32 / kGroupLanes;
static_assert(kGroupLanes == kGroupSumLanes, "lanes add up as the CPU's");

using Eight = float[kEach];
using EightCodes = std::int32_t[kEach];

// Where a lane's eight elements are.
struct Place {
  std::int64_t row;
  std::uint32_t eight;  // of the whole weight: element / 8
  std::uint32_t group;  // of the whole weight
  int col;
};

__device__ bool in_upper_half() { return (threadIdx.x & kGroupLanes) != 0; }

__device__ void load(const float* from, std::uint32_t eight, Eight& to) {
  const auto* const four = reinterpret_cast<const float4*>(from) + std::size_t{eight} * 2;
  const float4 a = four[0];
  const float4 b = four[1];
  const Eight all = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
  for (int i = 0; i < kEach; ++i) to[i] = all[i];
}
__device__ void unpack(const uint4 (&words)[2], Eight& to) {
  const unsigned each[] = {words[0].x, words[0].y, words[0].z, words[0].w,
                           words[1].x, words[1].y, words[1].z, words[1].w};
  for (int i = 0; i < kEach; ++i) to[i] = float_from_bits(each[i]);
}
__device__ void unpack(const uint4 (&words)[1], Eight& to) {
  const unsigned pairs[] = {words[0].x, words[0].y, words[0].z, words[0].w};
  for (int i = 0; i < kEach / 2; ++i) {
    to[2 * i] = float_from_bits(pairs[i] << 16U);
    to[2 * i + 1] = float_from_bits(pairs[i] & 0xFFFF0000U);
  }
}
__device__ void store(const Eight& from, float* to, std::uint32_t eight) {
  auto* const four = reinterpret_cast<float4*>(to) + std::size_t{eight} * 2;
  four[0] = make_float4(from[0], from[1], from[2], from[3]);
  four[1] = make_float4(from[4], from[5], from[6], from[7]);
}
// Eight codes of four bits.
__device__ unsigned load_word(const std::uint8_t* codes, std::uint32_t eight) {
  return reinterpret_cast<const unsigned*>(codes)[eight];
}
__device__ void store_word(unsigned word, std::uint8_t* codes, std::uint32_t eight) {
  reinterpret_cast<unsigned*>(codes)[eight] = word;
}
__device__ unsigned packed(const EightCodes& codes) {
  unsigned word = 0;
  for (unsigned i = 0; i < kEach; ++i) word |= (static_cast<unsigned>(codes[i]) & 0xFU) << (4 * i);
  return word;
}
__device__ uint2 load_two_words(const std::uint8_t* bytes, std::uint32_t eight) {
  return reinterpret_cast<const uint2*>(bytes)[eight];
}
__device__ void unpack_bytes(const uint2& words, EightCodes& to) {
  for (unsigned i = 0; i < 4; ++i) {
    to[i] = static_cast<std::int32_t>(words.x >> (8 * i) & 0xFFU);
    to[i + 4] = static_cast<std::int32_t>(words.y >> (8 * i) & 0xFFU);
  }
}
// The lowest eight bits of each.
__device__ void store_bytes(const EightCodes& from, std::uint8_t* bytes, std::uint32_t eight) {
  const auto word = [&](int first) {
    const auto pair = [&](int at) {
      return __byte_perm(static_cast<unsigned>(from[at]), static_cast<unsigned>(from[at + 1]),
                         0x0040);
    };
    return __byte_perm(pair(first), pair(first + 2), 0x5410);
  };
  reinterpret_cast<uint2*>(bytes)[eight] = make_uint2(word(0), word(4));
}

template <AdamProfile kProfile>
constexpr std::int32_t kLevelsOf = kProfile == AdamProfile::kExact ? 4096 : 256;

// Of the active lanes of the half warp; NaN if one is.
__device__ float largest_magnitude(const Eight& values, bool active) {
  float largest = fabsf(values[0]);
  for (int i = 1; i < kEach; ++i) {
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(largest) : "f"(largest), "f"(fabsf(values[i])));
  }
  const unsigned bits = float_bits(largest);
  const unsigned lower = __reduce_max_sync(kAllLanes, active && !in_upper_half() ? bits : 0);
  const unsigned upper = __reduce_max_sync(kAllLanes, active && in_upper_half() ? bits : 0);
  return float_from_bits(in_upper_half() ? upper : lower);
}
__device__ float sum_over_lanes(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value = rounded_sum(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// Of the half warp's group, to where its first lane says. Every group's first lane is active, or no
// lane is.
__device__ void store_squares(const Eight& gradient, bool active, float* to) {
  float sum = 0;
  for (int i = 0; i < kEach; ++i) sum = added_square(sum, gradient[i]);
  sum = active ? sum : 0.0F;
  for (int offset = kGroupLanes / 2; offset > 0; offset /= 2) {
    sum = rounded_sum(sum, __shfl_xor_sync(kAllLanes, sum, offset));
  }
  if (active && threadIdx.x % kGroupLanes == 0) *to = sum;
}

// What a lane's elements have in memory, as it is there.
template <AdamProfile kProfile, class T>
struct Stored {
  uint4 gradient[sizeof(T) / 2];
  unsigned codes;
  uint2 m_codes, v_codes;  // in four bits: of x alone
  uint2 residual;
  unsigned residual_high;
  float m_scale, v_scale;
  std::uint8_t block_scale;
};

// All loads that do not depend on others, so that they wait for memory together. kFp32 and kMin
// load what they have in f32 where they need it.
template <AdamProfile kProfile, class T>
__device__ Stored<kProfile, T> load_stored(const AdamWeight& w, const Place& at, const T* gradient,
                                           std::uint32_t eight_of_gradient) {
  Stored<kProfile, T> stored;
  for (std::uint32_t i = 0; i < sizeof(T) / 2; ++i) {
    stored.gradient[i] = reinterpret_cast<const uint4*>(
        gradient)[std::size_t{eight_of_gradient} * (sizeof(T) / 2) + i];
  }
  stored.block_scale = w.scales_e4m3[at.eight / (kNvfp4Block / kEach)];
  if constexpr (kProfile != AdamProfile::kFp32) {
    stored.codes = load_word(w.codes, at.eight);
    stored.m_scale = w.m_scales[at.group];
  }
  if constexpr (kProfile == AdamProfile::kExact) {
    stored.m_codes = load_two_words(w.m_codes, at.eight);
    stored.v_codes = load_two_words(w.v_codes, at.eight);
    stored.residual_high = load_word(w.residual_high, at.eight);
  } else if constexpr (kProfile != AdamProfile::kFp32) {
    stored.m_codes.x = load_word(w.m_codes, at.eight);
  }
  if constexpr (kProfile == AdamProfile::kDefault) {
    stored.v_codes.x = load_word(w.v_codes, at.eight);
  }
  if constexpr (kProfile == AdamProfile::kDefault || kProfile == AdamProfile::kExact) {
    stored.residual = load_two_words(w.residual, at.eight);
    stored.v_scale = w.v_scales[at.group];
  }
  return stored;
}

template <AdamProfile kProfile, class T>
__device__ void next_moments(const AdamLookup& lookup, const AdamRule& rule,
                             const DenseFactors& factors, const AdamWeight& w, const Place& at,
                             const Stored<kProfile, T>& stored, const Eight& gradient, Eight& m,
                             Eight& v) {
  Eight kept_m, kept_v;
  if constexpr (kProfile == AdamProfile::kFp32) {
    load(w.m, at.eight, kept_m);
    load(w.v, at.eight, kept_v);
    for (int i = 0; i < kEach; ++i) {
      kept_m[i] = rounded_product(rule.beta1, kept_m[i]);
      kept_v[i] = rounded_product(rule.beta2, kept_v[i]);
    }
  } else {
    const float m_scale = kept_first_scale(rule, stored.m_scale);
    if constexpr (kProfile == AdamProfile::kMin) {
      const float row = rounded_product(rule.beta2, w.v_rows[at.row]);
      load(w.v_columns, static_cast<std::uint32_t>(at.col) / kEach, kept_v);
      const CodeEntries codes(lookup, stored.m_codes.x);
      for (int i = 0; i < kEach; ++i) {
        kept_v[i] = rounded_product(row, kept_v[i]);
        kept_m[i] = rounded_product(lookup.first_value(codes[i]), m_scale);
      }
    } else {
      constexpr int kBits = kProfile == AdamProfile::kExact ? 8 : 4;
      const float v_scale = kept_second_scale<kBits>(rule, geometric_base<kBits>(stored.v_scale));
      Eight value, power, square;
      if constexpr (kProfile == AdamProfile::kExact) {
        EightCodes codes;
        unpack_bytes(stored.m_codes, codes);
        for (int i = 0; i < kEach; ++i) value[i] = int8_value(codes[i]);
        unpack_bytes(stored.v_codes, codes);
        for (int i = 0; i < kEach; ++i) {
          power[i] = geometric_power<8>(codes[i]);
          square[i] = rounded_product(power[i], power[i]);
        }
      } else {
        const CodeEntries m_codes(lookup, stored.m_codes.x);
        const CodeEntries v_codes(lookup, stored.v_codes.x);
        for (int i = 0; i < kEach; ++i) {
          value[i] = lookup.first_value(m_codes[i]);
          const PowerAndSquare of_code = lookup.power_and_square(v_codes[i]);
          power[i] = of_code.power;
          square[i] = of_code.square;
        }
      }
      for (int i = 0; i < kEach; ++i) {
        kept_m[i] = rounded_product(rounded_product(value[i], power[i]), m_scale);
        kept_v[i] = rounded_product(square[i], v_scale);
      }
    }
  }
  for (int i = 0; i < kEach; ++i) {
    m[i] = next_first_moment(kept_m[i], factors.first, gradient[i]);
    v[i] = next_second_moment(kept_v[i], factors.second, gradient[i]);
  }
}

// The random words of a lane's two quads.
class Draws {
 public:
  __device__ void fill(const AdamRule& rule, std::uint32_t eight) {
    for (int quad = 0; quad < kEach / 4; ++quad) {
      const PhiloxWords drawn =
          philox(quad_counter(rule, std::int64_t{eight} * 2 + quad), rule.seed);
      words_[4 * quad] = drawn.a;
      words_[4 * quad + 1] = drawn.b;
      words_[4 * quad + 2] = drawn.c;
      words_[4 * quad + 3] = drawn.d;
    }
  }
  __device__ std::uint32_t first(int i) const { return words_[i]; }
  __device__ std::uint32_t second(int i) const { return words_[i / 4 * 4 + (i + 1) % 4]; }
  __device__ std::uint32_t position(int i) const { return words_[i / 4 * 4 + (i + 2) % 4]; }

 private:
  std::uint32_t words_[kEach];
};

template <AdamProfile kProfile, class T>
__device__ void move(const AdamLookup& lookup, const AdamRule& rule, const AdamWeight& w,
                     const Place& at, const Stored<kProfile, T>& stored, bool active,
                     const Eight& direction, const Draws& draws) {
  const float rate = lookup.rate(stored.block_scale);
  Eight y;
  if constexpr (kProfile == AdamProfile::kFp32) {
    EightCodes codes;
    load(w.position, at.eight, y);
    for (int i = 0; i < kEach; ++i) {
      y[i] = moved_position(rule, y[i], direction[i], rate);
      codes[i] = cell_code(magnitude(y[i])) | sign_code(y[i]);
    }
    if (!active) return;
    store(y, w.position, at.eight);
    store_word(packed(codes), w.codes, at.eight);
  } else if constexpr (kProfile == AdamProfile::kMin) {
    const CodeEntries old(lookup, stored.codes);
    E2M1Pack pack;
    for (int i = 0; i < kEach; ++i) {
      y[i] = moved_position(rule, lookup.first_value(old[i]), direction[i], rate);
      pack.draw(i, copysignf(fminf(magnitude(y[i]), kE2M1Max), y[i]),
                first_draw(draws.position(i)));
    }
    if (active) store_word(pack.word(), w.codes, at.eight);
  } else {
    constexpr std::int32_t kLevels = kLevelsOf<kProfile>;
    const CodeEntries old(lookup, stored.codes);
    const uint2 low = stored.residual;
    unsigned moved[kEach];
    for (unsigned i = 0; i < kEach; ++i) {
      float residual = lookup.residual(i < 4 ? low.x : low.y, i % 4);
      if constexpr (kProfile == AdamProfile::kExact) {
        residual =
            float_from_bits(float_bits(residual) | (stored.residual_high >> (4 * i) & 0xFU) << 8U);
      }
      y[i] = moved_position(rule, lookup.position(old[i], residual), direction[i], rate);
      moved[i] = lookup.rounded_position<kLevels>(y[i], draws.position(i));
    }
    if (active) store_positions<kLevels>(moved, y, w, at.eight);
  }
}

// Lanes that are not active, beyond the row's or the task's end, have a place of another lane of
// their warp: they do as that one does, but store nothing and count in no maximum.
//
// This one leaves in `m` what is stored of it by the codes of v.
template <AdamProfile kProfile>
__device__ void store_second_moments(const AdamLookup& lookup, const AdamWeight& w, const Place& at,
                                     bool active, const Eight& root, const Draws& draws, Eight& m) {
  constexpr int kBits = kProfile == AdamProfile::kExact ? 8 : 4;
  const GroupScale group = second_moment_scale<kBits>(largest_magnitude(root, active));
  EightCodes codes;
  unsigned entries[kEach];
  for (int i = 0; i < kEach; ++i) {
    const float ratios = rounded_product(root[i], group.inverse);
    if constexpr (kProfile == AdamProfile::kExact) {
      codes[i] = draw_geometric<kBits>(ratios, second_threshold<kBits>(draws.second(i)));
      m[i] = rounded_product(m[i], geometric_inverse<kBits>(codes[i]));
    } else {
      entries[i] = lookup.geometric_entry(ratios, draws.second(i));
      m[i] = rounded_product(m[i], lookup.inverse(entries[i]));
    }
  }
  if (!active) return;
  if (threadIdx.x % kGroupLanes == 0) w.v_scales[at.group] = group.scale;
  if constexpr (kProfile == AdamProfile::kExact) {
    store_bytes(codes, w.v_codes, at.eight);
  } else {
    store_word(packed_entries(lookup, entries), w.v_codes, at.eight);
  }
}

template <AdamProfile kProfile>
__device__ void store_first_moments(const AdamWeight& w, const Place& at, bool active,
                                    const Eight& m, const Draws& draws) {
  constexpr bool kEightBits = kProfile == AdamProfile::kExact;
  const GroupScale group =
      first_moment_scale(largest_magnitude(m, active), kEightBits ? kInt8Max : kE2M1Max);
  EightCodes codes;
  E2M1Pack pack;
  for (int i = 0; i < kEach; ++i) {
    const float value = rounded_product(m[i], group.inverse);
    const std::uint32_t draw = first_draw(draws.first(i));
    if constexpr (kEightBits) {
      codes[i] = draw_int8(value, draw);
    } else {
      pack.draw(i, value, draw);
    }
  }
  if (!active) return;
  if (threadIdx.x % kGroupLanes == 0) w.m_scales[at.group] = group.scale;
  if constexpr (kEightBits) {
    store_bytes(codes, w.m_codes, at.eight);
  } else {
    store_word(pack.word(), w.m_codes, at.eight);
  }
}

template <AdamProfile kProfile, class T>
__device__ void step_group(const AdamLookup& lookup, const AdamRule& rule,
                           const DenseFactors& factors, const AdamWeight& w, const Place& at,
                           const Stored<kProfile, T>& stored, const Eight& gradient, bool active) {
  Eight m, v, root, direction;
  next_moments(lookup, rule, factors, w, at, stored, gradient, m, v);
  for (int i = 0; i < kEach; ++i) {
    root[i] = kProfile == AdamProfile::kDefault ? root_of_least(v[i]) : root_of_second(v[i]);
    direction[i] = adam_direction(m[i], root[i], factors.least);
  }
  Draws draws;
  if constexpr (kProfile != AdamProfile::kFp32) draws.fill(rule, at.eight);
  move(lookup, rule, w, at, stored, active, direction, draws);
  if constexpr (kProfile == AdamProfile::kFp32) {
    if (!active) return;
    store(m, w.m, at.eight);
    store(v, w.v, at.eight);
  } else {
    if constexpr (kProfile != AdamProfile::kMin) {
      store_second_moments<kProfile>(lookup, w, at, active, root, draws, m);
    }
    store_first_moments<kProfile>(w, at, active, m, draws);
  }
}

// Warps take pairs of groups a grid apart: the tables are filled once for many. No division on the
// way.
template <AdamProfile kProfile, class T>
__global__ void __launch_bounds__(kStepThreads, kStepBlocks)
    group_kernel(AdamRule rule, AdamWeight w, GradientRows<T> in, unsigned groups, float* squares) {
  __shared__ AdamTables tables;
  fill<kLevelsOf<kProfile>>(tables, rule, w.global_scale);
  const AdamLookup lookup(tables);
  const DenseFactors factors = dense_factors(rule);
  const auto rows = static_cast<unsigned>(in.rows.count);
  const unsigned tasks = rows * groups;
  const unsigned stride = gridDim.x * kStepWarps * kGroupsOfWarp;
  const unsigned rows_of_stride = stride / groups;
  const unsigned groups_of_stride = stride - rows_of_stride * groups;
  const unsigned eights = static_cast<unsigned>(w.cols) / kEach;
  const unsigned first_eight = static_cast<unsigned>(in.rows.first) * eights;
  const unsigned first_group = static_cast<unsigned>(in.rows.first) * groups;
  const unsigned half = in_upper_half() ? 1 : 0;
  unsigned task = (blockIdx.x * kStepWarps + threadIdx.x / 32) * kGroupsOfWarp + half;
  unsigned row = task / groups;
  unsigned group = task - row * groups;
  // The last warp can have one task: its upper half then has the place of the last group of all, as
  // has what is loaded beyond the last task.
  const auto eight_at = [&] {
    const unsigned of_row =
        (task < tasks ? group : groups - 1) * kGroupLanes + threadIdx.x % kGroupLanes;
    return min(row, rows - 1) * eights + min(of_row, eights - 1);
  };
  const auto is_active = [&] {
    return task < tasks && group * kGroupLanes + threadIdx.x % kGroupLanes < eights;
  };
  unsigned eight = eight_at();
  Place at{0, first_eight + eight, first_group + min(task, tasks - 1), 0};
  auto stored = load_stored<kProfile>(w, at, in.values, eight);
  while (task - half < tasks) {
    const bool active = is_active();
    const unsigned of_rows = task;
    task += stride;
    row += rows_of_stride;
    group += groups_of_stride;
    if (group >= groups) {
      group -= groups;
      ++row;
    }
    eight = eight_at();
    const Place next{0, first_eight + eight, first_group + min(task, tasks - 1), 0};
    const auto of_next = load_stored<kProfile>(w, next, in.values, eight);
    Eight gradient;
    unpack(stored.gradient, gradient);
    if (squares != nullptr) store_squares(gradient, active, squares + of_rows);
    step_group(lookup, rule, factors, w, at, stored, gradient, active);
    at = next;
    stored = of_next;
  }
}

template <class T>
__global__ void __launch_bounds__(kStepThreads, kStepBlocks)
    row_kernel(AdamRule rule, AdamWeight w, GradientRows<T> in, unsigned groups, float* squares) {
  __shared__ AdamTables tables;
  fill<kLevelsOf<AdamProfile::kMin>>(tables, rule, w.global_scale);
  const AdamLookup lookup(tables);
  const DenseFactors factors = dense_factors(rule);
  const unsigned eights = static_cast<unsigned>(w.cols) / kEach;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kStepWarps + threadIdx.x / 32; i < in.rows.count;
       i += std::int64_t{gridDim.x} * kStepWarps) {
    const std::int64_t row = in.rows.first + i;
    float of_row = 0;
    for (unsigned first = 0; first < groups; first += kGroupsOfWarp) {
      const unsigned group = first + (in_upper_half() ? 1 : 0);
      const unsigned eight_of_row = group * kGroupLanes + threadIdx.x % kGroupLanes;
      const bool active = eight_of_row < eights;
      const unsigned eight = min(eight_of_row, eights - 1);
      const auto of_weight = static_cast<unsigned>(row);
      const Place at{row, of_weight * eights + eight, of_weight * groups + min(group, groups - 1),
                     static_cast<int>(eight) * kEach};
      const auto stored = load_stored<AdamProfile::kMin>(w, at, in.values,
                                                         static_cast<unsigned>(i) * eights + eight);
      Eight gradient;
      unpack(stored.gradient, gradient);
      if (squares != nullptr) store_squares(gradient, active, squares + i * groups + group);
      step_group(lookup, rule, factors, w, at, stored, gradient, active);
      for (int j = 0; active && j < kEach; ++j) {
        of_row = added_square(of_row, rounded_product(rule.gradient_scale, gradient[j]));
      }
    }
    const float sum = sum_over_lanes(of_row);
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
  dense_step(rule, dense_factors(rule), to_float(gradient[i]), w.values[i], w.m[i], w.v[i]);
}

// ---- Sums, of squares or of what is there: a block a part ----

__device__ float4 floats_of(const uint4& words) {
  return make_float4(__uint_as_float(words.x), __uint_as_float(words.y), __uint_as_float(words.z),
                     __uint_as_float(words.w));
}

// What 16 bytes of values, and single ones, add to a sum.
struct Squares {
  __device__ static float of(const float4& v) {
    return fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, v.x * v.x)));
  }
  __device__ static float of(const uint4& words, const float* /*type*/) {
    return of(floats_of(words));
  }
  __device__ static float of(const uint4& words, const std::uint16_t* /*type*/) {
    const auto low = [](unsigned word) { return __uint_as_float(word << 16); };
    const auto high = [](unsigned word) { return __uint_as_float(word & 0xFFFF0000U); };
    return of(make_float4(low(words.x), high(words.x), low(words.y), high(words.y))) +
           of(make_float4(low(words.z), high(words.z), low(words.w), high(words.w)));
  }
  __device__ static float of(float value) { return value * value; }
};
struct Values {
  __device__ static float of(const uint4& words, const float* /*type*/) {
    const float4 v = floats_of(words);
    return (v.x + v.y) + (v.z + v.w);
  }
  __device__ static float of(float value) { return value; }
};

template <class Term, class T>
__global__ void __launch_bounds__(kThreads)
    parts_kernel(const T* values, std::int64_t count, float* parts) {
  constexpr int kEach = 16 / static_cast<int>(sizeof(T));
  constexpr int kAtATime = 4;
  constexpr std::int64_t kStride = std::int64_t{kSumParts} * kThreads;
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
    for (int k = 0; k < kAtATime; ++k) sums[k] += Term::of(words[k], values);
  }
  for (; i < vectors; i += kStride) sums[0] += Term::of(all[i], values);
  const std::int64_t rest = vectors * kEach + thread;
  if (rest < count) sums[1] += Term::of(to_float(values[rest]));

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

// The blocks of a kernel that are resident at a time: more would leave the last of them on an empty
// device. Asked once, of the device of the first step.
template <auto kKernel>
cudaError_t resident_blocks(unsigned& blocks) {
  static unsigned known = 0;
  int device = 0;
  int processors = 0;
  int of_each = 0;
  cudaError_t status = cudaSuccess;
  if (known == 0) {
    status = cudaGetDevice(&device);
    if (status == cudaSuccess) {
      status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    }
    if (status == cudaSuccess) {
      status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_each, kKernel, kStepThreads, 0);
    }
    if (status == cudaSuccess) known = static_cast<unsigned>(processors * of_each);
  }
  blocks = known;
  return status;
}

template <auto kKernel, class T>
cudaError_t launch_step(const AdamRule& rule, const AdamWeight& weight,
                        const GradientRows<T>& gradient, std::int64_t needed, float* squares,
                        cudaStream_t stream) {
  unsigned resident = 0;
  const cudaError_t status = resident_blocks<kKernel>(resident);
  if (status != cudaSuccess) return status;
  const auto grid = static_cast<unsigned>(std::min<std::int64_t>(needed, resident));
  kKernel<<<grid, kStepThreads, 0, stream>>>(
      rule, weight, gradient, static_cast<unsigned>(moment_groups(weight.cols)), squares);
  return cudaGetLastError();
}

}  // namespace

// The kernels count eights in 32 bits, and step a grid beyond the last.
constexpr std::int64_t kMostEights = UINT_MAX / 2;

template <class T>
cudaError_t adam_step(AdamProfile profile, const AdamRule& rule, const AdamWeight& weight,
                      const GradientRows<T>& gradient, float* squares, cudaStream_t stream) {
  const bool shaped =
      weight.cols > 0 && weight.cols % kNvfp4Block == 0 && weight.cols < INT_MAX / 2;
  if (!shaped || !has_rows(gradient, weight.rows) || !has_states(profile, weight) ||
      weight.rows > kMostEights / (weight.cols / kEach)) {
    return cudaErrorInvalidValue;
  }
  const std::int64_t groups = moment_groups(weight.cols);
  const std::int64_t tasks = profile == AdamProfile::kMin
                                 ? gradient.rows.count
                                 : (gradient.rows.count * groups + 1) / kGroupsOfWarp;
  const std::int64_t needed = (tasks + kStepWarps - 1) / kStepWarps;
  switch (profile) {
    case AdamProfile::kFp32:
      return launch_step<group_kernel<AdamProfile::kFp32, T>>(rule, weight, gradient, needed,
                                                              squares, stream);
    case AdamProfile::kExact:
      return launch_step<group_kernel<AdamProfile::kExact, T>>(rule, weight, gradient, needed,
                                                               squares, stream);
    case AdamProfile::kDefault:
      return launch_step<group_kernel<AdamProfile::kDefault, T>>(rule, weight, gradient, needed,
                                                                 squares, stream);
    case AdamProfile::kMin:
      return launch_step<row_kernel<T>>(rule, weight, gradient, needed, squares, stream);
  }
  return cudaErrorInvalidValue;
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

template <class Term, class T>
cudaError_t sum_parts(const T* values, std::int64_t count, float* parts, cudaStream_t stream) {
  if (count <= 0 || !usable(values) || parts == nullptr) return cudaErrorInvalidValue;
  parts_kernel<Term><<<kSumParts, kThreads, 0, stream>>>(values, count, parts);
  return cudaGetLastError();
}

template <class T>
cudaError_t sum_of_squares(const T* values, std::int64_t count, float* parts, cudaStream_t stream) {
  return sum_parts<Squares>(values, count, parts, stream);
}
cudaError_t sum(const float* values, std::int64_t count, float* parts, cudaStream_t stream) {
  return sum_parts<Values>(values, count, parts, stream);
}

#define QF_GRADIENT_TYPE(T)                                                                        \
  template cudaError_t adam_step(AdamProfile, const AdamRule&, const AdamWeight&,                  \
                                 const GradientRows<T>&, float*, cudaStream_t);                    \
  template cudaError_t add_column_squares(const AdamRule&, const ColumnSquares&,                   \
                                          const GradientRows<T>&, cudaStream_t);                   \
  template cudaError_t adam_dense_step(const AdamRule&, const AdamDense&, const T*, cudaStream_t); \
  template cudaError_t sum_of_squares(const T*, std::int64_t, float*, cudaStream_t);
QF_GRADIENT_TYPE(float)
QF_GRADIENT_TYPE(std::uint16_t)

}  // namespace qf::cuda
