#include <ATen/ATen.h>

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string_view>
#include <system_error>

#include "checkpoint_sources.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/json_text.h"
#include "qwen3fp4/formats/safetensors.h"
#include "qwen3fp4/kernels/views.h"

namespace qf {
namespace {

at::ScalarType scalar_type(DType type) {
  return type == DType::kBF16 ? at::kBFloat16 : type == DType::kF16 ? at::kHalf : at::kFloat;
}

bool is_plain_float(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

// Entry names that only already quantised checkpoints have, and whose they are.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kQuantisedMarks = {{
    {".weight_packed", "compressed-tensors"},
    {".weight_scale", "ModelOpt or FP8"},
    {".quant_state.bitsandbytes__nf4", "bitsandbytes NF4"},
    {".qweight", "GPTQ or AWQ"},
}};

constexpr std::string_view kCodes = ".weight_packed";

// Without the description of compressed-tensors' NVFP4, which the entries say again; any other
// kind stays for ModelConfig to refuse.
std::string without_nvfp4(std::string config_json, const std::string& name) {
  const auto config = parse_json(config_json, name);
  if (!config.is_object() || !config.contains("quantization_config")) return config_json;
  const auto& packing = config["quantization_config"];
  const std::string what = name + ": quantization_config";
  if (!packing.is_object() ||
      optional_text(packing, "quant_method", "", what) != "compressed-tensors" ||
      optional_text(packing, "format", "", what) != kCompressedNvfp4) {
    return config_json;
  }
  auto kept = nlohmann::ordered_json::parse(config_json);
  kept.erase("quantization_config");
  return kept.dump(2) + "\n";
}

class SafetensorsSource final : public CheckpointSource {
 public:
  explicit SafetensorsSource(const std::filesystem::path& folder)
      : CheckpointSource(), checkpoint_(folder) {
    name_ = folder.string();
    const auto config = folder / "config.json";
    set_config(without_nvfp4(read_text_file(config), config.string()), config.string());
    for (const auto& entry : checkpoint_.entries()) find_nvfp4(entry);
    for (const auto& entry : checkpoint_.entries()) {
      if (packed_entries_.contains(entry.name)) {
        if (entry.name.ends_with(kCodes)) add_packed(entry);
        continue;
      }
      refuse_quantised(entry);
      CheckpointTensor tensor{.name = entry.name,
                              .name_in_file = entry.name,
                              .shape = entry.shape,
                              .stored_type = std::string(dtype_name(entry.type)),
                              .bytes = entry.bytes};
      tensor.readable = is_plain_float(entry.type);
      if (tensor.readable) tensor.float_type = entry.type;
      tensors_.push_back(std::move(tensor));
    }
    read_side_files(folder);
  }

  [[nodiscard]] std::optional<WeightMatrix> read_packed(
      const CheckpointTensor& tensor) const override {
    if (!packed_entries_.contains(tensor.name_in_file)) return std::nullopt;
    const auto module = module_of(tensor.name_in_file);
    return WeightMatrix::nvfp4(read_bytes(tensor.name_in_file),
                               read_bytes(module + ".weight_scale"), tensor_scale(module));
  }

  [[nodiscard]] at::Tensor read_f32(const CheckpointTensor& tensor) const override {
    if (const auto packed = read_packed(tensor)) return packed->dequantize();
    QF_CHECK(tensor.readable, "{}: {}: expected f32, f16 or bf16, found {}", name_,
             tensor.name_in_file, tensor.stored_type);
    const auto& entry = *checkpoint_.find(tensor.name_in_file);
    const auto stored = at::empty(tensor.shape, scalar_type(entry.type));
    checkpoint_.read(entry, {static_cast<std::byte*>(stored.data_ptr()), stored.nbytes()});
    return stored.to(at::kFloat);
  }

 private:
  // "model.layers.3.mlp.up_proj" of its codes' name.
  [[nodiscard]] static std::string module_of(const std::string& codes) {
    return codes.substr(0, codes.size() - kCodes.size());
  }

  // compressed-tensors' "nvfp4-pack-quantized": codes u8 [out, in/2], scales E4M3 [out, in/16], and
  // what the weight was multiplied with, f32 [1]. What quantises inputs is not ours to read.
  void find_nvfp4(const TensorInfo& entry) {
    if (!entry.name.ends_with(kCodes) || entry.type != DType::kU8) return;
    const auto module = module_of(entry.name);
    const auto* scale = checkpoint_.find(module + ".weight_scale");
    const auto* global = checkpoint_.find(module + ".weight_global_scale");
    if (scale == nullptr || scale->type != DType::kF8E4M3 || global == nullptr) return;
    QF_CHECK(
        entry.shape.size() == 2 && global->type == DType::kF32 &&
            element_count(global->shape) == 1 &&
            scale->shape ==
                std::vector<std::int64_t>({entry.shape[0], 2 * entry.shape[1] / kNvfp4Block}),
        "{}: {}: expected NVFP4 codes [out, in/2], scales [out, in/16] and one f32, found {}, {} "
        "and {}",
        name_, module, shape_text(entry.shape), shape_text(scale->shape),
        shape_text(global->shape));
    packed_entries_.insert({entry.name, scale->name, global->name, module + ".input_global_scale"});
  }

  void add_packed(const TensorInfo& codes) {
    const auto module = module_of(codes.name);
    CheckpointTensor tensor{.name = module + ".weight",
                            .name_in_file = codes.name,
                            .shape = {codes.shape[0], 2 * codes.shape[1]},
                            .stored_type = std::string(weight_format_name(WeightFormat::kNvfp4)),
                            .bytes = codes.bytes};
    for (const char* part : {".weight_scale", ".weight_global_scale"}) {
      tensor.bytes += checkpoint_.find(module + part)->bytes;
    }
    tensors_.push_back(std::move(tensor));
  }

  [[nodiscard]] at::Tensor read_bytes(const std::string& name) const {
    const auto& entry = *checkpoint_.find(name);
    const auto bytes = at::empty(entry.shape, at::kByte);
    checkpoint_.read(entry, {static_cast<std::byte*>(bytes.data_ptr()), bytes.nbytes()});
    return bytes;
  }

  // The file's number is a divisor, of which not every tensor scale is the reciprocal: ours are in
  // the metadata as well.
  [[nodiscard]] float tensor_scale(const std::string& module) const {
    if (const auto* text = checkpoint_.metadata(exact_scale_key(module))) {
      float value = 0;
      const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
      QF_CHECK(error == std::errc() && end == text->data() + text->size(),
               "{}: metadata {}: expected a number, found '{}'", name_, exact_scale_key(module),
               *text);
      return value;
    }
    float divisor = 0;
    const auto& entry = *checkpoint_.find(module + ".weight_global_scale");
    checkpoint_.read(entry, std::as_writable_bytes(std::span(&divisor, 1)));
    return 1.0F / divisor;
  }

  void refuse_quantised(const TensorInfo& entry) const {
    for (const auto& [mark, maker] : kQuantisedMarks) {
      QF_CHECK(!entry.name.ends_with(mark),
               "{}: {}: expected f32, f16 or bf16 weights, found an already quantised checkpoint "
               "({}); convert the original one",
               name_, entry.name, maker);
    }
  }

  SafetensorsCheckpoint checkpoint_;
  std::set<std::string> packed_entries_;
};

}  // namespace

std::unique_ptr<CheckpointSource> open_safetensors(const std::filesystem::path& folder) {
  return std::make_unique<SafetensorsSource>(folder);
}

}  // namespace qf
