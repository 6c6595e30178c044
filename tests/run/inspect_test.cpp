#include "qwen3fp4/run/inspect.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "checkpoint_fixture.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/quant/quantize.h"
#include "qwen3fp4/run/convert.h"

namespace qf::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Entry {
  std::string name;
  DType type;
  std::vector<std::int64_t> shape;
  at::Tensor data;
};

class InspectTest : public FolderTest {
 protected:
  InspectReport inspect_entries(const std::vector<Entry>& entries) {
    const auto path = folder_ / "state.dat";
    DatWriter out(path, std::ssize(entries));
    for (const auto& [name, type, shape, data] : entries) {
      out.write(name, type, shape,
                {static_cast<const std::byte*>(data.const_data_ptr()), data.nbytes()});
    }
    out.finish();
    return inspect(path).at(0);
  }

  // NVFP4 entries of `weight` [rows, columns], to be spoilt before they are written.
  static std::vector<Entry> nvfp4(const std::string& name, const at::Tensor& weight) {
    const auto packed = quantize_nvfp4(weight, {});
    const auto rows = weight.size(0);
    const auto columns = weight.size(1);
    return {{name + ".qdata", DType::kU8, {rows, columns / 2}, packed.codes().clone()},
            {name + ".scale", DType::kF8E4M3, {rows, columns / 16}, packed.scales().clone()},
            {name + ".scale_2", DType::kF32, {1}, at::full({1}, packed.global_scale())}};
  }
  static at::Tensor random_weight() {
    at::manual_seed(5);
    return at::randn({4, 64}) * 0.02;
  }
};

TEST_F(InspectTest, ListsAnyStateDict) {
  const auto report = inspect_entries({
      {"conv.weight", DType::kF32, {2, 1, 3}, at::tensor({1.0F, -7.5F, 0.0F, 2.0F, 3.0F, 4.0F})},
      {"half", DType::kF16, {2}, at::tensor({0.5F, -0.25F}).to(at::kHalf)},
      {"double", DType::kF64, {1}, at::tensor({1e300}, at::kDouble)},
      {"num_batches_tracked", DType::kI64, {}, at::zeros({}, at::kLong)},
      {"empty", DType::kF32, {0, 3}, at::empty({0, 3})},
  });
  ASSERT_EQ(report.tensors.size(), 5U);
  EXPECT_EQ(report.format, "dat");
  EXPECT_EQ(report.entries, 5);
  EXPECT_EQ(report.bytes, 24 + 4 + 8 + 8);
  EXPECT_EQ(report.flagged, 0);
  EXPECT_EQ(report.tensors[0].name, "conv.weight");
  EXPECT_EQ(report.tensors[0].type, "f32");
  EXPECT_EQ(report.tensors[0].shape, (std::vector<std::int64_t>{2, 1, 3}));
  EXPECT_EQ(report.tensors[0].bytes, 24);
  EXPECT_THAT(report.tensors[0].entries, IsEmpty());
  EXPECT_EQ(report.tensors[0].amax, 7.5);
  EXPECT_EQ(report.tensors[1].amax, 0.5);
  EXPECT_EQ(report.tensors[2].amax, 1e300);
  EXPECT_EQ(report.tensors[3].amax, std::nullopt);
  EXPECT_EQ(report.tensors[4].amax, std::nullopt);
}

TEST_F(InspectTest, FlagsNonFiniteValues) {
  const auto report = inspect_entries({
      {"a", DType::kF32, {4}, at::tensor({1.0F, kNan, -3.0F, kNan})},
      {"b", DType::kBF16, {2}, at::tensor({-kInfinity, 2.0F}).to(at::kBFloat16)},
      {"c", DType::kF32, {1}, at::tensor({kNan})},
  });
  EXPECT_THAT(report.tensors[0].flags, ElementsAre("2 NaN"));
  EXPECT_EQ(report.tensors[0].amax, 3.0);
  EXPECT_THAT(report.tensors[1].flags, ElementsAre("1 infinite"));
  EXPECT_EQ(report.tensors[1].amax, 2.0);
  EXPECT_EQ(report.tensors[2].amax, std::nullopt);
  EXPECT_EQ(report.flagged, 3);
}

// More values than one piece holds; the largest in the last.
TEST_F(InspectTest, ReadsLongTensorsInPieces) {
  auto values = at::zeros({(1 << 20) + 3}, at::kHalf);
  values[(1 << 20) + 2] = -9.0;
  values[0] = 8.0;
  const auto report = inspect_entries({{"long", DType::kF16, {values.numel()}, values}});
  EXPECT_EQ(report.tensors[0].amax, 9.0);
}

TEST_F(InspectTest, GroupsPackedWeights) {
  const auto weight = random_weight();
  const auto entries = nvfp4("a.weight", weight);
  const auto report = inspect_entries(entries);
  ASSERT_EQ(report.tensors.size(), 1U);
  const auto& tensor = report.tensors[0];
  EXPECT_EQ(tensor.name, "a.weight");
  EXPECT_EQ(tensor.type, "nvfp4");
  EXPECT_EQ(tensor.shape, (std::vector<std::int64_t>{4, 64}));
  EXPECT_EQ(tensor.bytes, 4 * 32 + 4 * 4 + 4);
  EXPECT_THAT(tensor.entries, ElementsAre("a.weight.qdata", "a.weight.scale", "a.weight.scale_2"));
  EXPECT_EQ(tensor.amax, quantize_nvfp4(weight, {}).dequantize().abs().max().item<float>());
  EXPECT_THAT(tensor.flags, IsEmpty());
  EXPECT_EQ(report.entries, 3);
}

