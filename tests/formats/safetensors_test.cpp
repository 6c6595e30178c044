#include "qwen3fp4/formats/safetensors.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "bytes.h"

namespace qf {
namespace {

using ::testing::HasSubstr;

// A file of this header and payload.
Bytes file_of(const std::string& header, std::size_t payload) {
  Bytes out(8);
  for (std::size_t i = 0; i < 8; ++i) {
    out[i] = static_cast<std::byte>(static_cast<std::uint64_t>(header.size()) >> (8 * i) & 0xFF);
  }
  const auto text = std::as_bytes(std::span(header));
  out.insert(out.end(), text.begin(), text.end());
  out.resize(out.size() + payload);
  return out;
}

std::string refused(const std::string& header, std::size_t payload) {
  return refusal([&] {
    const Bytes data = file_of(header, payload);
    const MemorySource source(data);
    const SafetensorsFile file(source);
  });
}

TEST(Safetensors, ReadsWhatThePythonPackageWrites) {
  const SafetensorsFile file(kGoldenFormats / "types.safetensors");
  ASSERT_EQ(file.entries().size(), 5U);
  EXPECT_EQ(file.metadata().at("format"), "np");
  const auto find = [&](std::string_view name) {
    return *std::ranges::find(file.entries(), name, &TensorInfo::name);
  };
  std::vector<float> values(6);
  file.read(find("f32"), std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(find("f32").shape, (std::vector<std::int64_t>{2, 3}));
  std::int64_t number = 0;
  file.read(find("i64"), std::as_writable_bytes(std::span(&number, 1)));
  EXPECT_EQ(number, -7);
  EXPECT_TRUE(find("i64").shape.empty());
  EXPECT_EQ(find("empty").bytes, 0);
  EXPECT_EQ(find("f16").type, DType::kF16);
}

TEST(Safetensors, WritesWhatItReads) {
  const Folder folder;
  const std::vector<float> values{1, 2, 3, 4};
  const std::vector<NamedBytes> tensors{
      {"a", DType::kF32, {2, 2}, std::as_bytes(std::span(values))}, {"none", DType::kI64, {0}, {}}};
  write_safetensors(folder.path() / "model.safetensors", tensors);
  const SafetensorsCheckpoint file(folder.path());
  ASSERT_EQ(file.entries().size(), 2U);
  std::vector<float> back(2);
  const auto a = std::ranges::find(file.entries(), "a", &TensorInfo::name);
  file.read(*a, std::as_writable_bytes(std::span(back)), 8);
  EXPECT_EQ(back, (std::vector<float>{3, 4}));
}

TEST(Safetensors, RefusesByName) {
  const std::string good = R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  EXPECT_EQ(refused(good, 2), "accepted");
  EXPECT_THAT(refused(good, 3), HasSubstr("by the header"));
  EXPECT_THAT(refused(good, 1), HasSubstr("by the header"));
  EXPECT_THAT(refused(R"({"a":{"dtype":"U9","shape":[2],"data_offsets":[0,2]}})", 2),
              HasSubstr("'a': dtype U9"));
  EXPECT_THAT(refused(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,2]}})", 2),
              HasSubstr("needs 3 bytes"));
  EXPECT_THAT(refused(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", 3),
              HasSubstr("gap or overlap"));
  EXPECT_THAT(refused(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                      R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                      3),
              HasSubstr("'b'"));
  EXPECT_THAT(refused(R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,2]}})", 2),
              HasSubstr("non-negative"));
  EXPECT_THAT(
      refused(R"({"a":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,2]}})", 2),
      HasSubstr("'a'"));
  EXPECT_THAT(refused(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", 2),
              HasSubstr("begin <= end"));
  EXPECT_THAT(refused(R"({"a":{"dtype":"U8","shape":[2.0],"data_offsets":[0,2]}})", 2),
              HasSubstr("found 2.0"));
  EXPECT_THAT(refused(R"({"a":{"dtype":7,"shape":[2],"data_offsets":[0,2]}})", 2),
              HasSubstr("'a'"));
  EXPECT_THAT(refused(R"({"a":{"dtype":"U8","data_offsets":[0,2]}})", 2), HasSubstr("'shape'"));
  EXPECT_THAT(refused(R"({"__metadata__":{"k":1}})", 0), HasSubstr("hold strings"));
  EXPECT_THAT(refused("{\"\xFF\":1}", 0), HasSubstr("expected JSON"));
  EXPECT_THAT(refused(R"({"a":1})", 0), HasSubstr("'a'"));
  EXPECT_THAT(refused(R"({"a":{},"a":{}})", 0), HasSubstr("twice"));
  EXPECT_THAT(refused("[]", 0), HasSubstr("JSON object"));
  EXPECT_THAT(refused(std::string(5000, '['), 0), HasSubstr("deeper"));
  EXPECT_THAT(refusal([] {
                const Bytes data = bytes({255, 255, 255, 255, 255, 255, 255, 255, 1});
                const MemorySource source(data);
                const SafetensorsFile file(source);
              }),
              HasSubstr("header of at most"));
}

