#include "qwen3fp4/run/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <ostream>

#include "checkpoint_fixture.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/memory/host_cap.h"
#include "qwen3fp4/quant/quantize.h"
#include "tiny_model.h"

namespace qf::test {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kUp = "model.layers.0.mlp.up_proj.weight";

bool is_linear(const std::string& name) { return name.ends_with("_proj.weight") || name == kHead; }

struct RoundTrip {
  std::string source;
  WeightFormat format;
  bool search = true;
  bool compat = false;
};

void PrintTo(const RoundTrip& trip, std::ostream* out) {
  *out << trip.source << " as " << weight_format_name(trip.format)
       << (trip.search ? "" : ", amax scales") << (trip.compat ? ", compat" : "");
}

class ConvertTest : public FolderTest {
 protected:
  ConvertReport convert(const std::string& source, const ConvertOptions& options) {
    return convert_checkpoint(*open_checkpoint(kGolden / source), folder_ / "out", options);
  }
  [[nodiscard]] std::unique_ptr<CheckpointSource> result() const {
    return open_checkpoint(folder_ / "out");
  }
  // "dtype[shape]" of each entry of the result's model.dat.
  [[nodiscard]] std::map<std::string, std::string> entries() const {
    std::map<std::string, std::string> entries;
    for (const auto& entry : dat_entries(folder_ / "out" / "model.dat")) {
      entries[entry.name] = std::string(dtype_name(entry.type)) + shape_text(entry.shape);
    }
    return entries;
  }
};

class ConvertRoundTripTest : public ConvertTest, public testing::WithParamInterface<RoundTrip> {
 protected:
  // What the in-memory quantiser makes of a source's values: the oracle.
  [[nodiscard]] static at::Tensor expected(const std::string& name, const at::Tensor& values,
                                           at::ScalarType source_type) {
    const auto& trip = GetParam();
    switch (trip.format) {
      case WeightFormat::kNvfp4:
        if (!is_linear(name)) break;
        return quantize_nvfp4(values, {.search = trip.search, .two_level = !trip.compat})
            .dequantize();
      case WeightFormat::kNf4:
        if (!is_linear(name)) break;
        return quantize_nf4(values).dequantize();
      case WeightFormat::kBF16:
        return values.to(at::kBFloat16).to(at::kFloat);
      case WeightFormat::kF16:
        return values.to(at::kHalf).to(at::kFloat);
      case WeightFormat::kF32:
        return values;
    }
    return values.to(source_type).to(at::kFloat);
  }
};

TEST_P(ConvertRoundTripTest, EveryTensorReadsBackAsTheQuantiserMadeIt) {
  const auto& trip = GetParam();
  const auto source = open_checkpoint(kGolden / trip.source);
  auto values = read_all(*source);
  const bool packed = trip.format == WeightFormat::kNvfp4 || trip.format == WeightFormat::kNf4;
  const bool unties = packed && source->config().tie_word_embeddings;

  const auto report = convert(
      trip.source,
      {.format = trip.format, .search_scales = trip.search, .compat = trip.compat, .keep = ""});
  EXPECT_EQ(report.head_untied, unties);
  if (unties) values[kHead] = values.at(kEmbedding);
  const auto read_back = result();
  EXPECT_EQ(read_back->config().tie_word_embeddings,
            source->config().tie_word_embeddings && !unties);
  const auto found = read_all(*read_back);
  ASSERT_EQ(found.size(), values.size());
  for (const auto& [name, value] : values) {
    ASSERT_TRUE(found.contains(name)) << name;
    const auto* stored = source->find(name == kHead && unties ? kEmbedding : name);
    const auto type = stored->float_type == DType::kF32   ? at::kFloat
                      : stored->float_type == DType::kF16 ? at::kHalf
                                                          : at::kBFloat16;
    EXPECT_TRUE(same_bits(found.at(name), expected(name, value, type))) << name;
  }
}

TEST_P(ConvertRoundTripTest, ReportedErrorsAndBytesAreThoseOfTheFile) {
  const auto& trip = GetParam();
  const auto report = convert(
      trip.source,
      {.format = trip.format, .search_scales = trip.search, .compat = trip.compat, .keep = ""});
  const auto source = open_checkpoint(kGolden / trip.source);
  const auto found = read_all(*result());
  std::int64_t bytes = 0;
  for (const auto& entry : dat_entries(folder_ / "out" / "model.dat")) {
    bytes += entry.bytes;
  }
  EXPECT_EQ(report.bytes, bytes);
  std::int64_t family_bytes = 0;
  for (const auto& family : report.families) {
    family_bytes += family.bytes;
    double errors = 0;
    double squares = 0;
    std::int64_t tensors = 0;
    for (const auto& [name, tensor] : found) {
      const bool in_family = family.name == "norm"
                                 ? name.find("norm") != std::string::npos
                                 : name.find(family.name + ".weight") != std::string::npos;
      if (!in_family) continue;
      ++tensors;
      const bool from_embedding = source->find(name) == nullptr;
      const auto original =
          source->read_f32(*source->find(from_embedding ? kEmbedding : name)).to(at::kDouble);
      errors += (tensor.to(at::kDouble) - original).square().sum().item<double>();
      squares += original.square().sum().item<double>();
    }
    EXPECT_EQ(family.tensors, tensors) << family.name;
    // The quantiser's own error is a double rounded a few times on its way.
    EXPECT_NEAR(family.relative_rms_error, std::sqrt(errors / squares), 1e-9) << family.name;
  }
  EXPECT_EQ(family_bytes, bytes);
}

std::vector<RoundTrip> round_trips() {
  std::vector<RoundTrip> trips;
  for (const auto* source : {"llama", "qwen3", "llama_quantised.gguf", "qwen3_f16.gguf"}) {
    for (const auto format :
         {WeightFormat::kNvfp4, WeightFormat::kNf4, WeightFormat::kBF16, WeightFormat::kF32}) {
      trips.push_back({source, format});
    }
  }
  trips.push_back({"llama", WeightFormat::kNvfp4, false, false});
  trips.push_back({"llama", WeightFormat::kNvfp4, true, true});
  trips.push_back({"qwen3", WeightFormat::kNvfp4, false, true});
  return trips;
}
INSTANTIATE_TEST_SUITE_P(Formats, ConvertRoundTripTest, testing::ValuesIn(round_trips()));

TEST_F(ConvertTest, EveryWeightIsSearchedWithItsOwnColumnWeights) {
  for (const auto* name : {"llama", "qwen3"}) {  // qwen3: a tied head
    const auto source = open_checkpoint(kGolden / name);
    auto values = read_all(*source);
    if (source->find(kHead) == nullptr) values[kHead] = values.at(kEmbedding);
    std::map<std::string, at::Tensor> columns;
    at::manual_seed(3);
    for (const auto& [weight, value] : values) {
      if (is_linear(weight)) columns[weight] = at::randn({value.size(1)}).square();
    }
    convert(name, {.keep = "", .replace = true, .column_weights = columns});
    const auto found = read_all(*result());
    for (const auto& [weight, column] : columns) {
      EXPECT_TRUE(
          same_bits(found.at(weight),
                    quantize_nvfp4(values.at(weight), {.column_weights = column}).dequantize()))
          << weight;
    }
    columns.erase(kUp);
    expect_error(ExitCode::kUnreadable, std::string(kUp) + ": expected column weights",
                 [&] { convert(name, {.keep = "", .replace = true, .column_weights = columns}); });
    expect_error(ExitCode::kUnreadable, "found nvfp4 already", [&] {
      convert_checkpoint(*result(), folder_ / "again", {.keep = "", .column_weights = columns});
    });
  }
}

TEST_F(ConvertTest, Nvfp4EntriesAreThoseOfTheFormat) {
  convert("qwen3", {.format = WeightFormat::kNvfp4, .keep = ""});
  const auto found = entries();
  EXPECT_EQ(found.size(), 24U - 14U + 3U * 15U);  // 14 projections, and the untied head
  EXPECT_EQ(found.at(std::string(kUp) + ".qdata"), "u8[48, 16]");
  EXPECT_EQ(found.at(std::string(kUp) + ".scale"), "f8_e4m3[48, 2]");
  EXPECT_EQ(found.at(std::string(kUp) + ".scale_2"), "f32[1]");
  EXPECT_EQ(found.at(std::string(kHead) + ".qdata"), "u8[264, 16]");
  EXPECT_EQ(found.at(kEmbedding), "bf16[264, 32]");
  EXPECT_EQ(found.at("model.norm.weight"), "bf16[32]");
  EXPECT_FALSE(found.contains(kUp));
}

// Where a dense embedding is the largest tensor, and where a packed head is.
TEST_F(ConvertTest, HoldsWhatItsPlanSays) {
  install_host_cap();
  for (const std::int64_t vocab_size : {30000, 90000}) {
    const auto name = std::to_string(vocab_size);
    TinyModel{.vocab_size = vocab_size, .tokenizer = false}.write(folder_ / name);
    const auto source = open_checkpoint(folder_ / name);
    const std::int64_t before = host_allocated();
    forget_host_peak();
    (void)convert_checkpoint(*source, folder_ / (name + "-out"), {});
    const auto held = static_cast<double>(host_allocated_peak() - before);
    EXPECT_NEAR(static_cast<double>(plan_conversion_memory(*source).peak()), held, 0.05 * held)
        << vocab_size;
  }
}

TEST_F(ConvertTest, CompatFilesHaveNoTensorScale) {
  convert("llama", {.format = WeightFormat::kNvfp4, .compat = true, .keep = ""});
  for (const auto& [name, type] : entries()) EXPECT_FALSE(name.ends_with(".scale_2")) << name;
}

TEST_F(ConvertTest, Nf4EntriesAreBitsandbytes) {
  convert("llama", {.format = WeightFormat::kNf4, .keep = ""});
  const auto found = entries();
  EXPECT_EQ(found.at(kUp), "u8[1024, 1]");
  EXPECT_EQ(found.at(std::string(kUp) + ".absmax"), "f32[32]");
  EXPECT_EQ(found.at(std::string(kUp) + ".quant_map"), "f32[16]");
  const DatReader dat(folder_ / "out" / "model.dat");
  const auto* state = dat.find(std::string(kUp) + ".quant_state.bitsandbytes__nf4");
  ASSERT_NE(state, nullptr);
  std::string text(static_cast<std::size_t>(state->bytes), ' ');
  dat.read(*state, std::as_writable_bytes(std::span(text)));
  EXPECT_EQ(nlohmann::json::parse(text), nlohmann::json::parse(R"({"quant_type": "nf4",
            "blocksize": 64, "dtype": "float32", "shape": [64, 32]})"));
}

TEST_F(ConvertTest, RawTensorsKeepTheSourcesFloatType) {
  convert("llama_quantised.gguf", {.format = WeightFormat::kNvfp4, .keep = ""});
  EXPECT_EQ(entries().at("model.norm.weight"), "f32[32]");
  EXPECT_EQ(entries().at(kEmbedding), "bf16[40, 32]");  // Q8_0 in the GGUF
}

TEST_F(ConvertTest, KeepLeavesMatchingTensorsAlone) {
  convert("llama", {.format = WeightFormat::kNvfp4, .keep = R"(layers\.1\..*down_proj|lm_head)"});
  const auto found = entries();
  EXPECT_EQ(found.at("model.layers.1.mlp.down_proj.weight"), "f32[32, 64]");
  EXPECT_EQ(found.at(kHead), "f32[40, 32]");
  EXPECT_TRUE(found.contains("model.layers.0.mlp.down_proj.weight.qdata"));
}

TEST_F(ConvertTest, KeepingATiedHeadKeepsItTied) {
  const auto report = convert("qwen3", {.format = WeightFormat::kNf4, .keep = "lm_head"});
  EXPECT_FALSE(report.head_untied);
  EXPECT_FALSE(entries().contains(kHead));
  EXPECT_EQ(read_text_file(folder_ / "out" / "config.json"),
            read_text_file(kGolden / "qwen3" / "config.json"));
}

TEST_F(ConvertTest, OnlyTheTieChangesInTheConfiguration) {
  convert("qwen3", {.format = WeightFormat::kNvfp4, .keep = ""});
  auto expected = nlohmann::json::parse(read_text_file(kGolden / "qwen3" / "config.json"));
  expected["tie_word_embeddings"] = false;
  EXPECT_EQ(nlohmann::json::parse(read_text_file(folder_ / "out" / "config.json")), expected);
}

TEST_F(ConvertTest, PackedFoldersAreCopiedWithoutAnotherRounding) {
  for (const auto format : {WeightFormat::kNvfp4, WeightFormat::kNf4}) {
    const ConvertOptions options{.format = format, .keep = "", .replace = true};
    convert("qwen3", options);
    const auto first = read_text_file(folder_ / "out" / "model.dat");
    const auto report = convert_checkpoint(*result(), folder_ / "again", options);
    EXPECT_EQ(read_text_file(folder_ / "again" / "model.dat"), first) << weight_format_name(format);
    EXPECT_FALSE(report.head_untied);
    for (const auto& family : report.families) EXPECT_EQ(family.relative_rms_error, 0);
  }
}

TEST_F(ConvertTest, PackedFoldersConvertToFloatsExactly) {
  convert("llama", {.format = WeightFormat::kNf4, .keep = ""});
  const auto packed = read_all(*result());
  convert_checkpoint(*result(), folder_ / "dense", {.format = WeightFormat::kF32, .keep = ""});
  const auto dense = read_all(*open_checkpoint(folder_ / "dense"));
  ASSERT_EQ(dense.size(), packed.size());
  for (const auto& [name, tensor] : packed) EXPECT_TRUE(same_bits(dense.at(name), tensor)) << name;
}

// Such files exist: NF4 with nothing that says the weight's shape.
TEST_F(ConvertTest, FlatNf4TakesItsShapesFromTheConfiguration) {
  convert("llama", {.format = WeightFormat::kNf4, .keep = ""});
  const auto expected = read_all(*result());
  const DatReader whole(folder_ / "out" / "model.dat");
  std::vector<TensorInfo> kept;
  for (const auto& entry : whole.entries()) {
    if (!entry.name.ends_with("bitsandbytes__nf4")) kept.push_back(entry);
  }
  fs::create_directory(folder_ / "flat");
  fs::copy(folder_ / "out" / "config.json", folder_ / "flat" / "config.json");
  DatWriter out(folder_ / "flat" / "model.dat", std::ssize(kept));
  for (const auto& entry : kept) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(entry.bytes));
    whole.read(entry, bytes);
    out.write(entry.name, entry.type, entry.shape, bytes);
  }
  out.finish();
  const auto found = read_all(*open_checkpoint(folder_ / "flat"));
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [name, tensor] : expected)
    EXPECT_TRUE(same_bits(found.at(name), tensor)) << name;
}

