#include "qwen3fp4/kernels/cpu/adam_step.h"

#include <algorithm>

#include "lanes.h"

// One group of 128 elements at a time, in loops over plain arrays that the compiler turns into
// vectors of each instruction set.
namespace qf {
namespace {

constexpr int kGroup = static_cast<int>(kMomentGroup);
constexpr int kBlock = static_cast<int>(kNvfp4Block);
constexpr int kQuads = kGroup / 4;

using Floats = float[kGroup];
using Codes = std::int32_t[kGroup];
using Words = std::uint32_t[kGroup];

// Where a group is.
struct Place {
  std::int64_t row;
  std::int64_t element;  // of the whole weight: row * cols + column
  std::int64_t group;    // of the whole weight
  int count;             // elements: a multiple of 16
};

QF_INLINE float to_float(float value) { return value; }
QF_INLINE float to_float(std::uint16_t bf16) {
  return float_from_bits(static_cast<std::uint32_t>(bf16) << 16U);
}

QF_INLINE void unpack_nibbles(const std::uint8_t* bytes, int count, Codes& codes) {
  for (int i = 0; i < count / 2; ++i) {
    codes[2 * i] = bytes[i] & 0xF;
    codes[2 * i + 1] = bytes[i] >> 4;
  }
}
QF_INLINE void pack_nibbles(const Codes& codes, int count, std::uint8_t* bytes) {
  for (int i = 0; i < count / 2; ++i) {
    bytes[i] = static_cast<std::uint8_t>((codes[2 * i] & 0xF) | (codes[2 * i + 1] & 0xF) << 4);
  }
}

QF_INLINE float largest_magnitude(const Floats& values, int count) {
  std::int32_t largest = 0;
  for (int i = 0; i < count; ++i) {
    const auto bits = static_cast<std::int32_t>(float_bits(magnitude(values[i])));
    largest = bits > largest ? bits : largest;
  }
  return float_from_bits(static_cast<std::uint32_t>(largest));
}

// Of each element.
struct Draws {
  Words first, second, position;
};

// Round by round over all quads, so that each round is a loop of vectors.
QF_INLINE void draw_words(const AdamRule& rule, const Place& at, Draws& draws) {
  std::uint32_t a[kQuads], b[kQuads], c[kQuads], d[kQuads];
  for (int q = 0; q < kQuads; ++q) {
    const PhiloxWords counter = quad_counter(rule, at.element / 4 + q);
    a[q] = counter.a;
    b[q] = counter.b;
    c[q] = counter.c;
    d[q] = counter.d;
  }
  PhiloxKey key = rule.seed;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    for (int q = 0; q < kQuads; ++q) {
      const PhiloxWords next = philox_round({a[q], b[q], c[q], d[q]}, key);
      a[q] = next.a;
      b[q] = next.b;
      c[q] = next.c;
      d[q] = next.d;
    }
    key = next_philox_key(key);
  }
  const auto interleave = [](const auto& w, const auto& x, const auto& y, const auto& z,
                             Words& words) {
    for (int q = 0; q < kQuads; ++q) {
      words[4 * q] = w[q];
      words[4 * q + 1] = x[q];
      words[4 * q + 2] = y[q];
      words[4 * q + 3] = z[q];
    }
  };
  interleave(a, b, c, d, draws.first);
  interleave(b, c, d, a, draws.second);
  interleave(c, d, a, b, draws.position);
}

template <AdamProfile kProfile>
inline constexpr int kSecondBits = kProfile == AdamProfile::kExact ? 8 : 4;
// Whose v is stored in codes, in units of which m is.
template <AdamProfile kProfile>
inline constexpr bool kHasSecondCodes =
    kProfile == AdamProfile::kExact || kProfile == AdamProfile::kDefault;

// Codes of m or v: bytes in kExact, else nibbles.
template <AdamProfile kProfile>
QF_INLINE void load_codes(const std::uint8_t* from, const Place& at, Codes& codes) {
  if constexpr (kProfile == AdamProfile::kExact) {
    const std::uint8_t* const stored = from + at.element;
    for (int i = 0; i < at.count; ++i) codes[i] = stored[i];
  } else {
    unpack_nibbles(from + at.element / 2, at.count, codes);
  }
}
template <AdamProfile kProfile>
QF_INLINE void store_codes(const Codes& codes, const Place& at, std::uint8_t* to) {
  if constexpr (kProfile == AdamProfile::kExact) {
    std::uint8_t* const stored = to + at.element;
    for (int i = 0; i < at.count; ++i) stored[i] = static_cast<std::uint8_t>(codes[i]);
  } else {
    pack_nibbles(codes, at.count, to + at.element / 2);
  }
}

// m and v after the step, from what is stored.
template <AdamProfile kProfile>
QF_INLINE void next_moments(const AdamRule& rule, const AdamWeight& w, const Place& at,
                            const Floats& gradient, Floats& m, Floats& v) {
  const float first = first_share(rule);
  const float second = second_share(rule);
  if constexpr (kProfile == AdamProfile::kFp32) {
    for (int i = 0; i < at.count; ++i) {
      const std::int64_t element = at.element + i;
      m[i] = next_first_moment(rounded_product(rule.beta1, w.m[element]), first, gradient[i]);
      v[i] = next_second_moment(rounded_product(rule.beta2, w.v[element]), second, gradient[i]);
    }
    return;
  }
  Codes codes;
  Floats power;
  if constexpr (kHasSecondCodes<kProfile>) {
    constexpr int kBits = kSecondBits<kProfile>;
    load_codes<kProfile>(w.v_codes, at, codes);
    const float kept = kept_second_scale<kBits>(rule, geometric_base<kBits>(w.v_scales[at.group]));
    for (int i = 0; i < at.count; ++i) {
      power[i] = geometric_power<kBits>(codes[i]);
      const float square = rounded_product(power[i], power[i]);
      v[i] = next_second_moment(rounded_product(square, kept), second, gradient[i]);
    }
  } else {
    const float* const columns = w.v_columns + (at.element - at.row * w.cols);
    const float kept = rounded_product(rule.beta2, w.v_rows[at.row]);
    for (int i = 0; i < at.count; ++i) {
      v[i] = next_second_moment(rounded_product(kept, columns[i]), second, gradient[i]);
    }
  }
  load_codes<kProfile>(w.m_codes, at, codes);
  const float kept = kept_first_scale(rule, w.m_scales[at.group]);
  for (int i = 0; i < at.count; ++i) {
    float value = kProfile == AdamProfile::kExact ? int8_value(codes[i]) : e2m1_value(codes[i]);
    if constexpr (kHasSecondCodes<kProfile>) value = rounded_product(value, power[i]);
    m[i] = next_first_moment(rounded_product(value, kept), first, gradient[i]);
  }
}

// Moves a group's positions against `direction` and rounds them.
template <AdamProfile kProfile>
QF_INLINE void move(const AdamRule& rule, const AdamWeight& w, const Place& at,
                    const Floats& direction, const Words& words) {
  Codes codes;
  unpack_nibbles(w.codes + at.element / 2, at.count, codes);
  const float step = step_rate(rule);
  Floats rate;
  for (int i = 0; i < at.count; i += kBlock) {
    const float block = inverse_scale(w.scales_e4m3[(at.element + i) / kBlock], w.global_scale);
    const float of_block = rounded_product(step, block);
    for (int j = 0; j < kBlock; ++j) rate[i + j] = of_block;
  }
  if constexpr (kProfile == AdamProfile::kFp32) {
    for (int i = 0; i < at.count; ++i) {
      float& y = w.position[at.element + i];
      y = moved_position(rule, y, direction[i], rate[i]);
      codes[i] = cell_code(magnitude(y)) | sign_code(y);
    }
  } else if constexpr (kProfile == AdamProfile::kMin) {
    for (int i = 0; i < at.count; ++i) {
      const float y = moved_position(rule, e2m1_value(codes[i]), direction[i], rate[i]);
      codes[i] = draw_e2m1(y, first_draw(words[i]));
    }
  } else {
    constexpr std::int32_t kLevels = kProfile == AdamProfile::kExact ? 4096 : 256;
    Codes residual;
    if constexpr (kProfile == AdamProfile::kExact) {
      unpack_nibbles(w.residual_high + at.element / 2, at.count, residual);
      for (int i = 0; i < at.count; ++i) residual[i] <<= 8;
    } else {
      std::fill_n(residual, at.count, 0);
    }
    std::uint8_t* const low = w.residual + at.element;
    for (int i = 0; i < at.count; ++i) residual[i] |= low[i];
    for (int i = 0; i < at.count; ++i) {
      const float y = moved_position(rule, position_value<kLevels>({codes[i], residual[i]}),
                                     direction[i], rate[i]);
      const Position moved = round_position<kLevels>(y, position_share<kLevels>(words[i]));
      codes[i] = moved.code;
      residual[i] = moved.residual;
    }
    for (int i = 0; i < at.count; ++i) low[i] = static_cast<std::uint8_t>(residual[i]);
    if constexpr (kProfile == AdamProfile::kExact) {
      for (int i = 0; i < at.count; ++i) residual[i] >>= 8;
      pack_nibbles(residual, at.count, w.residual_high + at.element / 2);
    }
  }
  pack_nibbles(codes, at.count, w.codes + at.element / 2);
}

// Leaves in `m` what is stored of it by the codes of v.
template <AdamProfile kProfile>
QF_INLINE void store_second_moments(const AdamWeight& w, const Place& at, const Floats& root,
                                    const Words& words, Floats& m) {
  constexpr int kBits = kSecondBits<kProfile>;
  const GroupScale group = second_moment_scale<kBits>(largest_magnitude(root, at.count));
  w.v_scales[at.group] = group.scale;
  Codes codes;
  for (int i = 0; i < at.count; ++i) {
    codes[i] = draw_geometric<kBits>(rounded_product(root[i], group.inverse),
                                     second_threshold<kBits>(words[i]));
  }
  for (int i = 0; i < at.count; ++i) {
    m[i] = rounded_product(m[i], geometric_inverse<kBits>(codes[i]));
  }
  store_codes<kProfile>(codes, at, w.v_codes);
}

template <AdamProfile kProfile>
QF_INLINE void store_first_moments(const AdamWeight& w, const Place& at, const Floats& m,
                                   const Words& words) {
  constexpr bool kEightBits = kProfile == AdamProfile::kExact;
  const GroupScale group =
      first_moment_scale(largest_magnitude(m, at.count), kEightBits ? kInt8Max : kE2M1Max);
  w.m_scales[at.group] = group.scale;
  Codes codes;
  for (int i = 0; i < at.count; ++i) {
    const float value = rounded_product(m[i], group.inverse);
    const std::uint32_t draw = first_draw(words[i]);
    codes[i] = kEightBits ? draw_int8(value, draw) : draw_e2m1(value, draw);
  }
  store_codes<kProfile>(codes, at, w.m_codes);
}

template <AdamProfile kProfile>
QF_INLINE void step_group(const AdamRule& rule, const AdamWeight& w, const Place& at,
                          const Floats& gradient) {
  Floats m, v, root, direction;
  next_moments<kProfile>(rule, w, at, gradient, m, v);
  for (int i = 0; i < at.count; ++i) {
    root[i] = kProfile == AdamProfile::kDefault ? root_of_least(v[i]) : root_of_second(v[i]);
  }
  const float least = least_root(rule);
  for (int i = 0; i < at.count; ++i) direction[i] = adam_direction(m[i], root[i], least);
  Draws draws;
  if constexpr (kProfile != AdamProfile::kFp32) draw_words(rule, at, draws);
  move<kProfile>(rule, w, at, direction, draws.position);
  if constexpr (kProfile == AdamProfile::kFp32) {
    std::copy_n(m, at.count, w.m + at.element);
    std::copy_n(v, at.count, w.v + at.element);
  } else {
    if constexpr (kHasSecondCodes<kProfile>) {
      store_second_moments<kProfile>(w, at, root, draws.second, m);
    }
    store_first_moments<kProfile>(w, at, m, draws.first);
  }
}

QF_INLINE float sum_of_squares(const Floats& gradient, int count) {
  constexpr int kEach = kGroup / kGroupSumLanes;
  float lanes[kGroupSumLanes] = {};
  for (int j = 0; j < kEach; ++j) {
    for (int lane = 0; lane < count / kEach; ++lane) {
      lanes[lane] = added_square(lanes[lane], gradient[lane * kEach + j]);
    }
  }
  return sum_of_lanes(lanes);
}

template <AdamProfile kProfile, class T>
QF_INLINE void step_rows(const AdamRule& rule, const AdamWeight& w, const GradientRows<T>& in,
                         float* group_squares) {
  const std::int64_t groups = moment_groups(w.cols);
  for (std::int64_t i = 0; i < in.rows.count; ++i) {
    const std::int64_t row = in.rows.first + i;
    float squares[kSumLanes] = {};
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t col = group * kMomentGroup;
      const Place at{row, row * w.cols + col, row * groups + group,
                     static_cast<int>(std::min(kMomentGroup, w.cols - col))};
      const T* const values = in.values + i * w.cols + col;
      Floats gradient;
      for (int j = 0; j < at.count; ++j) gradient[j] = to_float(values[j]);
      step_group<kProfile>(rule, w, at, gradient);
      if (group_squares != nullptr)
        group_squares[i * groups + group] = sum_of_squares(gradient, at.count);
      if constexpr (kProfile == AdamProfile::kMin) {
        for (int j = 0; j < at.count; ++j) {
          float& sum = squares[sum_lane(group, j)];
          sum = added_square(sum, rounded_product(rule.gradient_scale, gradient[j]));
        }
      }
    }
    if constexpr (kProfile == AdamProfile::kMin) {
      w.v_rows[row] = next_mean(rule, w.v_rows[row], sum_of_lanes(squares), w.cols);
    }
  }
}

