#include "qwen3fp4/formats/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <unordered_set>
#include <utility>

#include "gguf_blocks.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/checked_shape.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/formats/utf8.h"

namespace qf {
namespace {

constexpr std::uint64_t kMostStringBytes = std::uint64_t{64} << 20;
constexpr std::uint32_t kMostDimensions = 4;  // GGML's own limit

// Metadata value types, as in the file.
enum class ValueType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// Bytes of a value with a fixed size; the shortest a string can be (its length field) otherwise.
std::int64_t shortest(ValueType type) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kString:
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
      return 8;
    case ValueType::kArray:
      break;
  }
  return 12;
}

// Reads forward through the header in windows of 64 KiB.
class Cursor {
 public:
  explicit Cursor(const ByteSource& source) : source_(source) {}

  [[nodiscard]] std::int64_t position() const { return position_; }
  [[nodiscard]] std::int64_t left() const { return source_.size() - position_; }

  std::uint64_t integer(std::size_t bytes, const std::string& what) {
    std::array<std::byte, 8> raw{};
    take(std::span(raw).first(bytes), what);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
      value |= std::to_integer<std::uint64_t>(raw[i]) << (8 * i);
    }
    return value;
  }

  std::string text(const std::string& what) {
    const std::uint64_t bytes = integer(8, what);
    QF_CHECK(bytes <= kMostStringBytes && bytes <= static_cast<std::uint64_t>(left()),
             "{}: {}: expected a string that fits into the {} bytes left, found a length of {}",
             source_.name(), what, left(), bytes);
    std::string out(bytes, '\0');
    take(std::as_writable_bytes(std::span(out)), what);
    return out;
  }

  void take(std::span<std::byte> out, const std::string& what) {
    const auto count = static_cast<std::int64_t>(out.size());
    QF_CHECK(count <= left(), "{}: {}: the file ends inside it", source_.name(), what);
    if (position_ + count > start_ + static_cast<std::int64_t>(window_.size())) {
      constexpr std::int64_t kWindow = 64 << 10;
      window_.resize(static_cast<std::size_t>(std::min(left(), std::max(count, kWindow))));
      source_.read_at(position_, window_);
      start_ = position_;
    }
    std::copy_n(window_.begin() + (position_ - start_), count, out.begin());
    position_ += count;
  }

 private:
  const ByteSource& source_;
  std::vector<std::byte> window_;
  std::int64_t start_ = 0;
  std::int64_t position_ = 0;
};

std::int64_t signed_value(Cursor& cursor, ValueType type, const std::string& what) {
  switch (type) {
    case ValueType::kI8:
      return static_cast<std::int8_t>(cursor.integer(1, what));
    case ValueType::kI16:
      return static_cast<std::int16_t>(cursor.integer(2, what));
    case ValueType::kI32:
      return static_cast<std::int32_t>(cursor.integer(4, what));
    case ValueType::kU8:
    case ValueType::kBool:
      return static_cast<std::int64_t>(cursor.integer(1, what));
    case ValueType::kU16:
      return static_cast<std::int64_t>(cursor.integer(2, what));
    case ValueType::kU32:
      return static_cast<std::int64_t>(cursor.integer(4, what));
    default:
      return std::bit_cast<std::int64_t>(cursor.integer(8, what));
  }
}

double real_value(Cursor& cursor, ValueType type, const std::string& what) {
  if (type == ValueType::kF32) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(cursor.integer(4, what)));
  }
  return std::bit_cast<double>(cursor.integer(8, what));
}

bool is_real(ValueType type) { return type == ValueType::kF32 || type == ValueType::kF64; }

ValueType value_type(Cursor& cursor, const std::string& file, const std::string& what) {
  const std::uint64_t code = cursor.integer(4, what);
  QF_CHECK(code <= static_cast<std::uint64_t>(ValueType::kF64),
           "{}: {}: expected a value type of 0 to 12, found {}", file, what, code);
  return static_cast<ValueType>(code);
}

GgufValue array_value(Cursor& cursor, const std::string& file, const std::string& what) {
  const ValueType type = value_type(cursor, file, what);
  QF_CHECK(type != ValueType::kArray, "{}: {}: arrays of arrays are not supported", file, what);
  const std::uint64_t count = cursor.integer(8, what);
  QF_CHECK(count <= static_cast<std::uint64_t>(cursor.left() / shortest(type)),
           "{}: {}: an array of {} values does not fit into the {} bytes that are left", file, what,
           count, cursor.left());
  if (type == ValueType::kString) {
    std::vector<std::string> out;
    for (std::uint64_t i = 0; i < count; ++i) out.push_back(cursor.text(what));
    return out;
  }
  if (is_real(type)) {
    std::vector<double> out;
    for (std::uint64_t i = 0; i < count; ++i) out.push_back(real_value(cursor, type, what));
    return out;
  }
  std::vector<std::int64_t> out;
  for (std::uint64_t i = 0; i < count; ++i) out.push_back(signed_value(cursor, type, what));
  return out;
}

