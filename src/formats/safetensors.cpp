#include "qwen3fp4/formats/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/checked_shape.h"
#include "qwen3fp4/formats/json_text.h"

namespace qf {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kMostHeaderBytes = 100'000'000;  // the safetensors library's own limit
constexpr std::size_t kMostDimensions = 64;

constexpr std::pair<std::string_view, DType> kTypes[] = {
    {"BOOL", DType::kBool}, {"U8", DType::kU8},          {"I8", DType::kI8},
    {"I16", DType::kI16},   {"I32", DType::kI32},        {"I64", DType::kI64},
    {"F16", DType::kF16},   {"BF16", DType::kBF16},      {"F32", DType::kF32},
    {"F64", DType::kF64},   {"F8_E4M3", DType::kF8E4M3},
};

DType type_named(const std::string& name, const std::string& what) {
  for (const auto& [text, type] : kTypes) {
    if (text == name) return type;
  }
  fail(ExitCode::kUnreadable,
       "{}: dtype {} is not supported (supported: BOOL U8 I8 I16 I32 I64 F16 BF16 F32 F64 F8_E4M3)",
       what, name);
}

std::string_view name_of(DType type) {
  for (const auto& [text, known] : kTypes) {
    if (known == type) return text;
  }
  fail(ExitCode::kUnreadable, "safetensors cannot hold {}", dtype_name(type));
}

// A list of non-negative integers under `key`.
std::vector<std::int64_t> integers(const Json& entry, const char* key, const std::string& what) {
  const auto found = entry.find(key);
  QF_CHECK(found != entry.end() && found->is_array() && found->size() <= kMostDimensions,
           "{}: expected a list '{}'", what, key);
  std::vector<std::int64_t> out;
  for (const Json& value : *found) {
    QF_CHECK(value.is_number_unsigned() &&
                 value.get<std::uint64_t>() <=
                     static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()),
             "{}: expected non-negative integers in '{}', found {}", what, key, value.dump());
    out.push_back(value.get<std::int64_t>());
  }
  return out;
}

// `payload`: where offsets count from. The offsets' order is checked by the caller.
TensorInfo parse_entry(const std::string& name, const Json& entry, std::int64_t payload,
                       const std::string& file) {
  const std::string what = fmt::format("{}: tensor '{}'", file, name);
  QF_CHECK(entry.is_object() && entry.contains("dtype") && entry["dtype"].is_string(),
           "{}: expected an object with dtype, shape and data_offsets", what);
  TensorInfo info;
  info.name = name;
  info.type = type_named(entry["dtype"].get<std::string>(), what);
  info.shape = integers(entry, "shape", what);
  const auto offsets = integers(entry, "data_offsets", what);
  QF_CHECK(offsets.size() == 2 && offsets[0] <= offsets[1],
           "{}: expected data_offsets [begin, end] with begin <= end", what);
  info.bytes = checked_bytes(info.shape, element_size(info.type));
  QF_CHECK(info.bytes == offsets[1] - offsets[0],
           "{}: {} of shape {} needs {} bytes, its data_offsets hold {}", what,
           dtype_name(info.type), shape_text(info.shape), info.bytes, offsets[1] - offsets[0]);
  QF_CHECK(offsets[1] <= std::numeric_limits<std::int64_t>::max() - payload,
           "{}: data_offsets pass the end of the file", what);
  info.offset = payload + offsets[0];
  return info;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : owned_(std::make_unique<FileSource>(path)), source_(owned_.get()) {
  parse();
}

SafetensorsFile::SafetensorsFile(const ByteSource& source) : source_(&source) { parse(); }

void SafetensorsFile::parse() {
  const std::string& file = source_->name();
  std::array<unsigned char, 8> raw{};
  QF_CHECK(source_->size() >= 8, "{}: expected a safetensors file, found {} bytes", file,
           source_->size());
  source_->read_at(0, std::as_writable_bytes(std::span(raw)));
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < raw.size(); ++i) length |= std::uint64_t{raw[i]} << (8 * i);
  const std::int64_t most = std::min(kMostHeaderBytes, source_->size() - 8);
  QF_CHECK(length <= static_cast<std::uint64_t>(most),
           "{}: expected a safetensors header of at most {} bytes, found a length of {}", file,
           most, length);
  std::string text(length, '\0');
  source_->read_at(8, std::as_writable_bytes(std::span(text)));
  const Json header = parse_json(text, file + ": header");
  QF_CHECK(header.is_object(), "{}: expected the header to be a JSON object", file);

  const std::int64_t payload = 8 + static_cast<std::int64_t>(length);
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      QF_CHECK(entry.is_object(), "{}: expected __metadata__ to be an object", file);
      for (const auto& [key, value] : entry.items()) {
        QF_CHECK(value.is_string(), "{}: expected __metadata__ to hold strings", file);
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    entries_.push_back(parse_entry(name, entry, payload, file));
  }
  std::ranges::sort(entries_, {}, [](const TensorInfo& t) { return std::pair(t.offset, t.bytes); });
  std::int64_t next = payload;
  for (const TensorInfo& entry : entries_) {
    QF_CHECK(entry.offset == next,
             "{}: tensor '{}': expected its bytes at offset {}, found {}: gap or overlap", file,
             entry.name, next - payload, entry.offset - payload);
    next += entry.bytes;
  }
  QF_CHECK(next == source_->size(), "{}: expected {} bytes by the header, found {}{}", file, next,
           source_->size(),
           entries_.empty() ? "" : fmt::format(" (last tensor '{}')", entries_.back().name));
}

