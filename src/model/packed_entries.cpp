#include "qwen3fp4/model/packed_entries.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/checked_shape.h"
#include "qwen3fp4/formats/json_text.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf {
namespace {

constexpr std::string_view kNf4State = "quant_state.bitsandbytes__nf4";

std::optional<at::ScalarType> scalar_type(DType type) {
  switch (type) {
    case DType::kU8:
    case DType::kF4E2M1x2:
    case DType::kF8E4M3:
      return at::kByte;  // packed codes and E4M3 bits are bytes to us
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF32:
      return at::kFloat;
    default:
      return std::nullopt;
  }
}

// The payload goes straight into the tensor's storage.
constexpr std::int64_t kReadAtOnce = std::int64_t{4} << 20;

at::Tensor load(const DatReader& file, const TensorInfo& entry) {
  const auto type = scalar_type(entry.type);
  QF_CHECK(type.has_value(),
           "{}: entry '{}': expected u8, f8_e4m3, f4_e2m1x2, f16, bf16 or f32, found {}",
           file.source().name(), entry.name, dtype_name(entry.type));
  auto tensor = at::empty(entry.shape, *type);
  // From the file cache one thread reads slower than a GPU takes it: its pages are new each time.
  const std::span<std::byte> bytes(static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes());
  parallel_chunks(std::ssize(bytes), kReadAtOnce, [&](std::int64_t begin, std::int64_t end) {
    file.read(entry,
              bytes.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
              begin);
  });
  return tensor;
}

const TensorInfo& required(const DatReader& file, const PackedGroup& group,
                           std::string_view suffix) {
  const std::string name = group.extra_prefix + std::string(suffix);
  const TensorInfo* entry = file.find(name);
  QF_CHECK(entry != nullptr, "{}: packed weight '{}': expected the entry '{}', found none",
           file.source().name(), group.weight, name);
  return *entry;
}

at::Tensor load_f32(const DatReader& file, const TensorInfo& entry, std::int64_t elements) {
  QF_CHECK(entry.type == DType::kF32 && element_count(entry.shape) == elements,
           "{}: entry '{}': expected {} values of f32, found {} of shape {}", file.source().name(),
           entry.name, elements, dtype_name(entry.type), shape_text(entry.shape));
  return load(file, entry).view({elements});
}

// What bitsandbytes writes as UTF-8 JSON into a u8 tensor.
struct Nf4State {
  std::int64_t blocksize = 0;
  std::vector<std::int64_t> shape;
  std::int64_t nested_blocksize = 256;
  std::optional<double> nested_offset;  // absent: absmax is not nested
};

std::int64_t count_in(const nlohmann::json& json, const char* key, const std::string& what) {
  QF_CHECK(json.contains(key) && json[key].is_number_unsigned() &&
               json[key].get<std::uint64_t>() <= std::uint64_t{1} << 40,
           "{}: expected a count '{}'", what, key);
  return json[key].get<std::int64_t>();
}

std::optional<Nf4State> read_state(const DatReader& file, const std::string& prefix) {
  const TensorInfo* entry = file.find(prefix + std::string(kNf4State));
  if (entry == nullptr) return std::nullopt;
  const std::string what = fmt::format("{}: entry '{}'", file.source().name(), entry->name);
  QF_CHECK(entry->type == DType::kU8 && entry->bytes <= 65536, "{}: expected JSON as u8", what);
  std::string text(static_cast<std::size_t>(entry->bytes), '\0');
  file.read(*entry, std::as_writable_bytes(std::span(text)));
  const auto json = parse_json(text, what);
  Nf4State state;
  state.blocksize = count_in(json, "blocksize", what);
  QF_CHECK(json.contains("shape") && json["shape"].is_array() && json["shape"].size() == 2,
           "{}: expected a 'shape' of two dimensions", what);
  for (const auto& dim : json["shape"]) {
    QF_CHECK(dim.is_number_unsigned() && dim.get<std::uint64_t>() - 1 < std::uint64_t{1} << 30,
             "{}: expected positive dimensions, found {}", what, json["shape"].dump());
    state.shape.push_back(dim.get<std::int64_t>());
  }
  if (json.contains("nested_offset") && !json["nested_offset"].is_null()) {
    QF_CHECK(json["nested_offset"].is_number(), "{}: expected a number 'nested_offset'", what);
    state.nested_offset = json["nested_offset"].get<double>();
    state.nested_blocksize = count_in(json, "nested_blocksize", what);
    QF_CHECK(state.nested_blocksize > 0, "{}: expected a positive 'nested_blocksize'", what);
  }
  return state;
}

bool strip(std::string_view& name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return false;
  name.remove_suffix(suffix.size());
  return true;
}

std::string weight_name(std::string_view base) {
  return base.ends_with(".weight") ? std::string(base) : std::string(base) + ".weight";
}

void collect(const DatReader& file, PackedGroup& group,
             std::initializer_list<std::string_view> suffixes) {
  group.entries.push_back(group.codes);
  for (const std::string_view suffix : suffixes) {
    std::string name = group.extra_prefix + std::string(suffix);
    if (file.find(name) != nullptr) group.entries.push_back(std::move(name));
  }
}

PackedGroup nvfp4_group(const DatReader& file, const TensorInfo& codes, std::string_view base) {
  PackedGroup group;
  group.format = WeightFormat::kNvfp4;
  group.weight = weight_name(base);
  group.codes = codes.name;
  group.extra_prefix = std::string(base) + ".";
  group.scales = group.extra_prefix + "scale";
  collect(file, group, {"scale", "scale_2"});
  if (codes.shape.size() == 2) {
    group.shape = {codes.shape[0], checked_bytes({codes.shape[1]}, 2)};
  } else {
    group.problem = fmt::format("entry '{}': expected [out, in/2], found shape {}", codes.name,
                                shape_text(codes.shape));
  }
  if (file.find(group.scales) == nullptr) {
    group.problem = fmt::format("packed weight '{}': expected the entry '{}', found none",
                                group.weight, group.scales);
  }
  return group;
}

PackedGroup nf4_group(const DatReader& file, const TensorInfo& absmax, std::string_view base) {
  PackedGroup group;
  group.format = WeightFormat::kNf4;
  group.weight = weight_name(base);
  group.scales = absmax.name;
  group.extra_prefix = std::string(base) + ".";
  group.codes = group.weight;
  const TensorInfo* codes = file.find(group.codes);
  if (codes == nullptr) {
    group.entries = {absmax.name};
    group.problem = fmt::format("packed weight '{}': expected the entry '{}', found none",
                                group.weight, group.codes);
    return group;
  }
  collect(file, group, {"absmax", "quant_map", "nested_absmax", "nested_quant_map", kNf4State});
  group.shape = {checked_bytes(codes->shape, 2)};
  if (file.find(group.extra_prefix + "quant_map") == nullptr) {
    group.problem = fmt::format("packed weight '{}': expected the entry '{}quant_map', found none",
                                group.weight, group.extra_prefix);
    return group;
  }
  try {
    if (const auto state = read_state(file, group.extra_prefix)) group.shape = state->shape;
  } catch (const Error& error) {
    group.problem = error.what();
  }
  return group;
}

WeightMatrix load_nvfp4(const DatReader& file, const PackedGroup& group) {
  const TensorInfo& codes = *file.find(group.codes);
  QF_CHECK(codes.type == DType::kU8 || codes.type == DType::kF4E2M1x2,
           "{}: entry '{}': expected u8 or f4_e2m1x2, found {}", file.source().name(), codes.name,
           dtype_name(codes.type));
  const TensorInfo& scale_entry = required(file, group, "scale");
  QF_CHECK(scale_entry.type != DType::kF4E2M1x2,
           "{}: entry '{}': expected f8_e4m3, u8 (its bits), f16 or f32, found {}",
           file.source().name(), scale_entry.name, dtype_name(scale_entry.type));
  auto scales = load(file, scale_entry);
  // Real scales (fp16, fp32) instead of E4M3 bits: some writers store them so.
  if (scales.scalar_type() != at::kByte) scales = scales.to(at::kFloat);
  float global_scale = 1.0F;
  if (const TensorInfo* entry = file.find(group.extra_prefix + "scale_2")) {
    global_scale = load_f32(file, *entry, 1).item<float>();
  }
  try {
    return WeightMatrix::nvfp4(load(file, codes), std::move(scales), global_scale);
  } catch (const Error& error) {
    fail(error.code(), "{}: packed weight '{}': {}", file.source().name(), group.weight,
         error.what());
  }
}

at::Tensor load_absmax(const DatReader& file, const PackedGroup& group,
                       const std::optional<Nf4State>& state, std::int64_t blocks) {
  const TensorInfo& entry = required(file, group, "absmax");
  if (entry.type == DType::kF32) return load_f32(file, entry, blocks);
  // Nested: absmax itself in 8 bits, a code book of 256 values, and an offset.
  QF_CHECK(entry.type == DType::kU8 && element_count(entry.shape) == blocks && state &&
               state->nested_offset,
           "{}: entry '{}': expected {} values of f32, or of u8 beside a quant_state with "
           "nested_offset, found {} of shape {}",
           file.source().name(), entry.name, blocks, dtype_name(entry.type),
           shape_text(entry.shape));
  const std::int64_t size = state->nested_blocksize;
  const auto book = load_f32(file, required(file, group, "nested_quant_map"), 256);
  const auto outer =
      load_f32(file, required(file, group, "nested_absmax"), (blocks + size - 1) / size);
  const auto codes = load(file, entry).view({blocks}).to(at::kLong);
  const auto block_of = at::arange(blocks, at::kLong).floor_divide(size);
  return book.index_select(0, codes) * outer.index_select(0, block_of) + *state->nested_offset;
}

WeightMatrix load_nf4(const DatReader& file, const PackedGroup& group,
                      const std::vector<std::int64_t>& shape) {
  const auto state = read_state(file, group.extra_prefix);
  const TensorInfo& codes = *file.find(group.codes);
  const std::int64_t elements = element_count(shape);
  QF_CHECK(codes.type == DType::kU8 && codes.bytes == (elements + 1) / 2,
           "{}: packed weight '{}': expected {} bytes of NF4 codes for shape {}, found {} of {}",
           file.source().name(), group.weight, (elements + 1) / 2, shape_text(shape), codes.bytes,
           dtype_name(codes.type));
  const std::int64_t block = state ? state->blocksize : kNf4Block;
  QF_CHECK(block > 0, "{}: packed weight '{}': expected a positive blocksize", file.source().name(),
           group.weight);
  auto absmax = load_absmax(file, group, state, (elements + block - 1) / block);
  auto book = load_f32(file, required(file, group, "quant_map"), 16);
  try {
    return WeightMatrix::nf4(load(file, codes).view({-1}), std::move(absmax), std::move(book),
                             shape[0], shape[1], block);
  } catch (const Error& error) {
    fail(error.code(), "{}: packed weight '{}': {}", file.source().name(), group.weight,
         error.what());
  }
}

}  // namespace