GgufValue value(Cursor& cursor, const std::string& file, const std::string& what) {
  const ValueType type = value_type(cursor, file, what);
  if (type == ValueType::kArray) return array_value(cursor, file, what);
  if (type == ValueType::kString) return cursor.text(what);
  if (type == ValueType::kBool) return cursor.integer(1, what) != 0;
  if (type == ValueType::kU64) return cursor.integer(8, what);
  if (is_real(type)) return real_value(cursor, type, what);
  return signed_value(cursor, type, what);
}

// Offsets are relative to the data section here; the caller makes them absolute.
GgufTensor tensor_header(Cursor& cursor, const std::string& file, std::uint64_t index) {
  GgufTensor tensor;
  tensor.name = cursor.text(fmt::format("name of tensor {}", index));
  QF_CHECK(is_valid_utf8(tensor.name), "{}: the name of tensor {} is not UTF-8", file, index);
  const std::string what = fmt::format("tensor '{}'", tensor.name);
  const std::uint64_t ndim = cursor.integer(4, what);
  QF_CHECK(ndim <= kMostDimensions, "{}: {}: expected at most {} dimensions, found {}", file, what,
           kMostDimensions, ndim);
  for (std::uint64_t i = 0; i < ndim; ++i) {
    const auto dim = std::bit_cast<std::int64_t>(cursor.integer(8, what));
    QF_CHECK(dim >= 0, "{}: {}: a dimension does not fit into 63 bits", file, what);
    tensor.shape.insert(tensor.shape.begin(), dim);
  }
  const auto type = static_cast<std::uint32_t>(cursor.integer(4, what));
  const GgmlBlock* block = ggml_block(type);
  QF_CHECK(
      block != nullptr,
      "{}: {}: GGML type {} is not supported (supported: F32 0, F16 1, Q4_0 2, Q4_1 3, Q8_0 8, "
      "Q6_K 14, BF16 30, NVFP4 40)",
      file, what, type);
  tensor.type = static_cast<GgmlType>(type);
  const std::int64_t elements = checked_bytes(tensor.shape, 1);
  const std::int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  QF_CHECK(elements >= 0 && row % block->elements == 0,
           "{}: {}: expected rows of a multiple of {} elements for {}, found shape {}", file, what,
           block->elements, ggml_type_name(tensor.type), shape_text(tensor.shape));
  tensor.bytes = checked_bytes({elements / block->elements}, block->bytes);
  tensor.offset = std::bit_cast<std::int64_t>(cursor.integer(8, what));
  return tensor;
}

template <class T>
const T& typed(const GgufFile& file, std::string_view key, std::string_view expected) {
  const auto found = file.metadata().find(key);
  QF_CHECK(found != file.metadata().end(), "{}: metadata has no '{}'", file.name(), key);
  const T* held = std::get_if<T>(&found->second);
  QF_CHECK(held != nullptr, "{}: metadata '{}': expected {}", file.name(), key, expected);
  return *held;
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path)
    : owned_(std::make_unique<FileSource>(path)), source_(owned_.get()) {
  parse();
}

GgufFile::GgufFile(const ByteSource& source) : source_(&source) { parse(); }

