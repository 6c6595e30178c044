#include "qwen3fp4/formats/dat.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/checked_shape.h"
#include "qwen3fp4/formats/utf8.h"

namespace qf {
namespace {

constexpr std::int64_t kMostDimensions = 64;
constexpr std::int64_t kLongestName = 4096;
// Far above any model's; without it a hostile file of short entries costs many times its size.
constexpr std::int64_t kMostEntries = std::int64_t{1} << 20;
// Name length, type, number of dimensions, and either one dimension of 0 or one byte of payload.
constexpr std::int64_t kShortestEntry = 4;

// Reads forward through a ByteSource in windows, so that headers cost one pread each and payloads
// none. `what` names the entry in errors.
class Cursor {
 public:
  explicit Cursor(const ByteSource& source) : source_(source) {}

  [[nodiscard]] std::int64_t position() const { return position_; }
  void skip(std::int64_t count) { position_ += count; }
  [[nodiscard]] std::int64_t left() const { return source_.size() - position_; }

  std::uint64_t leb(std::string_view field, const std::string& what) {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      const std::uint64_t byte = next(field, what);
      const std::uint64_t bits = byte & 0x7F;
      QF_CHECK(shift < 63 || bits <= 1, "{}: {}: {} does not fit into 64 bits", source_.name(),
               what, field);
      value |= bits << shift;
      if ((byte & 0x80) == 0) return value;
    }
    fail(ExitCode::kUnreadable, "{}: {}: {} is a number of more than 10 bytes", source_.name(),
         what, field);
  }

  // A LEB128 number that must not pass `most`.
  std::int64_t bounded(std::string_view field, const std::string& what, std::int64_t most) {
    const std::uint64_t value = leb(field, what);
    QF_CHECK(value <= static_cast<std::uint64_t>(most),
             "{}: {}: expected {} of at most {}, found {}", source_.name(), what, field, most,
             value);
    return static_cast<std::int64_t>(value);
  }

  std::string text(std::int64_t bytes, const std::string& what) {
    QF_CHECK(bytes <= left(), "{}: {}: the file ends inside its name", source_.name(), what);
    std::string out(static_cast<std::size_t>(bytes), '\0');
    source_.read_at(position_, std::as_writable_bytes(std::span(out)));
    position_ += bytes;
    return out;
  }

 private:
  std::uint64_t next(std::string_view field, const std::string& what) {
    QF_CHECK(left() > 0, "{}: {}: the file ends inside its {}", source_.name(), what, field);
    if (position_ >= window_end_) {
      const auto count = std::min<std::int64_t>(left(), static_cast<std::int64_t>(window_.size()));
      source_.read_at(position_, std::span(window_).first(static_cast<std::size_t>(count)));
      window_start_ = position_;
      window_end_ = position_ + count;
    }
    return std::to_integer<std::uint64_t>(
        window_[static_cast<std::size_t>(position_++ - window_start_)]);
  }

  const ByteSource& source_;
  std::array<std::byte, 512> window_{};
  std::int64_t window_start_ = 0;
  std::int64_t window_end_ = 0;
  std::int64_t position_ = 0;
};

TensorInfo parse_entry(Cursor& cursor, const ByteSource& source, std::int64_t index) {
  std::string what = fmt::format("entry {}", index);
  TensorInfo entry;
  entry.name = cursor.text(cursor.bounded("name length", what, kLongestName), what);
  QF_CHECK(is_valid_utf8(entry.name), "{}: {}: the name is not UTF-8", source.name(), what);
  what = fmt::format("entry '{}'", entry.name);

  const std::uint64_t code = cursor.leb("element type", what);
  QF_CHECK(is_known_dtype(code),
           "{}: {}: element type {} is not supported (supported: 0-7, 9-11, 15, 100, 101)",
           source.name(), what, code);
  entry.type = static_cast<DType>(code);

  const std::int64_t ndim = cursor.bounded("number of dimensions", what, kMostDimensions);
  for (std::int64_t i = 0; i < ndim; ++i) {
    entry.shape.push_back(
        cursor.bounded("dimension", what, std::numeric_limits<std::int64_t>::max()));
  }
  entry.bytes = checked_bytes(entry.shape, element_size(entry.type));
  entry.offset = cursor.position();
  QF_CHECK(entry.bytes >= 0 && entry.bytes <= cursor.left(),
           "{}: {}: {} of shape {} does not fit into the {} bytes that are left", source.name(),
           what, dtype_name(entry.type), shape_text(entry.shape), cursor.left());
  cursor.skip(entry.bytes);
  return entry;
}

void append_leb(std::vector<std::byte>& out, std::uint64_t value) {
  do {
    const auto bits = static_cast<unsigned>(value & 0x7F);
    value >>= 7;
    out.push_back(static_cast<std::byte>(bits | (value != 0 ? 0x80U : 0U)));
  } while (value != 0);
}

}  // namespace

