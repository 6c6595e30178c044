#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/kernels/rounded.h"

// The arithmetic of choosing a token, shared by kernels/cpu/sample.h and kernels/cuda/sample.h, so
// that both choose the same one. A token's weight is exp(score) in fixed point: sums of integers do
// not depend on their order, so the cuts and the draw come out alike however the work is split.
// C++17, for nvcc reads this header.
namespace qf {

// Penalty, temperature, top-k, top-p, min-p apply in this order, as in transformers.
struct SampleRule {
  double temperature;  // >= 0; 0: the best token (of equals the lowest id), nothing else counts
                       // but the penalty
  std::int64_t top_k;  // 0: off; tokens that tie with the k-th stay
  double top_p;        // 0 .. 1; 1: off; the best token always stays; of equals the lowest ids
  double min_p;        // 0 .. 1; 0: off; relative to the best token
  float repetition_penalty;  // > 0; 1: off
};
constexpr bool operator==(const SampleRule& a, const SampleRule& b) {
  return a.temperature == b.temperature && a.top_k == b.top_k && a.top_p == b.top_p &&
         a.min_p == b.min_p && a.repetition_penalty == b.repetition_penalty;
}
constexpr bool operator!=(const SampleRule& a, const SampleRule& b) { return !(a == b); }

enum class SampleStatus : std::uint32_t {
  kChosen = 0,
  kNonFiniteLogits = 1,
  kNoTokenAllowed = 2,
  kNoDrawLeft = 3,  // device only: more steps than draws were made for
};

// Weights end at 2^43, that of the best token, so that kSampleMaxVocab of them sum up in 63 bits.
// What has less than 2^-44 of the best token's probability is never drawn.
inline constexpr int kSampleWeightBits = 43;
inline constexpr std::int64_t kSampleMaxVocab = std::int64_t{1} << 19;

// A logit after the penalty; what overflows becomes the largest number.
QF_HD constexpr float penalised_logit(float logit, float penalty) {
  const float value = logit < 0 ? logit * penalty : logit / penalty;
  constexpr float kLargest = 0x1.FFFFFEp127F;
  return value > kLargest ? kLargest : (value < -kLargest ? -kLargest : value);
}

// Finite logits as integers in the same order, 0 and -0 alike. No logit has the key 0.
QF_HD constexpr std::uint32_t sample_key(float logit) {
  const std::uint32_t bits = float_bits(logit + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
QF_HD constexpr float logit_of_key(std::uint32_t key) {
  return float_from_bits((key & 0x80000000U) != 0 ? key & 0x7FFFFFFFU : ~key);
}
static_assert(sample_key(-0.0F) == sample_key(0.0F) && sample_key(-1.0F) < sample_key(0.0F) &&
                  sample_key(1.0F) < sample_key(1.5F) && sample_key(-2.0F) < sample_key(-1.0F),
              "order");
static_assert(logit_of_key(sample_key(-3.25F)) == -3.25F && logit_of_key(sample_key(7.5F)) == 7.5F,
              "there and back");

// round(2^43 exp(score)) for score <= 0, but 0 below -32, where it rounds to 0 anyway. Our own
// series, of plain products and sums, because exp() differs between libraries and devices; it errs
// by less than 2^-50.
QF_HD constexpr std::uint64_t fixed_exp(double score) {
  if (!(score > -32.0)) return 0;
  constexpr double kLog2E = 0x1.71547652B82FEp0;
  // ln 2 in two parts, of which the first has bits to spare: n times it is exact.
  constexpr double kLn2High = 0x1.62E42FEE00000p-1;
  constexpr double kLn2Low = 0x1.A39EF35793C76p-33;
  const int whole = static_cast<int>(rounded_sum(rounded_product(score, kLog2E), -0.5));
  const double n = whole;
  const double r =
      rounded_sum(rounded_sum(score, -rounded_product(n, kLn2High)), -rounded_product(n, kLn2Low));
  // 1 / 12!, 1 / 11!, ..., 1; |r| <= ln 2 / 2.
  constexpr double kSeries[] = {0x1.1EED8EFF8D898p-29,
                                0x1.AE64567F544E4p-26,
                                0x1.27E4FB7789F5Cp-22,
                                0x1.71DE3A556C734p-19,
                                0x1.A01A01A01A01Ap-16,
                                0x1.A01A01A01A01Ap-13,
                                0x1.6C16C16C16C17p-10,
                                0x1.1111111111111p-7,
                                0x1.5555555555555p-5,
                                0x1.5555555555555p-3,
                                0x1p-1,
                                1,
                                1};
  double sum = 0;
  for (const double term : kSeries) sum = rounded_sum(rounded_product(sum, r), term);
  const auto exponent = static_cast<std::uint64_t>(1023 + kSampleWeightBits + whole);
  const double scale = __builtin_bit_cast(double, exponent << 52U);
  return static_cast<std::uint64_t>(rounded_sum(rounded_product(sum, scale), 0.5));
}
static_assert(fixed_exp(0) == std::uint64_t{1} << kSampleWeightBits && fixed_exp(-40) == 0, "ends");

QF_HD constexpr std::uint64_t sample_weight(float logit, float best, double temperature) {
  return fixed_exp((static_cast<double>(logit) - static_cast<double>(best)) / temperature);
}

// The least integer >= value, value < 2^63.
QF_HD constexpr std::uint64_t ceil_to_integer(double value) {
  const auto down = static_cast<std::uint64_t>(value);
  return static_cast<double>(down) < value ? down + 1 : down;
}
// top-p keeps the fewest tokens of the largest weights that reach this much of `total`.
QF_HD constexpr std::uint64_t top_p_target(double top_p, std::uint64_t total) {
  const std::uint64_t target = ceil_to_integer(rounded_product(top_p, static_cast<double>(total)));
  return target < 1 ? 1 : (target > total ? total : target);
}
// min-p keeps the weights from here on.
QF_HD constexpr std::uint64_t min_p_weight(double min_p) {
  return ceil_to_integer(rounded_product(min_p, 0x1p43));
}
// floor(draw * total) for a draw of 53 bits in [0, 1): the first token whose weight, with those of
// the lower ids, exceeds it is chosen.
QF_HD constexpr std::uint64_t draw_target(double draw, std::uint64_t total) {
  __extension__ typedef unsigned __int128 Wide;
  return static_cast<std::uint64_t>(
      (static_cast<Wide>(static_cast<std::uint64_t>(draw * 0x1p53)) * total) >> 53U);
}
static_assert(draw_target(0.5, 9) == 4 &&
                  draw_target(0x1.FFFFFFFFFFFFFp-1, 1ULL << 62U) < (1ULL << 62U),
              "below the total");
// A draw of 53 of the generator's 64 bits; std::uniform_real_distribution differs between
// libraries.
constexpr double draw_from_bits(std::uint64_t bits) {
  return static_cast<double>(bits >> 11U) * 0x1p-53;
}

// Bit `id` of a set of token ids in words of 32.
constexpr std::int64_t id_set_words(std::int64_t vocab) { return (vocab + 31) / 32; }
QF_HD constexpr bool id_in_set(const std::uint32_t* words, std::int64_t id) {
  return (words[id / 32] >> (static_cast<unsigned>(id) % 32U) & 1U) != 0;
}

}  // namespace qf
