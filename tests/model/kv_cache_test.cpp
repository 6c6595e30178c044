#include "qwen3fp4/model/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "golden.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/kernels/kv_row.h"

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

// What fp8 leaves of [T, K, E], by the definition of a row.
at::Tensor rounded_to_fp8(const at::Tensor& x_TKE) {
  auto out = x_TKE.clone();
  const std::int64_t width = x_TKE.size(2);
  auto* const values = out.mutable_data_ptr<float>();
  for (std::int64_t first = 0; first < out.numel(); first += width) {
    float largest = 0;
    for (std::int64_t i = 0; i < width; ++i) {
      largest = std::max(largest, std::abs(values[first + i]));
    }
    const float scale = largest / 448.0F;
    for (std::int64_t i = 0; i < width; ++i) {
      float& value = values[first + i];
      value = e4m3_to_float(e4m3_from_float(value / scale)) * scale;
    }
  }
  return out;
}

TEST(KvCache, AttentionReadsWhatFp8Keeps) {
  const ModelConfig config = read_golden("qwen3_untied_gqa8").config;
  const std::int64_t heads = config.num_key_value_heads;
  constexpr std::int64_t kContext = 600;  // more than one task's rows
  KvCache cache(config, kContext, at::kFloat, KvCacheType::kFp8);
  const auto k = at::randn({500, heads, config.head_dim});
  const auto v = at::randn({500, heads, config.head_dim}) * 30;
  (void)cache.store(1, 0, k.narrow(0, 0, 300), v.narrow(0, 0, 300));
  const auto [keys, values] = cache.store(1, 300, k.narrow(0, 300, 200), v.narrow(0, 300, 200));
  const auto k_rounded = rounded_to_fp8(k);
  const auto v_rounded = rounded_to_fp8(v);
  EXPECT_TRUE(at::equal(keys, k_rounded));
  EXPECT_TRUE(at::equal(values, v_rounded));
  // The layers are apart.
  const auto other = at::randn({1, heads, config.head_dim});
  EXPECT_TRUE(at::equal(cache.store(0, 0, other, other).first, rounded_to_fp8(other)));
  const auto again = cache.store(1, 499, k.narrow(0, 499, 1), v.narrow(0, 499, 1));
  EXPECT_TRUE(at::equal(again.first, k_rounded));
  const auto q = at::randn({7, config.num_attention_heads, config.head_dim});
  for (const std::string_view name : {"reference", "cpu"}) {
    const auto backend = make_backend(name);
    EXPECT_TRUE(at::equal(backend->attention(q, again.first, again.second),
                          backend->attention(q, k_rounded, v_rounded)));
  }
}

TEST(KvCache, ARowThatIsNotFiniteStaysOne) {
  const ModelConfig config = read_golden("qwen3_tied_gqa4").config;
  KvCache cache(config, 4, at::kFloat, KvCacheType::kFp8);
  auto k = at::ones({3, 1, 16});
  k[1][0][5] = std::numeric_limits<float>::infinity();
  k[2][0].zero_();
  const auto [keys, values] = cache.store(0, 0, k, k);
  EXPECT_TRUE(at::equal(keys[0], k[0]));
  EXPECT_TRUE(keys[1].isnan().all().item<bool>());
  EXPECT_TRUE(at::equal(keys[2], k[2]));
}

TEST(KvCache, StoresInAnotherTypeThanAttentionReads) {
  const ModelConfig config = read_golden("qwen3_tied_gqa4").config;
  const auto k = at::randn({3, 1, 16});
  const auto v = at::randn({3, 1, 16});
  for (const auto& [type, stored] :
       {std::pair{KvCacheType::kF16, at::kHalf}, {KvCacheType::kBF16, at::kBFloat16}}) {
    KvCache cache(config, 5, at::kFloat, type);
    (void)cache.store(1, 0, k.narrow(0, 0, 2), v.narrow(0, 0, 2));
    const auto [keys, values] = cache.store(1, 2, k.narrow(0, 2, 1), v.narrow(0, 2, 1));
    EXPECT_EQ(cache.keys().scalar_type(), stored);
    EXPECT_TRUE(at::equal(keys, k.to(stored).to(at::kFloat)));
    EXPECT_TRUE(at::equal(values, v.to(stored).to(at::kFloat)));
  }
}

TEST(KvCache, TakesTheBytesThatWereForeseen) {
  const ModelConfig config = read_golden("qwen3_untied_gqa8").config;
  const std::int64_t rows = 2 * config.num_hidden_layers * config.num_key_value_heads;
  for (const auto& [type, row_bytes] : {std::pair{KvCacheType::kAuto, 4 * config.head_dim},
                                        {KvCacheType::kF32, 4 * config.head_dim},
                                        {KvCacheType::kF16, 2 * config.head_dim},
                                        {KvCacheType::kBF16, 2 * config.head_dim},
                                        {KvCacheType::kFp8, config.head_dim + 4}}) {
    const KvCache cache(config, 50, at::kFloat, type);
    const KvCacheBytes bytes = kv_cache_bytes(config, 50, at::kFloat, type);
    EXPECT_EQ(cache.token_bytes(), rows * row_bytes);
    EXPECT_EQ(cache.bytes(), bytes.stored);
    // Scales of 50 tokens are padded to 64.
    EXPECT_EQ(bytes.stored, rows * (50 * row_bytes + (type == KvCacheType::kFp8 ? 14 * 4 : 0)));
    std::int64_t held = 0;
    for (const auto& tensor : cache.tensors()) held += static_cast<std::int64_t>(tensor.nbytes());
    EXPECT_EQ(held, bytes.stored + bytes.layer_read);
    const bool as_read = type == KvCacheType::kAuto || type == KvCacheType::kF32;
    EXPECT_EQ(bytes.layer_read,
              as_read ? 0 : 2 * config.num_key_value_heads * 50 * config.head_dim * 4);
  }
}

TEST(KvCache, AnAbsurdSizeIsRefused) {
  const ModelConfig config = read_golden("qwen3_tied_gqa4").config;
  EXPECT_THROW(KvCache(config, 0), Error);
  EXPECT_THROW(KvCache(config, std::int64_t{1} << 62), Error);
}

TEST(KvCache, Fp8OnAGpuIsOfWholeVectors) {
  const at::Device gpu(at::kCUDA, 0);
  EXPECT_NO_THROW(check_kv_cache(KvCacheType::kFp8, 128, gpu));
  EXPECT_NO_THROW(check_kv_cache(KvCacheType::kFp8, 12, at::kCPU));
  EXPECT_NO_THROW(check_kv_cache(KvCacheType::kBF16, 12, gpu));
  EXPECT_THROW(check_kv_cache(KvCacheType::kFp8, 12, gpu), Error);
}

}  // namespace
}  // namespace qf
