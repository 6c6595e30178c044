#include "qwen3fp4/memory/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recorded_machine.h"

namespace qf {
namespace {

using test::kGiB;
using testing::HasSubstr;

MemoryPlan plan_of(std::int64_t tokens) {
  return {.in_use = kGiB,
          .held = {{"weights", 4 * kGiB}, {"keys and values", tokens * kGiB}},
          .phases = {{"prompt", 2 * kGiB}, {"logits", kGiB}}};
}

TEST(MemoryPlan, TakesTheLargestPhaseBesideWhatIsHeld) {
  EXPECT_EQ(plan_of(3).peak(), 9 * kGiB);
  EXPECT_EQ(plan_of(3).process_peak(), 10 * kGiB);
}

TEST(MemoryPlan, IsComparedWithThePoolsOfItsMemory) {
  const std::vector<MemoryPool> pools{
      {.kind = PoolKind::kMachine, .used = 2 * kGiB, .limit = 8 * kGiB},
      {.kind = PoolKind::kCgroup, .used = 2 * kGiB, .limit = 7 * kGiB},
      {.kind = PoolKind::kDevice, .used = kGiB, .limit = 80 * kGiB}};
  EXPECT_EQ(pool_too_small(plan_of(3), pools, true), nullptr);
  const auto* const pool = pool_too_small(plan_of(3), pools, false);
  ASSERT_NE(pool, nullptr);
  EXPECT_EQ(pool->kind, PoolKind::kCgroup) << "the one with the least left";
  const std::vector<MemoryPool> shared{{.kind = PoolKind::kShared, .used = 0, .limit = 8 * kGiB}};
  EXPECT_NE(pool_too_small(plan_of(3), shared, true), nullptr);
  EXPECT_NE(pool_too_small(plan_of(3), shared, false), nullptr);
}

TEST(MemoryPlan, FindsTheLargestThatFits) {
  for (std::int64_t left = 6; left < 30; ++left) {
    const std::vector<MemoryPool> pools{
        {.kind = PoolKind::kMachine, .used = kGiB, .limit = (left + 1) * kGiB}};
    EXPECT_EQ(largest_that_fits(1, 20, pools, false, plan_of),
              left < 7 ? 0 : std::min<std::int64_t>(20, left - 6))
        << left;
  }
}

TEST(MemoryPlan, IsATable) {
  EXPECT_THAT(plan_table(plan_of(3)), HasSubstr("peak of tensors"));
  EXPECT_THAT(plan_table(plan_of(3)), HasSubstr("10737.4 MB\n"));
}

}  // namespace
}  // namespace qf