TEST(Safetensors, ShardsHoldExactlyWhatTheIndexSays) {
  const Folder folder;
  const Bytes two(2);
  write_safetensors(folder.path() / "one.safetensors",
                    std::vector<NamedBytes>{{"a", DType::kU8, {2}, two}});
  write_safetensors(folder.path() / "two.safetensors",
                    std::vector<NamedBytes>{{"b", DType::kU8, {2}, two}});
  const auto with_index = [&](const std::string& map) {
    write_text_file(folder.path() / "model.safetensors.index.json",
                    R"({"weight_map":)" + map + "}");
    return refusal([&] { EXPECT_EQ(SafetensorsCheckpoint(folder.path()).entries().size(), 2U); });
  };
  EXPECT_EQ(with_index(R"({"a":"one.safetensors","b":"two.safetensors"})"), "accepted");
  EXPECT_THAT(with_index(R"({"a":"one.safetensors","b":"one.safetensors"})"),
              HasSubstr("expected 2 tensors by the index, found 1"));
  EXPECT_THAT(with_index(R"({"x":"one.safetensors"})"), HasSubstr("'a' is not in the index"));
  EXPECT_THAT(with_index(R"({"a":"../one.safetensors"})"), HasSubstr("same folder"));
  EXPECT_THAT(with_index(R"({"a":"/etc/one.safetensors"})"), HasSubstr("same folder"));
  EXPECT_THAT(with_index(R"({"a":".."})"), HasSubstr("same folder"));
  EXPECT_THAT(with_index(R"({"a":1})"), HasSubstr("'a'"));
  EXPECT_THAT(with_index(R"({"a":"three.safetensors"})"), HasSubstr("three.safetensors"));
  EXPECT_THAT(with_index("3"), HasSubstr("weight_map"));
}

TEST(SafetensorsWriter, StreamsPayloadsBehindAHeader) {
  const Folder folder;
  const auto path = folder.path() / "out.safetensors";
  const std::vector<SafetensorsWriter::Tensor> tensors{{"b", DType::kU8, {3}},
                                                       {"a", DType::kF8E4M3, {2, 2}}};
  const Bytes payload = bytes({1, 2, 3, 4, 5, 6, 7});
  {
    SafetensorsWriter out(path, tensors, {{"format", "pt"}, {"x", "1.5"}});
    out.append(std::span(payload).first(4));
    EXPECT_THROW(out.finish(), std::logic_error);
    out.append(std::span(payload).subspan(4));
    out.finish();
    EXPECT_THROW(out.append(payload), std::logic_error);
  }
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("x"), "1.5");
  ASSERT_EQ(file.entries().size(), 2U);
  EXPECT_EQ(file.entries()[0].name, "b");
  EXPECT_EQ(file.entries()[1].shape, (std::vector<std::int64_t>{2, 2}));
  Bytes found(4);
  file.read(file.entries()[1], found);
  EXPECT_EQ(found, bytes({4, 5, 6, 7}));
}

}  // namespace
}  // namespace qf