DatReader::DatReader(const std::filesystem::path& path)
    : owned_(std::make_unique<FileSource>(path)), source_(owned_.get()) {
  parse();
}

DatReader::DatReader(const ByteSource& source) : source_(&source) { parse(); }

void DatReader::parse() {
  Cursor cursor(*source_);
  const std::int64_t most = std::min(source_->size() / kShortestEntry + 1, kMostEntries);
  const std::int64_t count = cursor.bounded("entry count", "header", most);
  for (std::int64_t i = 0; i < count; ++i) entries_.push_back(parse_entry(cursor, *source_, i));
  QF_CHECK(cursor.left() == 0, "{}: {} bytes too many after the last entry{}", source_->name(),
           cursor.left(), entries_.empty() ? "" : fmt::format(" '{}'", entries_.back().name));
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    QF_CHECK(by_name_.emplace(entries_[i].name, i).second, "{}: entry '{}' is there twice",
             source_->name(), entries_[i].name);
  }
}

const TensorInfo* DatReader::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

void DatReader::read(const TensorInfo& entry, std::span<std::byte> out,
                     std::int64_t first_byte) const {
  QF_CHECK(first_byte >= 0 && first_byte <= entry.bytes &&
               static_cast<std::int64_t>(out.size()) <= entry.bytes - first_byte,
           "{}: entry '{}': expected to read inside its {} bytes, asked for {} at {}",
           source_->name(), entry.name, entry.bytes, out.size(), first_byte);
  source_->read_at(entry.offset + first_byte, out);
}

DatWriter::DatWriter(const std::filesystem::path& path, std::int64_t entry_count)
    : file_(path), entries_left_(entry_count) {
  std::vector<std::byte> header;
  append_leb(header, static_cast<std::uint64_t>(entry_count));
  file_.write(header);
}

void DatWriter::begin(std::string_view name, DType type, const std::vector<std::int64_t>& shape) {
  if (payload_left_ != 0 || entries_left_ == 0) {
    throw std::logic_error(fmt::format("DatWriter: '{}' begun out of turn", name));
  }
  QF_CHECK(std::ssize(name) <= kLongestName && is_valid_utf8(name),
           ".dat files hold names in UTF-8 of at most {} bytes, found one of {}", kLongestName,
           name.size());
  QF_CHECK(names_.emplace(name).second, "entry '{}' is written twice", name);
  std::vector<std::byte> header;
  append_leb(header, name.size());
  const auto text = std::as_bytes(std::span(name));
  header.insert(header.end(), text.begin(), text.end());
  append_leb(header, static_cast<std::uint64_t>(type));
  append_leb(header, shape.size());
  for (const std::int64_t dim : shape) append_leb(header, static_cast<std::uint64_t>(dim));
  file_.write(header);
  payload_left_ = checked_bytes(shape, element_size(type));
  --entries_left_;
}

void DatWriter::append(std::span<const std::byte> bytes) {
  if (static_cast<std::int64_t>(bytes.size()) > payload_left_) {
    throw std::logic_error("DatWriter: more bytes than the shape holds");
  }
  file_.write(bytes);
  payload_left_ -= static_cast<std::int64_t>(bytes.size());
}

void DatWriter::write(std::string_view name, DType type, const std::vector<std::int64_t>& shape,
                      std::span<const std::byte> bytes) {
  begin(name, type, shape);
  append(bytes);
}

void DatWriter::finish() {
  if (payload_left_ != 0 || entries_left_ != 0) {
    throw std::logic_error(fmt::format("DatWriter: {} entries and {} bytes are missing",
                                       entries_left_, payload_left_));
  }
  file_.commit();
}

}  // namespace qf
