#include "qwen3fp4/model/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden.h"
#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

TEST(KvCache, StoresBehindWhatIsThere) {
  const ModelConfig config = read_golden("qwen3_tied_gqa4").config;
  KvCache cache(config, 5);
  const auto k = at::rand({3, 1, 16});
  const auto v = at::rand({3, 1, 16});
  for (std::int64_t layer = 0; layer < 2; ++layer) (void)cache.store(layer, 0, k, v);
  cache.advance(3);
  const auto more = at::rand({2, 1, 16});
  const auto [keys, values] = cache.store(1, 3, more, more);
  EXPECT_TRUE(at::equal(keys, at::cat({k, more})));
  EXPECT_TRUE(at::equal(values, at::cat({v, more})));
  EXPECT_EQ(cache.length(), 3);
  EXPECT_EQ(cache.bytes(), 2 * 2 * 5 * 16 * 4);
}

TEST(KvCache, StoresInTheTypeItWasMadeFor) {
  KvCache cache(read_golden("qwen3_tied_gqa4").config, 5, at::kBFloat16);
  const auto k = at::rand({3, 1, 16});
  const auto v = at::rand({3, 1, 16});
  const auto [keys, values] = cache.store(1, 0, k, v);
  EXPECT_TRUE(at::equal(keys, k.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(values, v.to(at::kBFloat16)));
  EXPECT_EQ(cache.bytes(), 2 * 2 * 5 * 16 * 2);
  // In place where kernels look for them: [layer, head, position].
  EXPECT_TRUE(at::equal(cache.keys()[1][0].narrow(0, 0, 3), k.to(at::kBFloat16).squeeze(1)));
}

TEST(KvCache, PiecesOfAPromptMayGoThroughALayerBeforeTheNext) {
  KvCache cache(read_golden("qwen3_tied_gqa4").config, 5);
  const auto k = at::rand({2, 1, 16});
  (void)cache.store(0, 0, k, k);
  const auto later = at::rand({2, 1, 16});
  EXPECT_TRUE(at::equal(cache.store(0, 2, later, later).first, at::cat({k, later})));
  cache.advance(2);
  EXPECT_THROW((void)cache.store(1, 1, later, later), Error);  // would change what counts already
}

TEST(KvCache, OverflowNamesTheOption) {
  KvCache cache(read_golden("qwen3_tied_gqa4").config, 4);
  const auto k = at::rand({5, 1, 16});
  try {
    (void)cache.store(0, 0, k, k);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "context full: position 5 of a cache of 4 tokens (--context)");
  }
  EXPECT_THROW(cache.advance(5), Error);
  EXPECT_THROW(cache.truncate(1), Error);
}

TEST(KvCache, AnAbsurdSizeIsRefused) {
  const ModelConfig config = read_golden("qwen3_tied_gqa4").config;
  EXPECT_THROW(KvCache(config, 0), Error);
  EXPECT_THROW(KvCache(config, std::int64_t{1} << 62), Error);
}

}  // namespace
}  // namespace qf