template <class T>
QF_INLINE void step_profile(AdamProfile profile, const AdamRule& rule, const AdamWeight& w,
                            const GradientRows<T>& in, float* squares) {
  switch (profile) {
    case AdamProfile::kFp32:
      return step_rows<AdamProfile::kFp32>(rule, w, in, squares);
    case AdamProfile::kExact:
      return step_rows<AdamProfile::kExact>(rule, w, in, squares);
    case AdamProfile::kDefault:
      return step_rows<AdamProfile::kDefault>(rule, w, in, squares);
    case AdamProfile::kMin:
      return step_rows<AdamProfile::kMin>(rule, w, in, squares);
  }
}

#if QF_X86
template <class T>
QF_TARGET_AVX2 void step_avx2(AdamProfile profile, const AdamRule& rule, const AdamWeight& w,
                              const GradientRows<T>& in, float* squares) {
  step_profile(profile, rule, w, in, squares);
}
template <class T>
QF_TARGET_AVX512 void step_avx512(AdamProfile profile, const AdamRule& rule, const AdamWeight& w,
                                  const GradientRows<T>& in, float* squares) {
  step_profile(profile, rule, w, in, squares);
}
#endif

template <class T>
void step(AdamProfile profile, const AdamRule& rule, const AdamWeight& w, const GradientRows<T>& in,
          float* squares, CpuIsa isa) {
#if QF_X86
  if (isa == CpuIsa::kAvx512) return step_avx512(profile, rule, w, in, squares);
  if (isa == CpuIsa::kAvx2) return step_avx2(profile, rule, w, in, squares);
#endif
  static_cast<void>(isa);
  step_profile(profile, rule, w, in, squares);
}

}  // namespace

void adam_step(AdamProfile profile, const AdamRule& rule, const AdamWeight& weight,
               const GradientRows<float>& gradient, float* squares, CpuIsa isa) {
  step(profile, rule, weight, gradient, squares, isa);
}

void adam_step(AdamProfile profile, const AdamRule& rule, const AdamWeight& weight,
               const GradientRows<std::uint16_t>& gradient, float* squares, CpuIsa isa) {
  step(profile, rule, weight, gradient, squares, isa);
}

}  // namespace qf
