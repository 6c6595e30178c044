#include <bit>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "gguf_blocks.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/checked_shape.h"
#include "qwen3fp4/formats/gguf.h"

namespace qf {
namespace {

constexpr std::int64_t kAlignment = 32;

// Value types, as in the file.
constexpr std::uint32_t kU32 = 4;
constexpr std::uint32_t kI32 = 5;
constexpr std::uint32_t kF32 = 6;
constexpr std::uint32_t kBool = 7;
constexpr std::uint32_t kString = 8;
constexpr std::uint32_t kArray = 9;
constexpr std::uint32_t kU64 = 10;

class Bytes {
 public:
  void integer(std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
  void text(std::string_view value) {
    integer(value.size(), 8);
    const auto view = std::as_bytes(std::span(value));
    bytes_.insert(bytes_.end(), view.begin(), view.end());
  }
  void real(double value) { integer(std::bit_cast<std::uint32_t>(static_cast<float>(value)), 4); }
  void signed_integer(std::int64_t value, const std::string& key) {
    QF_CHECK(value >= std::numeric_limits<std::int32_t>::min() &&
                 value <= std::numeric_limits<std::int32_t>::max(),
             "GGUF metadata '{}': expected 32-bit integers, found {}", key, value);
    integer(static_cast<std::uint32_t>(value), 4);
  }
  void unsigned_integer(std::int64_t value, const std::string& key) {
    QF_CHECK(value >= 0 && value <= std::numeric_limits<std::uint32_t>::max(),
             "GGUF metadata '{}': expected an integer of 32 bits, found {}", key, value);
    integer(static_cast<std::uint64_t>(value), 4);
  }
  template <class T, class Write>
  void array(std::uint32_t type, const std::vector<T>& values, const Write& write) {
    integer(kArray, 4);
    integer(type, 4);
    integer(values.size(), 8);
    for (const T& value : values) write(value);
  }
  [[nodiscard]] std::span<const std::byte> view() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

void write_value(Bytes& out, const std::string& key, const GgufValue& value) {
  out.text(key);
  std::visit(
      [&](const auto& held) {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, std::int64_t>) {
          out.integer(kU32, 4);
          out.unsigned_integer(held, key);
        } else if constexpr (std::is_same_v<T, std::uint64_t>) {
          out.integer(kU64, 4);
          out.integer(held, 8);
        } else if constexpr (std::is_same_v<T, double>) {
          out.integer(kF32, 4);
          out.real(held);
        } else if constexpr (std::is_same_v<T, bool>) {
          out.integer(kBool, 4);
          out.integer(held ? 1 : 0, 1);
        } else if constexpr (std::is_same_v<T, std::string>) {
          out.integer(kString, 4);
          out.text(held);
        } else if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) {
          out.array(kI32, held, [&](std::int64_t v) { out.signed_integer(v, key); });
        } else if constexpr (std::is_same_v<T, std::vector<double>>) {
          out.array(kF32, held, [&](double v) { out.real(v); });
        } else {
          out.array(kString, held, [&](const std::string& v) { out.text(v); });
        }
      },
      value);
}

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

GgufWriter::GgufWriter(const std::filesystem::path& path, const Metadata& metadata,
                       std::span<const Tensor> tensors)
    : file_(path) {
  Bytes header;
  for (const char c : {'G', 'G', 'U', 'F'}) header.integer(static_cast<unsigned char>(c), 1);
  header.integer(3, 4);
  header.integer(tensors.size(), 8);
  header.integer(metadata.size(), 8);
  for (const auto& [key, value] : metadata) write_value(header, key, value);
  std::int64_t offset = 0;
  for (const Tensor& tensor : tensors) {
    const GgmlBlock& block = *ggml_block(static_cast<std::uint32_t>(tensor.type));
    const std::int64_t elements = checked_bytes(tensor.shape, 1);
    if (elements < 0 || tensor.shape.empty() || tensor.shape.back() % block.elements != 0) {
      throw std::logic_error(fmt::format("GgufWriter: '{}': no whole blocks a row", tensor.name));
    }
    payloads_.push_back(elements / block.elements * block.bytes);
    header.text(tensor.name);
    header.integer(tensor.shape.size(), 4);
    for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim) {
      header.integer(static_cast<std::uint64_t>(*dim), 8);
    }
    header.integer(static_cast<std::uint32_t>(tensor.type), 4);
    header.integer(static_cast<std::uint64_t>(offset), 8);
    offset += aligned(payloads_.back());
  }
  file_.write(header.view());
  pad();
  if (!payloads_.empty()) left_ = payloads_.front();
}

void GgufWriter::pad() {
  const std::vector<std::byte> zeros(
      static_cast<std::size_t>(aligned(file_.bytes_written()) - file_.bytes_written()));
  file_.write(zeros);
}

void GgufWriter::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (next_ == payloads_.size()) {
      throw std::logic_error("GgufWriter: more bytes than the tensors hold");
    }
    const auto part = bytes.first(static_cast<std::size_t>(std::min(left_, std::ssize(bytes))));
    file_.write(part);
    left_ -= std::ssize(part);
    bytes = bytes.subspan(part.size());
    if (left_ > 0) continue;
    pad();
    if (++next_ < payloads_.size()) left_ = payloads_[next_];
  }
}

void GgufWriter::finish() {
  if (next_ != payloads_.size()) {
    throw std::logic_error(
        fmt::format("GgufWriter: {} tensors are missing", payloads_.size() - next_));
  }
  file_.commit();
}

void unpack_ggml_nvfp4(std::span<const std::byte> blocks, std::uint8_t* codes,
                       std::uint8_t* scales) {
  const auto count = blocks.size() / kGgmlNvfp4Bytes;
  for (std::size_t b = 0; b < count; ++b) {
    const std::byte* in = blocks.data() + b * kGgmlNvfp4Bytes;
    for (std::size_t s = 0; s < 4; ++s) {
      scales[4 * b + s] = std::to_integer<std::uint8_t>(in[s]);
      const std::byte* both = in + 4 + 8 * s;
      std::uint8_t* out = codes + 32 * b + 8 * s;
      for (std::size_t i = 0; i < 4; ++i) {  // elements 2i and 2i + 1 of each half
        const auto first = std::to_integer<unsigned>(both[2 * i]);
        const auto second = std::to_integer<unsigned>(both[2 * i + 1]);
        out[i] = static_cast<std::uint8_t>((first & 0xF) | (second & 0xF) << 4);
        out[4 + i] = static_cast<std::uint8_t>(first >> 4 | (second & 0xF0));
      }
    }
  }
}

void pack_ggml_nvfp4(const std::uint8_t* codes, const std::uint8_t* scales,
                     std::span<std::byte> blocks) {
  const auto count = blocks.size() / kGgmlNvfp4Bytes;
  for (std::size_t b = 0; b < count; ++b) {
    std::byte* out = blocks.data() + b * kGgmlNvfp4Bytes;
    for (std::size_t s = 0; s < 4; ++s) {
      out[s] = static_cast<std::byte>(scales[4 * b + s]);
      const std::uint8_t* in = codes + 32 * b + 8 * s;
      for (std::size_t j = 0; j < 8; ++j) {
        const auto nibble = [&](std::size_t element) {
          return in[element / 2] >> (element % 2 == 0 ? 0 : 4) & 0xF;
        };
        out[4 + 8 * s + j] = static_cast<std::byte>(nibble(j) | nibble(8 + j) << 4);
      }
    }
  }
}

}  // namespace qf
