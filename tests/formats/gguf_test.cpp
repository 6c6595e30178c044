#include "qwen3fp4/formats/gguf.h"

#include <gmock/gmock.h>

#include "bytes.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const char* const kTypes[] = {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q6_K", "NVFP4"};

TEST(Gguf, DequantisesTheBitsThatThePythonPackageDoes) {
  const GgufFile file(kGoldenFormats / "types.gguf");
  const Bytes golden = read_bytes(kGoldenFormats / "types.f32");
  const auto* expected = reinterpret_cast<const std::uint32_t*>(golden.data());
  for (const std::string type : kTypes) {
    const GgufTensor* tensor = file.find("w." + type);
    ASSERT_NE(tensor, nullptr) << type;
    EXPECT_EQ(ggml_type_name(tensor->type), type);
    EXPECT_EQ(tensor->shape, (std::vector<std::int64_t>{3, 512}));
    std::vector<float> values(3 * 512);
    file.read_f32(*tensor, values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]), expected[i]) << type << " " << i;
    }
    std::vector<float> part(512);
    file.read_f32(*tensor, part, 768);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), values.begin() + 768)) << type;
    expected += values.size();
  }
}

TEST(Gguf, ReadsMetadataOfEveryType) {
  const GgufFile file(kGoldenFormats / "types.gguf");
  EXPECT_EQ(file.integer("t.u8"), 200);
  EXPECT_EQ(file.integer("t.i8"), -100);
  EXPECT_EQ(file.integer("t.u16"), 60000);
  EXPECT_EQ(file.integer("t.i16"), -30000);
  EXPECT_EQ(file.integer("t.u32"), 4000000000);
  EXPECT_EQ(file.integer("t.i32"), -2000000000);
  EXPECT_EQ(file.integer("t.u64"), std::int64_t{1} << 62);
  EXPECT_EQ(file.integer("t.i64"), -(std::int64_t{1} << 62));
  EXPECT_EQ(file.number("t.f32"), 0.5);
  EXPECT_EQ(file.number("t.f64"), 1e300);
  EXPECT_EQ(file.text("t.string"), "你好");
  EXPECT_TRUE(std::get<bool>(file.metadata().at("t.bool")));
  EXPECT_THAT(file.integers("t.ints"), ElementsAre(1, -2, 3));
  EXPECT_THAT(std::get<std::vector<double>>(file.metadata().at("t.floats")),
              ElementsAre(0.5, -1.5));
  EXPECT_THAT(file.texts("t.strings"), ElementsAre("a", "", "ü"));
  EXPECT_THAT(refusal([&] { (void)file.text("t.u8"); }), HasSubstr("'t.u8': expected a string"));
  EXPECT_THAT(refusal([&] { (void)file.integer("absent"); }), HasSubstr("no 'absent'"));
}

TEST(Gguf, RefusesByName) {
  const Bytes whole = read_bytes(kGoldenFormats / "types.gguf");
  const auto refused = [](const Bytes& data) {
    return refusal([&] {
      const MemorySource source(data);
      const GgufFile file(source);
    });
  };
  EXPECT_EQ(refused(whole), "accepted");
  Bytes data = whole;
  data[0] = std::byte{'X'};
  EXPECT_THAT(refused(data), HasSubstr("magic"));
  data = whole;
  std::ranges::reverse(std::span(data).subspan(4, 4));
  EXPECT_THAT(refused(data), HasSubstr("big endian"));
  data = whole;
  data[15] = std::byte{0x7F};
  EXPECT_THAT(refused(data), HasSubstr("do not fit"));
  data = whole;
  data.erase(data.end() - 32, data.end());  // more than the padding behind the last tensor
  EXPECT_THAT(refused(data), AllOf(HasSubstr("w.NVFP4"), HasSubstr("do not lie")));
  const GgufFile file(kGoldenFormats / "types.gguf");
  std::vector<float> out(33);
  EXPECT_THAT(refusal([&] { file.read_f32(*file.find("w.Q4_0"), out); }),
              HasSubstr("whole blocks"));
}

TEST(GgufWriter, WritesWhatTheReaderReads) {
  const Folder folder;
  const auto path = folder.path() / "out.gguf";
  const GgufWriter::Metadata metadata{{"general.architecture", std::string("qwen3")},
                                      {"count", std::int64_t{4000000000}},
                                      {"wide", std::uint64_t{1} << 63},
                                      {"real", 0.5},
                                      {"flag", true},
                                      {"ints", std::vector<std::int64_t>{1, -2}},
                                      {"reals", std::vector<double>{0.25, -8}},
                                      {"texts", std::vector<std::string>{"", "é"}}};
  const std::vector<GgufWriter::Tensor> tensors{
      {"a", GgmlType::kF32, {3}}, {"b", GgmlType::kNvfp4, {2, 64}}, {"c", GgmlType::kBF16, {1, 1}}};
  Bytes payload(12 + 72 + 2);
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<std::byte>(i + 1);
  {
    GgufWriter out(path, metadata, tensors);
    // Pieces need not end where tensors do.
    out.append(std::span(payload).first(5));
    out.append(std::span(payload).subspan(5, 80));
    EXPECT_THROW(out.finish(), std::logic_error);
    out.append(std::span(payload).subspan(85));
    EXPECT_THROW(out.append(std::span(payload).first(1)), std::logic_error);
    out.finish();
  }
  const GgufFile file(path);
  EXPECT_EQ(file.metadata().size(), metadata.size());
  EXPECT_EQ(file.integer("count"), 4000000000);
  for (const auto& [key, value] : metadata) {
    if (key == "count") continue;
    EXPECT_EQ(file.metadata().at(key), value) << key;
  }
  ASSERT_EQ(file.tensors().size(), 3U);
  std::size_t first = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensor& tensor = file.tensors()[i];
    EXPECT_EQ(tensor.name, tensors[i].name);
    EXPECT_EQ(tensor.type, tensors[i].type);
    EXPECT_EQ(tensor.shape, tensors[i].shape);
    EXPECT_EQ(tensor.offset % 32, 0);
    Bytes found(static_cast<std::size_t>(tensor.bytes));
    file.read_bytes(tensor, found);
    EXPECT_TRUE(std::ranges::equal(found, std::span(payload).subspan(first, found.size())));
    first += found.size();
  }
  EXPECT_EQ(first, payload.size());
  EXPECT_THAT(refusal([&] {
                (void)GgufWriter(path, {{"x", std::int64_t{-1}}}, {});
              }),
              HasSubstr("'x': expected an integer of 32 bits"));
}

TEST(GgufNvfp4, UnpacksIntoOurOrderAndBack) {
  const GgufFile file(kGoldenFormats / "types.gguf");
  const GgufTensor& tensor = *file.find("w.NVFP4");
  Bytes blocks(static_cast<std::size_t>(tensor.bytes));
  file.read_bytes(tensor, blocks);
  std::vector<std::uint8_t> codes(3 * 512 / 2);
  std::vector<std::uint8_t> scales(3 * 512 / 16);
  unpack_ggml_nvfp4(blocks, codes.data(), scales.data());
  // Element by element, by the formula of .dat files.
  std::vector<float> values(3 * 512);
  file.read_f32(tensor, values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const unsigned code = codes[i / 2] >> (i % 2 == 0 ? 0 : 4) & 0xFU;
    EXPECT_EQ(values[i], e2m1_to_float(code) * e4m3_to_float(scales[i / 16])) << i;
  }
  Bytes again(blocks.size());
  pack_ggml_nvfp4(codes.data(), scales.data(), again);
  EXPECT_EQ(again, blocks);
}

}  // namespace
}  // namespace qf
