// What ab_check holds, counted where libtorch allocates.
#include <gtest/gtest.h>

#include <cstdint>

#include "../model/counting_allocator.h"
#include "qwen3fp4/check/ab_check.h"
#include "random_model.h"

namespace qf {
namespace {

using test::random_ids;
using test::RandomModel;

constexpr std::int64_t kTokens = 64;

std::size_t peak_of(const Qwen3Model& model, Schedule schedule, AbMode mode) {
  const auto ids = random_ids(model, kTokens, 1);
  const test::CountingAllocator counting;
  (void)ab_check({.model = &model, .path = {.backend = "reference"}},
                 {.model = &model, .path = {.backend = "reference", .schedule = schedule}}, ids,
                 {.mode = mode});
  return counting.peak();
}

// A replay of a beginning holds neither a cache nor tables of its own, only (chained) hidden
// states. The tenths are for copies: one piece's values beside those that are kept.
TEST(Memory, OfReplaysIsThatOfOtherSchedules) {
  const Qwen3Model model = RandomModel{.seed = 1, .layers = 6}.make();
  const std::size_t whole = peak_of(model, Schedule::kWhole, AbMode::kIsolated);
  EXPECT_LE(peak_of(model, Schedule::kReplay, AbMode::kIsolated), whole * 11 / 10);
  const auto hidden_states =
      static_cast<std::size_t>(kTokens * (kTokens + 1) / 2 * model.config().hidden_size) *
      sizeof(float);
  const std::size_t whole_chained = peak_of(model, Schedule::kWhole, AbMode::kChained);
  EXPECT_LE(peak_of(model, Schedule::kReplay, AbMode::kChained),
            whole_chained * 12 / 10 + hidden_states);
}

}  // namespace
}  // namespace qf
