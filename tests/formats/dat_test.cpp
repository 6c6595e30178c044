#include "qwen3fp4/formats/dat.h"

#include <gmock/gmock.h>

#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <stdexcept>

#include "bytes.h"

namespace qf {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string refused(const Bytes& data) {
  return refusal([&] {
    const MemorySource source(data);
    const DatReader file(source);
  });
}

// One entry "w" of two bytes.
Bytes two_bytes() { return bytes({1, 1, 'w', 0, 1, 2, 7, 9}); }

TEST(Dat, ReadsTheLayoutOfTorchSharpsOwnWriter) {
  const DatReader file(kGoldenFormats / "torchsharp.dat");
  ASSERT_EQ(file.entries().size(), 6U);
  const TensorInfo& weight = file.entries()[0];
  EXPECT_EQ(weight.name, "0.weight");
  EXPECT_EQ(weight.type, DType::kF32);
  EXPECT_EQ(weight.shape, (std::vector<std::int64_t>{32, 1, 3}));
  std::vector<float> values(96);
  file.read(weight, std::as_writable_bytes(std::span(values)));
  std::vector<float> expected(96);
  std::iota(expected.begin(), expected.end(), 0.0F);
  EXPECT_EQ(values, expected);
  float first = 0;
  for (int i = 1; i <= 4; ++i) {
    const TensorInfo& entry = file.entries()[static_cast<std::size_t>(i)];
    EXPECT_EQ(entry.shape, std::vector<std::int64_t>{32});
    file.read(entry, std::as_writable_bytes(std::span(&first, 1)));
    EXPECT_EQ(first, 1000.0F * static_cast<float>(i));
  }
  const TensorInfo* counter = file.find("1.num_batches_tracked");
  ASSERT_NE(counter, nullptr);
  EXPECT_EQ(counter->type, DType::kI64);
  EXPECT_TRUE(counter->shape.empty());
  std::int64_t batches = 0;
  file.read(*counter, std::as_writable_bytes(std::span(&batches, 1)));
  EXPECT_EQ(batches, 510);
  EXPECT_EQ(file.find("absent"), nullptr);
}

// libtorch gave the codes and torch the names: ours must mean the same.
TEST(Dat, ElementTypesAreNumberedAsLibtorchDoes) {
  const std::map<std::string, std::pair<DType, std::int64_t>> expected = {
      {"uint8", {DType::kU8, 1}},      {"int8", {DType::kI8, 1}},
      {"int16", {DType::kI16, 2}},     {"int32", {DType::kI32, 4}},
      {"int64", {DType::kI64, 8}},     {"float16", {DType::kF16, 2}},
      {"float32", {DType::kF32, 4}},   {"float64", {DType::kF64, 8}},
      {"complex64", {DType::kC64, 8}}, {"complex128", {DType::kC128, 16}},
      {"bool", {DType::kBool, 1}},     {"bfloat16", {DType::kBF16, 2}}};
  const DatReader file(kGoldenFormats / "scalar_types.dat");
  ASSERT_EQ(file.entries().size(), expected.size());
  for (const auto& [name, meaning] : expected) {
    const TensorInfo* entry = file.find(name);
    ASSERT_NE(entry, nullptr) << name;
    EXPECT_EQ(entry->type, meaning.first) << name;
    EXPECT_EQ(entry->bytes, 2 * meaning.second) << name;
  }
}

TEST(Dat, OneByteTooManyOrTooFewNamesTheEntry) {
  Bytes data = read_bytes(kGoldenFormats / "torchsharp.dat");
  data.push_back(std::byte{0});
  EXPECT_THAT(refused(data),
              AllOf(HasSubstr("1.num_batches_tracked"), HasSubstr("1 bytes too many")));
  data.pop_back();
  data.pop_back();
  EXPECT_THAT(refused(data), AllOf(HasSubstr("1.num_batches_tracked"), HasSubstr("does not fit")));
}

TEST(Dat, EveryTypeMakesARoundTrip) {
  const Folder folder;
  const std::vector<DType> types = {DType::kU8,       DType::kI8,    DType::kI16,  DType::kI32,
                                    DType::kI64,      DType::kF16,   DType::kF32,  DType::kF64,
                                    DType::kC64,      DType::kC128,  DType::kBool, DType::kBF16,
                                    DType::kF4E2M1x2, DType::kF8E4M3};
  const auto path = folder.path() / "all.dat";
  DatWriter writer(path, std::ssize(types) + 2);
  for (const DType type : types) {
    const Bytes payload(static_cast<std::size_t>(6 * element_size(type)),
                        static_cast<std::byte>(type));
    writer.write(fmt::format("ü.{}", dtype_name(type)), type, {2, 3}, payload);
  }
  writer.write("empty", DType::kF32, {0, 5}, {});
  writer.begin("pieces", DType::kI16, {200});
  for (int i = 0; i < 4; ++i) writer.append(Bytes(100, std::byte{5}));
  EXPECT_FALSE(std::filesystem::exists(path)) << "before finish()";
  writer.finish();

  const DatReader file(path);
  ASSERT_EQ(file.entries().size(), types.size() + 2);
  for (std::size_t i = 0; i < types.size(); ++i) {
    const TensorInfo& entry = file.entries()[i];
    EXPECT_EQ(entry.type, types[i]);
    EXPECT_EQ(entry.bytes, 6 * element_size(types[i]));
    Bytes payload(static_cast<std::size_t>(entry.bytes));
    file.read(entry, payload);
    EXPECT_EQ(payload, Bytes(payload.size(), static_cast<std::byte>(types[i])));
  }
  EXPECT_EQ(file.find("empty")->bytes, 0);
  EXPECT_EQ(file.find("pieces")->shape, std::vector<std::int64_t>{200}) << "a LEB of two bytes";
}

TEST(Dat, PayloadsBeyondTwoGibibytes) {
  const Folder folder;
  const auto path = folder.path() / "sparse.dat";
  constexpr std::int64_t kElements = (std::int64_t{3} << 30) + 5;
  {
    // LEB128 of kElements by hand, then a hole.
    std::ofstream out(path, std::ios::binary);
    out << '\x02' << '\x01' << 'a' << '\0' << '\x01';
    for (std::uint64_t left = kElements; left != 0; left >>= 7) {
      out.put(static_cast<char>((left & 0x7F) | (left > 0x7F ? 0x80 : 0)));
    }
  }
  const auto payload = static_cast<std::int64_t>(std::filesystem::file_size(path));
  std::filesystem::resize_file(path, static_cast<std::uintmax_t>(payload + kElements - 1));
  std::ofstream(path, std::ios::binary | std::ios::app) << "Z"
                                                        << "\x01"
                                                        << "b" << '\0' << '\0' << "Y";
  const DatReader file(path);
  std::byte last{};
  file.read(*file.find("a"), std::span(&last, 1), kElements - 1);
  EXPECT_EQ(last, std::byte{'Z'});
  file.read(*file.find("b"), std::span(&last, 1));
  EXPECT_EQ(last, std::byte{'Y'});
}

TEST(Dat, RefusesWhatTheFileCannotHold) {
  EXPECT_EQ(refused(two_bytes()), "accepted");
  EXPECT_THAT(refused({}), HasSubstr("entry count"));
  EXPECT_THAT(refused(bytes({0xFF, 0xFF, 0xFF, 0x7F, 0})), HasSubstr("entry count of at most"));
  EXPECT_THAT(refused(bytes({1, 1, 'w', 0xE7, 0x24, 0})), HasSubstr("4711"));
  for (const int code : {8, 12, 13, 14, 16, 99, 102}) {
    EXPECT_THAT(refused(bytes({1, 1, 'w', code, 1, 1, 0})), HasSubstr("0-7, 9-11, 15, 100, 101"));
  }
  // A hole as large as 2^20 + 1 entries could need: the count alone is refused.
  EXPECT_THAT(refused([] {
                Bytes data(std::size_t{5} << 20);
                std::ranges::copy(bytes({0x81, 0x80, 0x40}), data.begin());
                return data;
              }()),
              HasSubstr("at most 1048576"));
  EXPECT_THAT(refused(bytes({1, 1, 'w', 0, 127, 1, 1})), HasSubstr("number of dimensions"));
  EXPECT_THAT(refused(bytes({1, 1, 0xFF, 0, 1, 1, 0})), HasSubstr("UTF-8"));
  EXPECT_THAT(refused(bytes({1, 40, 'w', 0, 1, 1, 0})), HasSubstr("ends inside its name"));
  // 2^62 x 2^62 elements; a number of 11 bytes; a number above 64 bits.
  EXPECT_THAT(refused(bytes({1,    1,    'w',  0,    2,    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                             0x80, 0x40, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0})),
              AllOf(HasSubstr("'w'"), HasSubstr("does not fit")));
  EXPECT_THAT(refused(bytes({0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0})),
              HasSubstr("more than 10 bytes"));
  EXPECT_THAT(refused(bytes({0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02})),
              HasSubstr("64 bits"));
}

TEST(Dat, DuplicateNamesAreRefused) {
  EXPECT_THAT(refused(bytes({2, 1, 'w', 0, 0, 1, 1, 'w', 0, 0, 2})),
              AllOf(HasSubstr("'w'"), HasSubstr("twice")));
}

TEST(Dat, ReadsStayInsideTheEntry) {
  const Bytes data = two_bytes();
  const MemorySource source(data);
  const DatReader file(source);
  Bytes out(2);
  EXPECT_THROW(file.read(file.entries()[0], out, 1), Error);
  EXPECT_THROW(file.read(file.entries()[0], out, -1), Error);
}

TEST(Dat, NumbersMayBeLongerThanNeeded) {
  EXPECT_EQ(refused(bytes({0x81, 0, 0x81, 0x80, 0, 'w', 0, 1, 0x82, 0, 7, 9})), "accepted");
  EXPECT_EQ(refused(bytes({0})), "accepted") << "no entries";
  // The largest dimension beside an empty one is empty; alone it fits no file.
  EXPECT_EQ(refused(bytes({1, 0, 6, 2, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F})),
            "accepted");
  EXPECT_THAT(refused(bytes({1, 0, 6, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F})),
              HasSubstr("does not fit"));
}

TEST(DatWriter, RefusesNamesThatTheReaderWould) {
  const Folder folder;
  DatWriter writer(folder.path() / "x.dat", 4);
  writer.write(std::string(4096, 'n'), DType::kU8, {1}, bytes({1}));
  EXPECT_THAT(refusal([&] { writer.begin(std::string(4097, 'n'), DType::kU8, {1}); }),
              HasSubstr("at most 4096 bytes"));
  EXPECT_THAT(refusal([&] { writer.begin("\xFF", DType::kU8, {1}); }), HasSubstr("UTF-8"));
  writer.write("a", DType::kU8, {1}, bytes({1}));
  EXPECT_THAT(refusal([&] { writer.begin("a", DType::kU8, {1}); }), HasSubstr("twice"));
}

TEST(DatWriter, AnUnfinishedFileNeverAppears) {
  const Folder folder;
  {
    DatWriter writer(folder.path() / "x.dat", 2);
    writer.write("a", DType::kU8, {1}, bytes({1}));
    EXPECT_THROW(writer.finish(), std::logic_error) << "one entry is missing";
  }
  EXPECT_EQ(folder.count(), 0);
  DatWriter writer(folder.path() / "y.dat", 1);
  writer.begin("a", DType::kU8, {2});
  EXPECT_THROW(writer.append(bytes({1, 2, 3})), std::logic_error);
  EXPECT_THROW(writer.begin("b", DType::kU8, {1}), std::logic_error);
}

}  // namespace
}  // namespace qf
