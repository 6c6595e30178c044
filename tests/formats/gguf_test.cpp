#include "qwen3fp4/formats/gguf.h"

#include <gmock/gmock.h>

#include "bytes.h"
#include "qwen3fp4/formats/tensor_info.h"

namespace qf {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const char* const kTypes[] = {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q6_K"};

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
  EXPECT_THAT(refused(data), AllOf(HasSubstr("w.Q6_K"), HasSubstr("do not lie")));
  const GgufFile file(kGoldenFormats / "types.gguf");
  std::vector<float> out(33);
  EXPECT_THAT(refusal([&] { file.read_f32(*file.find("w.Q4_0"), out); }),
              HasSubstr("whole blocks"));
}

}  // namespace
}  // namespace qf