std::vector<PackedGroup> packed_groups(const DatReader& file) {
  std::vector<PackedGroup> groups;
  for (const TensorInfo& entry : file.entries()) {
    std::string_view base = entry.name;
    if (strip(base, ".qdata")) {
      groups.push_back(nvfp4_group(file, entry, base));
    } else if (strip(base, ".absmax")) {
      groups.push_back(nf4_group(file, entry, base));
    }
  }
  return groups;
}

WeightMatrix load_packed(const DatReader& file, const PackedGroup& group,
                         const std::vector<std::int64_t>& shape) {
  QF_CHECK(group.problem.empty(), "{}: {}", file.source().name(), group.problem);
  const bool known = group.shape.size() == 2;
  QF_CHECK(known ? group.shape == shape : group.shape[0] == element_count(shape),
           "{}: packed weight '{}': expected shape {}, found {}", file.source().name(),
           group.weight, shape_text(shape), shape_text(group.shape));
  return group.format == WeightFormat::kNvfp4 ? load_nvfp4(file, group)
                                              : load_nf4(file, group, shape);
}

at::Tensor load_float_tensor(const DatReader& file, const TensorInfo& entry,
                             const std::vector<std::int64_t>& shape) {
  QF_CHECK(entry.type == DType::kF32 || entry.type == DType::kF16 || entry.type == DType::kBF16,
           "{}: entry '{}': expected f32, f16 or bf16, found {}", file.source().name(), entry.name,
           dtype_name(entry.type));
  QF_CHECK(entry.shape == shape, "{}: entry '{}': expected shape {}, found {}",
           file.source().name(), entry.name, shape_text(shape), shape_text(entry.shape));
  return load(file, entry);
}

