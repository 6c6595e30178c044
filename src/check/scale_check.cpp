#include "qwen3fp4/check/scale_check.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "qwen3fp4/backend/emulated.h"
#include "qwen3fp4/check/path.h"
#include "qwen3fp4/kernels/cpu/scale_tiles.h"
#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/kernels/views.h"

namespace qf {
namespace {

double max_abs(const at::Tensor& got, const at::Tensor& expected) {
  const double largest =
      (got.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
  return std::isnan(largest) ? std::numeric_limits<double>::infinity() : largest;
}

// Of bytes as numbers, for a difference of any bit counts; padding that is not 0, too.
double tile_round_trip(const at::Tensor& scales) {
  const std::int64_t rows = scales.size(0);
  const std::int64_t cols = scales.size(1);
  // Not 0 before, so that padding which is left alone shows.
  auto tiles = at::full({scale_tiles_bytes(rows, cols)}, 0x7F, at::kByte);
  to_scale_tiles(scales.const_data_ptr<std::uint8_t>(), rows, cols,
                 tiles.mutable_data_ptr<std::uint8_t>());
  auto back = at::zeros_like(scales);
  from_scale_tiles(tiles.const_data_ptr<std::uint8_t>(), rows, cols,
                   back.mutable_data_ptr<std::uint8_t>());
  const auto total = [](const at::Tensor& bytes) { return bytes.sum().item<std::int64_t>(); };
  const auto padding = static_cast<double>(std::abs(total(tiles) - total(scales)));
  return std::max(max_abs(back, scales), padding);
}

void check_tiles(const std::string& name, const WeightMatrix& weight,
                 std::vector<ScaleCheckRow>& rows) {
  if (weight.format() != WeightFormat::kNvfp4 || weight.scales().scalar_type() != at::kByte) return;
  rows.push_back({name + ": 128x4 tiles of its scales", tile_round_trip(weight.scales())});
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(std::uint64_t{0});
  const auto x = at::randn({3, weight.in_features()}, generator);
  rows.push_back({name + ": 128x4 tiles of its input's scales",
                  tile_round_trip(QuantisedActivations(x).blocks.scales())});
}

// A row of the known NVFP4 layer: two blocks of 16 weights, pairs of codes 1.0 (low nibble) and
// -2.0 (high nibble). Inputs are pairs 3, 5 in the first block and 6, 10 in the second, so that the
// blocks sum to 8 * (3 - 10) = -56 and 8 * (6 - 20) = -112; the tensor scale is 0.5.
struct KnownRow {
  std::string_view what;
  std::uint8_t first_scale, second_scale;
  float answer;
};
constexpr KnownRow kKnownRows[] = {
    {"E4M3 1", 0x38, 0x38, -84.0F},
    {"E4M3 256 (exponent 15 is a number)", 0x78, 0x78, -21504.0F},
    {"E4M3 448 (the largest)", 0x7E, 0x7E, -37632.0F},
    {"E4M3 2^-6 (the smallest normal)", 0x08, 0x08, -1.3125F},
    {"E4M3 2^-9 (subnormals count)", 0x01, 0x01, -0.1640625F},
    {"E4M3 7 * 2^-9 (subnormal)", 0x07, 0x07, -1.1484375F},
    {"E4M3 0", 0x00, 0x00, 0.0F},
    {"E4M3 1 and 2 (each block its own)", 0x38, 0x40, -140.0F},
    {"E4M3 2 and 1", 0x40, 0x38, -112.0F},
};

WeightMatrix known_nvfp4() {
  constexpr std::int64_t kRows = std::size(kKnownRows);
  auto scales = at::empty({kRows, 2}, at::kByte);
  auto* out = scales.mutable_data_ptr<std::uint8_t>();
  for (const KnownRow& row : kKnownRows) {
    *out++ = row.first_scale;
    *out++ = row.second_scale;
  }
  static_assert(e2m1_to_float(0x2) == 1.0F && e2m1_to_float(0xC) == -2.0F);
  return WeightMatrix::nvfp4(at::full({kRows, kNvfp4Block}, 0xC2, at::kByte), scales, 0.5F);
}

// NF4, block 64, pairs of codes 15 (+1, the high nibble comes first) and 0 (-1), absmax 1/4: inputs
// 3, 5 give 32 * (3 - 5) / 4.
constexpr float kKnownNf4Answer = -16.0F;

WeightMatrix known_nf4() {
  auto book = at::empty({16}, at::kFloat);
  for (unsigned i = 0; i < 16; ++i) book.mutable_data_ptr<float>()[i] = nf4_to_float(i);
  return WeightMatrix::nf4(at::full({32, 1}, 0xF0, at::kByte), at::full({1}, 0.25F), book, 1, 64,
                           64);
}

at::Tensor pairs(float even, float odd, std::int64_t count) {
  return at::tensor({even, odd}, at::kFloat).repeat({count});
}

}  // namespace

std::vector<ScaleCheckRow> check_known_layers(const Backend& backend) {
  const c10::InferenceMode no_autograd;
  std::vector<ScaleCheckRow> rows;
  const auto add = [&](std::int64_t tokens, std::string_view what, const at::Tensor& got,
                       float answer) {
    rows.push_back(
        {fmt::format("{}, {} token{}: {}", backend.name(), tokens, tokens == 1 ? "" : "s", what),
         max_abs(got, at::full_like(got, answer))});
  };
  const auto x_nvfp4 = at::cat({pairs(3, 5, 8), pairs(6, 10, 8)});
  const auto x_nf4 = pairs(3, 5, 32);
  // Few tokens and many run through different code.
  for (const std::int64_t tokens : {1, 5}) {
    const auto y_TO = backend.linear(x_nvfp4.repeat({tokens, 1}), known_nvfp4());
    for (std::size_t i = 0; i < std::size(kKnownRows); ++i) {
      add(tokens, kKnownRows[i].what, y_TO.select(1, static_cast<std::int64_t>(i)),
          kKnownRows[i].answer);
    }
    add(tokens, "NF4 absmax 1/4", backend.linear(x_nf4.repeat({tokens, 1}), known_nf4()),
        kKnownNf4Answer);
  }
  return rows;
}

std::vector<ScaleCheckRow> scale_check(const Qwen3Model& model) {
  const c10::InferenceMode no_autograd;
  std::vector<ScaleCheckRow> rows;
  std::int64_t index = 0;
  for (const DecoderLayer& layer : model.layers()) {
    for (const std::string_view module : kLayerLinears) {
      check_tiles(fmt::format("model.layers.{}.{}", index, module), weight_of(layer, module), rows);
    }
    ++index;
  }
  check_tiles("lm_head", model.lm_head(), rows);
  for (const std::string_view name : backend_names()) {
    for (auto& row : check_known_layers(*make_backend(PathSpec{.backend = std::string(name)})))
      rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace qf
