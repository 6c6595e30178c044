#include "qwen3fp4/formats/event_file.h"

#include <array>
#include <bit>
#include <chrono>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<std::uint32_t, 256> kCrcTable = make_crc_table();
static_assert(kCrcTable[1] == 0xF26B8303U);

std::uint32_t masked(std::uint32_t crc) { return std::rotr(crc, 15) + 0xA282EAD8U; }

std::string little_endian(std::uint64_t value, int size) {
  std::string out;
  for (int i = 0; i < size; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xFF));
  return out;
}

// Protocol Buffers: a field is a key (number and kind), then its value.
enum class Wire : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
  return out;
}
std::string key(std::uint32_t number, Wire wire) {
  return varint(number << 3 | static_cast<std::uint32_t>(wire));
}
std::string bytes_field(std::uint32_t number, std::string_view bytes) {
  return key(number, Wire::kBytes) + varint(bytes.size()) + std::string(bytes);
}
std::string int_field(std::uint32_t number, std::int64_t value) {
  return key(number, Wire::kVarint) + varint(static_cast<std::uint64_t>(value));
}
std::string double_field(std::uint32_t number, double value) {
  return key(number, Wire::kFixed64) + little_endian(std::bit_cast<std::uint64_t>(value), 8);
}
std::string float_field(std::uint32_t number, float value) {
  return key(number, Wire::kFixed32) + little_endian(std::bit_cast<std::uint32_t>(value), 4);
}

// Numbers of tensorflow/core/util/event.proto and framework/summary.proto.
constexpr std::uint32_t kWallTime = 1;     // Event
constexpr std::uint32_t kStep = 2;         // Event
constexpr std::uint32_t kFileVersion = 3;  // Event
constexpr std::uint32_t kSummary = 5;      // Event
constexpr std::uint32_t kSessionLog = 7;   // Event
constexpr std::uint32_t kStatus = 1;       // SessionLog
constexpr std::int64_t kStart = 1;         // SessionLog.SessionStatus
constexpr std::uint32_t kValue = 1;        // Summary, repeated
constexpr std::uint32_t kTag = 1;          // Summary.Value
constexpr std::uint32_t kSimpleValue = 2;  // Summary.Value
constexpr std::uint32_t kTensor = 8;       // Summary.Value
constexpr std::uint32_t kMetadata = 9;     // Summary.Value
constexpr std::uint32_t kPluginData = 1;   // SummaryMetadata
constexpr std::uint32_t kPluginName = 1;   // SummaryMetadata.PluginData
constexpr std::uint32_t kType = 1;         // TensorProto
constexpr std::uint32_t kShape = 2;        // TensorProto
constexpr std::uint32_t kStringValue = 8;  // TensorProto
constexpr std::int64_t kStringType = 7;    // DataType
constexpr std::uint32_t kDimension = 2;    // TensorShapeProto
constexpr std::uint32_t kSize = 1;         // TensorShapeProto.Dim

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::filesystem::path new_file(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  QF_CHECK(!error, "{}: cannot be created: {}", folder.string(), error.message());
  // TensorBoard reads files in the order of their names. A second run in the same second gets a
  // number of its own.
  const auto seconds = static_cast<std::int64_t>(seconds_since_1970());
  for (int number = 0;; ++number) {
    auto path = folder / fmt::format("events.out.tfevents.{:010}.qwen3fp4.{}", seconds, number);
    if (!std::filesystem::exists(path)) return path;
  }
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char byte : bytes) {
    crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  }
  return ~crc;
}

EventFile::EventFile(const std::filesystem::path& folder, std::int64_t first_step) {
  const auto path = new_file(folder);
  name_ = path.string();
  out_.open(path, std::ios::binary);
  QF_CHECK(out_.is_open(), "{}: cannot be written", name_);
  event(0, bytes_field(kFileVersion, "brain.Event:2"));
  event(first_step, bytes_field(kSessionLog, int_field(kStatus, kStart)));
}

void EventFile::scalars(std::int64_t step, const Scalars& values) {
  std::string summary;
  for (const auto& [tag, value] : values) {
    summary += bytes_field(
        kValue, bytes_field(kTag, tag) + float_field(kSimpleValue, static_cast<float>(value)));
  }
  event(step, bytes_field(kSummary, summary));
}

void EventFile::text(std::int64_t step, std::string_view tag, std::string_view text) {
  const auto shape = bytes_field(kDimension, int_field(kSize, 1));
  const auto tensor =
      int_field(kType, kStringType) + bytes_field(kShape, shape) + bytes_field(kStringValue, text);
  const auto metadata = bytes_field(kPluginData, bytes_field(kPluginName, "text"));
  const auto value =
      bytes_field(kTag, tag) + bytes_field(kMetadata, metadata) + bytes_field(kTensor, tensor);
  event(step, bytes_field(kSummary, bytes_field(kValue, value)));
}

void EventFile::event(std::int64_t step, std::string_view field) {
  record(double_field(kWallTime, seconds_since_1970()) + int_field(kStep, step) +
         std::string(field));
}

void EventFile::record(std::string_view bytes) {
  const auto length = little_endian(bytes.size(), 8);
  out_ << length << little_endian(masked(crc32c(length)), 4) << bytes
       << little_endian(masked(crc32c(bytes)), 4) << std::flush;
  QF_CHECK(out_.good(), "{}: cannot be written", name_);
}

}  // namespace qf