namespace {

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  TORCH_INTERNAL_ASSERT(tensor.is_contiguous() && tensor.is_cpu());
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

// Writes entries and keeps count of their bytes.
class EntryWriter {
 public:
  EntryWriter(DatWriter& out, const std::string& weight) : out_(out), weight_(weight) {}
  void write(const char* suffix, DType type, const std::vector<std::int64_t>& shape,
             std::span<const std::byte> bytes) {
    out_.write(weight_ + suffix, type, shape, bytes);
    bytes_ += std::ssize(bytes);
  }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  DatWriter& out_;
  const std::string& weight_;
  std::int64_t bytes_ = 0;
};

void write_nvfp4(EntryWriter& out, const WeightMatrix& weight, bool tensor_scale) {
  const std::int64_t rows = weight.out_features();
  const std::int64_t columns = weight.in_features();
  const float scale = weight.global_scale();
  QF_CHECK(tensor_scale || scale == 1.0F,
           "a weight without its tensor scale: expected one of 1, found {}", scale);
  const bool e4m3 = weight.scales().scalar_type() == at::kByte;
  out.write(".qdata", DType::kU8, {rows, columns / 2}, bytes_of(weight.codes()));
  out.write(".scale", e4m3 ? DType::kF8E4M3 : DType::kF32, {rows, columns / kNvfp4Block},
            bytes_of(weight.scales()));
  if (tensor_scale) {
    out.write(".scale_2", DType::kF32, {1}, std::as_bytes(std::span(&scale, 1)));
  }
}

void write_nf4(EntryWriter& out, const WeightMatrix& weight) {
  const std::int64_t rows = weight.out_features();
  const std::int64_t columns = weight.in_features();
  // bitsandbytes' names and its description of the matrix, which this layout has no shape for.
  const nlohmann::ordered_json state = {{"quant_type", "nf4"},
                                        {"blocksize", weight.nf4_view().block},
                                        {"dtype", "float32"},
                                        {"shape", {rows, columns}}};
  const auto text = state.dump();
  out.write("", DType::kU8, {rows * columns / 2, 1}, bytes_of(weight.codes()));
  out.write(".absmax", DType::kF32, {weight.scales().numel()}, bytes_of(weight.scales()));
  out.write(".quant_map", DType::kF32, {16}, bytes_of(weight.code_book()));
  out.write(".quant_state.bitsandbytes__nf4", DType::kU8, {std::ssize(text)},
            std::as_bytes(std::span(text)));
}

}  // namespace

std::int64_t write_weight(DatWriter& out, const std::string& name, const WeightMatrix& weight,
                          bool tensor_scale) {
  EntryWriter entries(out, name);
  const auto dense = [&](DType type) {
    entries.write("", type, {weight.out_features(), weight.in_features()},
                  bytes_of(weight.dense_values()));
  };
  switch (weight.format()) {
    case WeightFormat::kNvfp4:
      write_nvfp4(entries, weight, tensor_scale);
      break;
    case WeightFormat::kNf4:
      write_nf4(entries, weight);
      break;
    case WeightFormat::kF32:
      dense(DType::kF32);
      break;
    case WeightFormat::kF16:
      dense(DType::kF16);
      break;
    case WeightFormat::kBF16:
      dense(DType::kBF16);
      break;
  }
  return entries.bytes();
}

std::int64_t entries_of(WeightFormat format, bool tensor_scale) {
  if (format == WeightFormat::kNvfp4) return tensor_scale ? 3 : 2;
  return format == WeightFormat::kNf4 ? 4 : 1;
}

}  // namespace qf