TEST_F(InspectTest, FlagsBadScales) {
  auto entries = nvfp4("a.weight", random_weight());
  entries[1].data.view(-1)[3] = 0x7F;  // E4M3's NaN
  entries[1].data.view(-1)[9] = 0xFF;
  const auto report = inspect_entries(entries);
  EXPECT_THAT(report.tensors.at(0).flags, testing::Contains(HasSubstr("2 NaN scales")));
  EXPECT_EQ(report.flagged, 1);
}

TEST_F(InspectTest, FlagsUnlikelyMagnitudes) {
  for (const float factor : {1e-4F, 1e5F}) {
    auto entries = nvfp4("a.weight", random_weight());
    entries[2].data *= factor;
    EXPECT_THAT(inspect_entries(entries).tensors.at(0).flags,
                ElementsAre(HasSubstr("outside 0.001 .. 100")));
  }
}

TEST_F(InspectTest, FlagsHalvesOfPairs) {
  auto entries = nvfp4("a.weight", random_weight());
  EXPECT_THAT(inspect_entries({entries[0]}).tensors.at(0).flags, ElementsAre(HasSubstr("scale")));
  EXPECT_EQ(inspect_entries({entries[1]}).flagged, 1);
}

TEST_F(InspectTest, OpensWhatConvertWrites) {
  for (const auto format : {WeightFormat::kNvfp4, WeightFormat::kNf4}) {
    const auto source = open_checkpoint(kGolden / "qwen3");
    convert_checkpoint(*source, folder_ / "out", {.format = format, .keep = "", .replace = true});
    const auto report = inspect(folder_ / "out").at(0);
    EXPECT_EQ(report.flagged, 0);
    EXPECT_EQ(report.tensors.size(), 25U);
    EXPECT_EQ(report.bytes, [&] {
      std::int64_t bytes = 0;
      for (const auto& entry : dat_entries(folder_ / "out" / "model.dat")) {
        bytes += entry.bytes;
      }
      return bytes;
    }());
    const auto result = open_checkpoint(folder_ / "out");
    for (const auto& tensor : report.tensors) {
      const auto* weight = result->find(tensor.name);
      ASSERT_NE(weight, nullptr) << tensor.name;
      EXPECT_EQ(tensor.shape, weight->shape);
      EXPECT_EQ(tensor.amax, result->read_f32(*weight).abs().max().item<float>()) << tensor.name;
    }
  }
}

TEST_F(InspectTest, GgufAndSafetensorsAgree) {
  const auto gguf = inspect(kGolden / "llama_quantised.gguf").at(0);
  const auto safetensors = inspect(kGolden / "llama_quantised.safetensors").at(0);
  EXPECT_EQ(gguf.format, "gguf");
  EXPECT_EQ(safetensors.format, "safetensors");
  const auto source = open_checkpoint(kGolden / "llama_quantised.gguf");
  ASSERT_EQ(gguf.tensors.size(), safetensors.tensors.size());
  for (const auto& tensor : gguf.tensors) {
    const auto hf =
        std::find_if(source->tensors().begin(), source->tensors().end(), [&](const auto& other) {
          return other.name_in_file == tensor.name;
        })->name;
    const auto same = std::find_if(safetensors.tensors.begin(), safetensors.tensors.end(),
                                   [&](const auto& other) { return other.name == hf; });
    ASSERT_NE(same, safetensors.tensors.end()) << hf;
    EXPECT_EQ(tensor.amax, same->amax) << hf;
    EXPECT_EQ(tensor.shape, same->shape) << hf;
  }
}

TEST_F(InspectTest, ShardsAreOneReport) {
  const auto reports = inspect(kGolden / "qwen3");
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].tensors.size(), 24U);
}

TEST_F(InspectTest, FoldersListEveryFile) {
  fs::copy(kGolden / "llama_f32.gguf", folder_ / "b.gguf");
  fs::copy(kGolden / "llama_quantised.safetensors", folder_ / "a.safetensors");
  const auto reports = inspect(folder_);
  ASSERT_EQ(reports.size(), 2U);
  EXPECT_EQ(reports[0].format, "safetensors");
  EXPECT_EQ(reports[1].format, "gguf");
}

TEST_F(InspectTest, RecognisesContentsUnderOtherNames) {
  fs::copy(kGolden / "llama_f32.gguf", folder_ / "blob");
  fs::copy(kGolden / "llama_quantised.safetensors", folder_ / "blob.bin");
  EXPECT_EQ(inspect(folder_ / "blob").at(0).format, "gguf");
  EXPECT_EQ(inspect(folder_ / "blob.bin").at(0).format, "safetensors");
}

TEST_F(InspectTest, RefusesUnreadableFiles) {
  expect_error(ExitCode::kUnreadable, "no such file", [&] { (void)inspect(folder_ / "absent"); });
  expect_error(ExitCode::kUnreadable, "found none", [&] { (void)inspect(folder_); });
  write_text_file(folder_ / "empty.dat", "");
  expect_error(ExitCode::kUnreadable, "empty.dat", [&] { (void)inspect(folder_ / "empty.dat"); });
  for (const auto* name : {"llama_f32.gguf", "llama_quantised.safetensors"}) {
    const auto whole = read_text_file(kGolden / name);
    write_text_file(folder_ / name, std::string_view(whole).substr(0, whole.size() - 1));
    expect_error(ExitCode::kUnreadable, name, [&] { (void)inspect(folder_ / name); });
  }
}

}  // namespace
}  // namespace qf::test