void SafetensorsFile::read(const TensorInfo& entry, std::span<std::byte> out,
                           std::int64_t first_byte) const {
  QF_CHECK(first_byte >= 0 && first_byte <= entry.bytes &&
               static_cast<std::int64_t>(out.size()) <= entry.bytes - first_byte,
           "{}: tensor '{}': expected to read inside its {} bytes, asked for {} at {}",
           source_->name(), entry.name, entry.bytes, out.size(), first_byte);
  source_->read_at(entry.offset + first_byte, out);
}

SafetensorsCheckpoint::SafetensorsCheckpoint(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  const fs::path single = folder / "model.safetensors";
  const fs::path index = folder / "model.safetensors.index.json";
  if (fs::exists(single)) {
    shards_.push_back(std::make_unique<SafetensorsFile>(single));
    entries_ = shards_[0]->entries();
    shard_of_entry_.assign(entries_.size(), 0);
    return;
  }
  QF_CHECK(fs::exists(index), "{}: expected model.safetensors or model.safetensors.index.json",
           folder.string());
  const Json json = parse_json(read_text_file(index), index.string());
  QF_CHECK(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(),
           "{}: expected an object 'weight_map'", index.string());
  std::map<std::string, std::set<std::string>> names_of_shard;
  for (const auto& [name, shard] : json["weight_map"].items()) {
    QF_CHECK(shard.is_string(), "{}: expected a file name for '{}'", index.string(), name);
    const fs::path file = shard.get<std::string>();
    QF_CHECK(file == file.filename() && !file.empty() && file != "." && file != "..",
             "{}: expected a shard in the same folder for '{}', found '{}'", index.string(), name,
             file.string());
    names_of_shard[file.string()].insert(name);
  }
  for (const auto& [file, names] : names_of_shard) {
    shards_.push_back(std::make_unique<SafetensorsFile>(folder / file));
    std::size_t found = 0;
    for (const TensorInfo& entry : shards_.back()->entries()) {
      QF_CHECK(names.contains(entry.name), "{}: tensor '{}' is not in the index for this shard",
               (folder / file).string(), entry.name);
      ++found;
      entries_.push_back(entry);
      shard_of_entry_.push_back(shards_.size() - 1);
    }
    QF_CHECK(found == names.size(), "{}: expected {} tensors by the index, found {}",
             (folder / file).string(), names.size(), found);
  }
}

const TensorInfo* SafetensorsCheckpoint::find(std::string_view name) const {
  const auto found = std::ranges::find(entries_, name, &TensorInfo::name);
  return found == entries_.end() ? nullptr : &*found;
}

const std::string* SafetensorsCheckpoint::metadata(const std::string& key) const {
  for (const auto& shard : shards_) {
    const auto found = shard->metadata().find(key);
    if (found != shard->metadata().end()) return &found->second;
  }
  return nullptr;
}

void SafetensorsCheckpoint::read(const TensorInfo& entry, std::span<std::byte> out,
                                 std::int64_t first_byte) const {
  const TensorInfo* found = find(entry.name);
  QF_CHECK(found != nullptr, "the checkpoint has no tensor '{}'", entry.name);
  const auto index = static_cast<std::size_t>(found - entries_.data());
  shards_[shard_of_entry_[index]]->read(*found, out, first_byte);
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::span<const Tensor> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const Tensor& tensor : tensors) {
    const std::int64_t bytes = checked_bytes(tensor.shape, element_size(tensor.type));
    if (bytes < 0 || header.contains(tensor.name)) {
      throw std::logic_error(
          fmt::format("SafetensorsWriter: '{}' twice or too large", tensor.name));
    }
    header[tensor.name] = {{"dtype", name_of(tensor.type)},
                           {"shape", tensor.shape},
                           {"data_offsets", {bytes_left_, bytes_left_ + bytes}}};
    bytes_left_ += bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8,
              ' ');  // payloads start aligned, as the library writes them
  std::array<std::byte, 8> length{};
  for (std::size_t i = 0; i < 8; ++i) {
    length[i] = static_cast<std::byte>(static_cast<std::uint64_t>(text.size()) >> (8 * i) & 0xFF);
  }
  file_.write(length);
  file_.write(std::as_bytes(std::span(text)));
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  bytes_left_ -= std::ssize(bytes);
  if (bytes_left_ < 0) throw std::logic_error("SafetensorsWriter: more bytes than the shapes hold");
  file_.write(bytes);
}

void SafetensorsWriter::finish() {
  if (bytes_left_ != 0) {
    throw std::logic_error(fmt::format("SafetensorsWriter: {} bytes are missing", bytes_left_));
  }
  file_.commit();
}

void write_safetensors(const std::filesystem::path& path, std::span<const NamedBytes> tensors) {
  std::vector<SafetensorsWriter::Tensor> headers;
  for (const NamedBytes& tensor : tensors) {
    if (std::ssize(tensor.bytes) != checked_bytes(tensor.shape, element_size(tensor.type))) {
      throw std::logic_error(
          fmt::format("write_safetensors: '{}': shape and bytes disagree", tensor.name));
    }
    headers.push_back({std::string(tensor.name), tensor.type, tensor.shape});
  }
  SafetensorsWriter out(path, headers);
  for (const NamedBytes& tensor : tensors) out.append(tensor.bytes);
  out.finish();
}

}  // namespace qf
