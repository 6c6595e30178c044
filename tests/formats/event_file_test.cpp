#include "qwen3fp4/formats/event_file.h"

#include <gmock/gmock.h>

#include <bit>
#include <cstring>

#include "bytes.h"

namespace qf {
namespace {

using ::testing::ElementsAre;

TEST(Crc32c, IsCastagnolis) {
  // The check value of the catalogue, and RFC 3720's 32 zeros.
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(""), 0U);
}

std::uint64_t number(const Bytes& bytes, std::size_t at, int size) {
  std::uint64_t value = 0;
  for (int i = 0; i < size; ++i) {
    value |= std::to_integer<std::uint64_t>(bytes.at(at + static_cast<std::size_t>(i))) << (8 * i);
  }
  return value;
}

// The payloads of a file's frames, whose checksums must be right.
std::vector<std::string> records(const Bytes& file) {
  std::vector<std::string> found;
  const auto view = [&](std::size_t at, std::size_t size) {
    return std::string(reinterpret_cast<const char*>(file.data()) + at, size);
  };
  const auto unmasked = [](std::uint64_t stored) {
    const auto rotated = static_cast<std::uint32_t>(stored) - 0xA282EAD8U;
    return rotated >> 17 | rotated << 15;
  };
  for (std::size_t at = 0; at < file.size();) {
    const auto size = static_cast<std::size_t>(number(file, at, 8));
    EXPECT_EQ(unmasked(number(file, at + 8, 4)), crc32c(view(at, 8)));
    EXPECT_EQ(unmasked(number(file, at + 12 + size, 4)), crc32c(view(at + 12, size)));
    found.push_back(view(at + 12, size));
    at += 16 + size;
  }
  return found;
}

// A message without its wall time, which comes first: key 0x09 and eight bytes.
std::string without_time(const std::string& record) {
  EXPECT_EQ(record[0], '\x09');
  return record.substr(9);
}

TEST(EventFile, HoldsFramedMessages) {
  const Folder folder;
  {
    EventFile events(folder.path() / "run", 5);
    events.scalars(300, {{"a", 0.5}, {"b", -2.0}});
    events.text(7, "t", "hi");
  }
  Bytes bytes;
  for (const auto& item : std::filesystem::directory_iterator(folder.path() / "run")) {
    EXPECT_NE(item.path().filename().string().find("tfevents"), std::string::npos);
    bytes = read_bytes(item.path());
  }
  const auto found = records(bytes);
  ASSERT_EQ(found.size(), 4U);
  const auto text = [](std::string_view bytes_of_text) { return std::string(bytes_of_text); };
  EXPECT_EQ(without_time(found[0]),
            text(std::string_view("\x10\x00\x1A\x0D", 4)) + "brain.Event:2");
  // step 5, session_log { status: START }
  EXPECT_EQ(without_time(found[1]), "\x10\x05\x3A\x02\x08\x01");
  // step 300, summary { value { tag, simple_value } value { ... } }
  EXPECT_EQ(without_time(found[2]), text(std::string_view("\x10\xAC\x02\x2A\x14"
                                                          "\x0A\x08\x0A\x01"
                                                          "a\x15\x00\x00\x00\x3F"
                                                          "\x0A\x08\x0A\x01"
                                                          "b\x15\x00\x00\x00\xC0",
                                                          25)));
  EXPECT_NE(found[3].find("text"), std::string::npos);
  EXPECT_NE(found[3].find("hi"), std::string::npos);
}

TEST(EventFile, ASecondRunHasAFileOfItsOwn) {
  const Folder folder;
  { EventFile first(folder.path(), 1); }
  { EventFile second(folder.path(), 1); }
  EXPECT_EQ(folder.count(), 2);
  write_text_file(folder.path() / "file", "");
  EXPECT_NE(refusal([&] { EventFile(folder.path() / "file", 1); }), "accepted");
}

}  // namespace
}  // namespace qf