void GgufFile::parse() {
  const std::string& file = source_->name();
  Cursor cursor(*source_);
  std::array<std::byte, 4> magic{};
  cursor.take(magic, "magic");
  QF_CHECK(std::ranges::equal(std::as_bytes(std::span("GGUF", 4)), magic),
           "{}: expected a GGUF file, found another magic", file);
  const std::uint64_t version = cursor.integer(4, "version");
  QF_CHECK(version != 0x02000000 && version != 0x03000000,
           "{}: expected a little endian GGUF file, found a big endian one", file);
  QF_CHECK(version == 2 || version == 3, "{}: expected GGUF version 2 or 3, found {}", file,
           version);
  const std::uint64_t tensor_count = cursor.integer(8, "tensor count");
  const std::uint64_t value_count = cursor.integer(8, "metadata count");
  // A tensor header takes at least 24 bytes, a metadata entry 13.
  QF_CHECK(tensor_count <= static_cast<std::uint64_t>(cursor.left() / 24) &&
               value_count <= static_cast<std::uint64_t>(cursor.left() / 13),
           "{}: {} tensors and {} metadata entries do not fit into {} bytes", file, tensor_count,
           value_count, source_->size());
  for (std::uint64_t i = 0; i < value_count; ++i) {
    const std::string key = cursor.text(fmt::format("metadata key {}", i));
    const std::string what = fmt::format("metadata '{}'", key);
    QF_CHECK(!metadata_.contains(key), "{}: {} is there twice", file, what);
    metadata_.emplace(key, value(cursor, file, what));
  }
  std::unordered_set<std::string> names;
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    tensors_.push_back(tensor_header(cursor, file, i));
    QF_CHECK(names.insert(tensors_.back().name).second, "{}: tensor '{}' is there twice", file,
             tensors_.back().name);
  }

  const std::int64_t alignment = has("general.alignment") ? integer("general.alignment") : 32;
  QF_CHECK(alignment > 0 && alignment <= 1 << 20 &&
               std::has_single_bit(static_cast<std::uint64_t>(alignment)),
           "{}: expected general.alignment to be a power of two, found {}", file, alignment);
  const std::int64_t data = (cursor.position() + alignment - 1) / alignment * alignment;
  for (GgufTensor& tensor : tensors_) {
    const std::int64_t room = source_->size() - data;
    QF_CHECK(tensor.bytes >= 0 && tensor.offset >= 0 && tensor.offset % alignment == 0 &&
                 tensor.bytes <= room && tensor.offset <= room - tensor.bytes,
             "{}: tensor '{}': {} bytes at offset {} do not lie in the {} bytes of data", file,
             tensor.name, tensor.bytes, tensor.offset, std::max<std::int64_t>(room, 0));
    tensor.offset += data;
  }
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = std::ranges::find(tensors_, name, &GgufTensor::name);
  return found == tensors_.end() ? nullptr : &*found;
}

bool GgufFile::has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }

const std::string& GgufFile::text(std::string_view key) const {
  return typed<std::string>(*this, key, "a string");
}

std::int64_t GgufFile::integer(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found != metadata_.end()) {
    if (const auto* wide = std::get_if<std::uint64_t>(&found->second)) {
      QF_CHECK(*wide <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()),
               "{}: metadata '{}': {} does not fit into 63 bits", name(), key, *wide);
      return static_cast<std::int64_t>(*wide);
    }
  }
  return typed<std::int64_t>(*this, key, "an integer");
}

double GgufFile::number(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found != metadata_.end() && !std::holds_alternative<double>(found->second)) {
    return static_cast<double>(integer(key));
  }
  return typed<double>(*this, key, "a number");
}

const std::vector<std::string>& GgufFile::texts(std::string_view key) const {
  return typed<std::vector<std::string>>(*this, key, "an array of strings");
}

const std::vector<std::int64_t>& GgufFile::integers(std::string_view key) const {
  return typed<std::vector<std::int64_t>>(*this, key, "an array of integers");
}

void GgufFile::read_bytes(const GgufTensor& tensor, std::span<std::byte> out,
                          std::int64_t first_byte) const {
  QF_CHECK(
      first_byte >= 0 && first_byte <= tensor.bytes && std::ssize(out) <= tensor.bytes - first_byte,
      "{}: tensor '{}': expected to read inside its {} bytes, asked for {} at {}", name(),
      tensor.name, tensor.bytes, out.size(), first_byte);
  source_->read_at(tensor.offset + first_byte, out);
}

void GgufFile::read_f32(const GgufTensor& tensor, std::span<float> out, std::int64_t first) const {
  const GgmlBlock& block = *ggml_block(static_cast<std::uint32_t>(tensor.type));
  const std::int64_t elements = tensor.bytes / block.bytes * block.elements;
  const auto count = static_cast<std::int64_t>(out.size());
  QF_CHECK(first >= 0 && count <= elements && first <= elements - count &&
               first % block.elements == 0 && count % block.elements == 0,
           "{}: tensor '{}': expected whole blocks inside its {} elements, asked for {} at {}",
           name(), tensor.name, elements, count, first);
  // In pieces, so that the packed bytes of a large tensor are never held beside its floats.
  constexpr std::int64_t kBlocksAtOnce = 8192;
  std::vector<std::byte> bytes;
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t blocks = std::min(kBlocksAtOnce, (count - done) / block.elements);
    bytes.resize(static_cast<std::size_t>(blocks * block.bytes));
    source_->read_at(tensor.offset + (first + done) / block.elements * block.bytes, bytes);
    const std::int64_t part = blocks * block.elements;
    dequantize_ggml(tensor.type, bytes,
                    out.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(part)));
    done += part;
  }
}

}  // namespace qf