TEST_F(ConvertTest, TwoLevelFoldersAreQuantisedAnewForCompat) {
  convert("llama", {.format = WeightFormat::kNvfp4, .keep = ""});
  const auto two_level = read_all(*result());
  const auto report = convert_checkpoint(
      *result(), folder_ / "compat", {.format = WeightFormat::kNvfp4, .compat = true, .keep = ""});
  EXPECT_GT(report.families.at(2).relative_rms_error, 0) << report.families.at(2).name;
  const auto compat = read_all(*open_checkpoint(folder_ / "compat"));
  EXPECT_TRUE(same_bits(compat.at(kUp),
                        quantize_nvfp4(two_level.at(kUp), {.two_level = false}).dequantize()));
}

TEST_F(ConvertTest, ProgressCountsEveryValueOnce) {
  std::vector<std::int64_t> done;
  std::int64_t total = 0;
  convert_checkpoint(*open_checkpoint(kGolden / "llama"), folder_ / "out",
                     {.format = WeightFormat::kF32, .keep = ""},
                     [&](std::int64_t values, std::int64_t all, std::string_view) {
                       done.push_back(values);
                       total = all;
                     });
  EXPECT_EQ(done.size(), 21U + 1U);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.front(), 0);
  EXPECT_EQ(done.back(), total);
  EXPECT_EQ(total, 2 * 40 * 32 + 2 * (2 * 64 * 32 + 2 * 32 * 32 + 3 * 64 * 32) + 5 * 32);
}

TEST_F(ConvertTest, ATrailingSlashNamesTheSameFolder) {
  convert_checkpoint(*open_checkpoint(kGolden / "llama"), (folder_ / "out" / "").string(),
                     {.format = WeightFormat::kF32, .keep = ""});
  EXPECT_THAT(listing(), testing::ElementsAre("out"));
  EXPECT_TRUE(fs::exists(folder_ / "out" / "model.dat"));
}

}  // namespace
}  // namespace qf::test
