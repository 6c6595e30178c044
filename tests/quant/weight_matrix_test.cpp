#include "qwen3fp4/quant/weight_matrix.h"

#include <ATen/ATen.h>

#include <limits>
#include <string>
#include <vector>

#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/quant/quantize.h"
#include "refused.h"

namespace qf {
namespace {

at::Tensor bytes(at::IntArrayRef shape) { return at::randint(0, 256, shape, at::kByte); }
at::Tensor code_book() {
  auto book = at::empty({16});
  for (unsigned i = 0; i < 16; ++i) book[i] = nf4_to_float(i);
  return book;
}

// The formula of views.h, one element at a time.
float nvfp4_element(const WeightMatrix& w, std::int64_t r, std::int64_t c) {
  const auto byte = w.codes()[r][c / 2].item<std::uint8_t>();
  const float code = e2m1_to_float(nibble(byte, static_cast<unsigned>(c % 2)));
  const auto scale = w.scales()[r][c / 16];
  const float block = scale.scalar_type() == at::kFloat ? scale.item<float>()
                                                        : e4m3_to_float(scale.item<std::uint8_t>());
  return code * block * w.global_scale();
}

TEST(WeightMatrix, Nvfp4FollowsTheFormula) {
  at::manual_seed(1);
  for (const auto& scales : {bytes({5, 3}) % 0x7F, at::randn({5, 3})}) {
    const auto w = WeightMatrix::nvfp4(bytes({5, 24}), scales, 0.37F);
    EXPECT_EQ(w.format(), WeightFormat::kNvfp4);
    EXPECT_EQ(w.out_features(), 5);
    EXPECT_EQ(w.in_features(), 48);
    const auto values = w.dequantize();
    for (std::int64_t r = 0; r < 5; ++r) {
      for (std::int64_t c = 0; c < 48; ++c) {
        ASSERT_EQ(values[r][c].item<float>(), nvfp4_element(w, r, c)) << r << ", " << c;
      }
    }
  }
}

// Odd columns: rows start inside a byte, blocks end inside rows.
TEST(WeightMatrix, Nf4FollowsTheFormula) {
  at::manual_seed(2);
  const auto absmax = at::rand({4});
  const auto codes = bytes({6 * 35 / 2, 1});
  const auto w = WeightMatrix::nf4(codes, absmax, code_book(), 6, 35, 64);
  const auto values = w.dequantize();
  for (std::int64_t i = 0; i < 6 * 35; ++i) {
    const auto byte = codes[i / 2][0].item<std::uint8_t>();
    const unsigned code = i % 2 == 0 ? byte >> 4U : byte & 0xFU;  // first element HIGH
    ASSERT_EQ(values[i / 35][i % 35].item<float>(),
              nf4_to_float(code) * absmax[i / 64].item<float>())
        << i;
  }
}

TEST(WeightMatrix, RowsAndGatheredRowsAreThoseOfTheWhole) {
  at::manual_seed(3);
  const auto values = at::randn({37, 80});
  const auto ids = at::tensor(std::vector<std::int64_t>{36, 0, 5, 5, 20});
  for (const auto& w :
       {quantize_nvfp4(values, {}), quantize_nf4(values), WeightMatrix::dense(values),
        WeightMatrix::dense(values.to(at::kHalf)), WeightMatrix::dense(values.to(at::kBFloat16))}) {
    const auto whole = w.dequantize();
    EXPECT_EQ(whole.scalar_type(), at::kFloat);
    for (const auto& [first, count] : {std::pair{0, 0}, {0, 1}, {13, 11}, {36, 1}, {37, 0}}) {
      EXPECT_TRUE(at::equal(w.dequantize_rows(first, count), whole.narrow(0, first, count)))
          << weight_format_name(w.format()) << " from " << first;
    }
    EXPECT_TRUE(at::equal(w.gather_rows(ids), whole.index_select(0, ids)));
    EXPECT_EQ(w.gather_rows(ids.narrow(0, 0, 0)).sizes(), at::IntArrayRef({0, 80}));
  }
}

TEST(WeightMatrix, BytesAreThoseThatAForwardReads) {
  const auto values = at::randn({32, 64});
  EXPECT_EQ(quantize_nvfp4(values, {}).bytes(), 32 * 32 + 32 * 4 + 4);
  EXPECT_EQ(quantize_nf4(values).bytes(), 32 * 32 + 32 * 4 + 64);
  EXPECT_EQ(WeightMatrix::dense(values.to(at::kHalf)).bytes(), 32 * 64 * 2);
}

TEST(WeightMatrix, StoresStridedTensorsContiguously) {
  at::manual_seed(4);
  const auto codes = bytes({8, 16});
  const auto scales = bytes({8, 2}) % 0x7F;
  const auto w = WeightMatrix::nvfp4(codes, scales, 1.0F);
  const auto strided =
      WeightMatrix::nvfp4(codes.t().contiguous().t(), scales.t().contiguous().t(), 1.0F);
  EXPECT_TRUE(at::equal(strided.dequantize(), w.dequantize()));
}

TEST(WeightMatrix, RefusesRowsThatAreNotThere) {
  const auto w = WeightMatrix::dense(at::ones({4, 16}));
  for (const auto& [first, count] : {std::pair{-1, 1}, {0, 5}, {4, 1}, {2, -1}, {5, 0}}) {
    EXPECT_THAT(refusal([&, f = first, c = count] { (void)w.dequantize_rows(f, c); }),
                testing::HasSubstr("within 4"));
  }
  EXPECT_THROW((void)w.dequantize_rows(std::numeric_limits<std::int64_t>::max(), 1), Error);
  for (const std::int64_t id : {std::int64_t{-1}, std::int64_t{4}}) {
    EXPECT_THAT(refusal([&] {
                  (void)w.gather_rows(at::tensor(std::vector<std::int64_t>{0, id}));
                }),
                testing::HasSubstr("one of 4 rows, got " + std::to_string(id)));
  }
  EXPECT_THROW((void)w.gather_rows(at::zeros({2}, at::kInt)), Error);
}

TEST(WeightMatrix, Nvfp4RefusesPartsThatDoNotFit) {
  const auto make = [](const at::Tensor& codes, const at::Tensor& scales, float global) {
    return refusal([&] { (void)WeightMatrix::nvfp4(codes, scales, global); });
  };
  using testing::HasSubstr;
  EXPECT_THAT(make(bytes({4, 12}), bytes({4, 1}), 1.0F), HasSubstr("multiple of 16"));
  EXPECT_THAT(make(bytes({0, 16}), bytes({0, 2}), 1.0F), HasSubstr("positive"));
  EXPECT_THAT(make(bytes({4, 0}), bytes({4, 0}), 1.0F), HasSubstr("positive"));
  EXPECT_THAT(make(bytes({64}), bytes({4, 2}), 1.0F), HasSubstr("[out, in/2]"));
  EXPECT_THAT(make(at::ones({4, 16}), bytes({4, 2}), 1.0F), HasSubstr("u8"));
  EXPECT_THAT(make(bytes({4, 16}), bytes({2, 4}), 1.0F), HasSubstr("[4, 2], got Byte [2, 4]"));
  EXPECT_THAT(make(bytes({4, 16}), at::ones({4, 2}, at::kHalf), 1.0F), HasSubstr("got Half"));
  EXPECT_THAT(make(at::Tensor(), bytes({4, 2}), 1.0F), HasSubstr("codes"));
  for (const float global : {0.0F, -1.0F, std::numeric_limits<float>::infinity(),
                             std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_THAT(make(bytes({4, 16}), bytes({4, 2}), global), HasSubstr("above 0"));
  }
}

TEST(WeightMatrix, TiledRefusesPartsThatDoNotFit) {
  const auto make = [](const at::Tensor& codes, const at::Tensor& tiles, float global) {
    return refusal([&] { (void)WeightMatrix::nvfp4_tiled(codes, tiles, global); });
  };
  using testing::HasSubstr;
  const auto w = WeightMatrix::nvfp4_tiled(bytes({4, 16}), bytes({512}), 0.5F);
  EXPECT_TRUE(w.tiled());
  EXPECT_EQ(w.bytes(), 4 * 16 + 512 + 4);
  EXPECT_THAT(refusal([&] { (void)w.dequantize(); }), HasSubstr("rearranged"));
  EXPECT_THAT(make(bytes({4, 12}), bytes({512}), 1.0F), HasSubstr("multiple of 16"));
  EXPECT_THAT(make(bytes({4, 16}), bytes({4, 2}), 1.0F), HasSubstr("512 bytes"));
  EXPECT_THAT(make(bytes({129, 16}), bytes({512}), 1.0F), HasSubstr("1024 bytes"));
  EXPECT_THAT(make(bytes({4, 16}), at::ones({512}), 1.0F), HasSubstr("got Float"));
  EXPECT_THAT(make(bytes({4, 16}), bytes({512}), 0.0F), HasSubstr("above 0"));
}

TEST(WeightMatrix, Nf4RefusesPartsThatDoNotFit) {
  struct Parts {
    at::Tensor codes = bytes({96});
    at::Tensor absmax = at::ones({3});
    at::Tensor book = code_book();
    std::int64_t out = 4, in = 48, block = 64;
  };
  const auto make = [](const Parts& p) {
    return refusal(
        [&] { (void)WeightMatrix::nf4(p.codes, p.absmax, p.book, p.out, p.in, p.block); });
  };
  using testing::HasSubstr;
  EXPECT_NO_THROW((void)WeightMatrix::nf4(bytes({96}), at::ones({3}), code_book(), 4, 48, 64));
  EXPECT_THAT(make({.codes = bytes({95})}), HasSubstr("96 bytes"));
  EXPECT_THAT(make({.absmax = at::ones({2})}), HasSubstr("3 f32"));
  EXPECT_THAT(make({.absmax = at::ones({3}, at::kDouble)}), HasSubstr("got Double"));
  EXPECT_THAT(make({.book = at::ones({15})}), HasSubstr("16 f32"));
  EXPECT_THAT(make({.out = 3, .in = 35}), HasSubstr("even"));
  EXPECT_THAT(make({.out = 0}), HasSubstr("[0, 48]"));
  EXPECT_THAT(make({.out = -4, .in = -48}), HasSubstr("[-4, -48]"));
  EXPECT_THAT(make({.out = std::int64_t{1} << 40, .in = std::int64_t{1} << 40}), HasSubstr("even"));
  EXPECT_THAT(make({.block = 0}), HasSubstr("even number above 0, got 0"));
  EXPECT_THAT(make({.block = 63}), HasSubstr("got 63"));
}

TEST(WeightMatrix, DenseRefusesOtherTypesAndShapes) {
  EXPECT_THAT(refusal([] { (void)WeightMatrix::dense(at::ones({4})); }), testing::HasSubstr("[4]"));
  EXPECT_THAT(refusal([] {
                (void)WeightMatrix::dense(at::ones({4, 0}));
              }),
              testing::HasSubstr("[4, 0]"));
  EXPECT_THAT(refusal([] {
                (void)WeightMatrix::dense(at::ones({4, 4}, at::kDouble));
              }),
              testing::HasSubstr("got Double"));
}

}  // namespace
}  // namespace qf
