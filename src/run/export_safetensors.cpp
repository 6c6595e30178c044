#include <ATen/ATen.h>
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "checkpoint_sources.h"
#include "export_formats.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/safetensors.h"
#include "qwen3fp4/kernels/views.h"

namespace qf {
namespace {

using Json = nlohmann::ordered_json;

// "model.layers.3.mlp.up_proj"
std::string module_of(const std::string& weight) {
  return weight.substr(0, weight.size() - std::string_view(".weight").size());
}

WeightMatrix read_nvfp4(const CheckpointSource& source, const ExportedWeight& weight) {
  auto packed = source.read_packed(*weight.source);
  QF_CHECK(packed && packed->scales().scalar_type() == at::kByte,
           "{}: {}: expected NVFP4 with E4M3 scales to export, found other scales", source.name(),
           weight.spec.name);
  return *packed;
}

// compressed-tensors' scheme NVFP4A16: weights in 4 bits, inputs as they are.
Json quantization_config(const std::vector<std::string>& dense_linears) {
  const Json scheme = {{"targets", {"Linear"}},
                       {"weights",
                        {{"num_bits", 4},
                         {"type", "float"},
                         {"symmetric", true},
                         {"strategy", "tensor_group"},
                         {"group_size", kNvfp4Block},
                         {"dynamic", false}}},
                       {"input_activations", nullptr},
                       {"output_activations", nullptr},
                       {"format", kCompressedNvfp4}};
  return {{"quant_method", "compressed-tensors"},
          {"format", kCompressedNvfp4},
          {"quantization_status", "compressed"},
          {"config_groups", {{"group_0", scheme}}},
          {"ignore", dense_linears}};
}

std::string config_json(const CheckpointSource& source,
                        const std::vector<ExportedWeight>& weights) {
  auto config = Json::parse(source.config_json());
  std::vector<std::string> dense_linears;
  bool packed = false;
  bool with_head = false;
  for (const ExportedWeight& weight : weights) {
    packed |= weight.packed();
    with_head |= weight.spec.kind == WeightKind::kHead;
    const bool multiplies =
        weight.spec.kind == WeightKind::kLinear || weight.spec.kind == WeightKind::kHead;
    if (multiplies && !weight.packed()) dense_linears.push_back(module_of(weight.spec.name));
  }
  if (!with_head) dense_linears.emplace_back("lm_head");  // the embedding
  config["tie_word_embeddings"] = !with_head;
  if (packed) config["quantization_config"] = quantization_config(dense_linears);
  return config.dump(2) + "\n";
}

}  // namespace

void write_safetensors_folder(const CheckpointSource& source,
                              const std::vector<ExportedWeight>& weights,
                              const std::filesystem::path& folder, const BeforeWeight& before) {
  std::vector<SafetensorsWriter::Tensor> tensors;
  std::map<std::string, std::string> metadata{{"format", "pt"}};
  for (const ExportedWeight& weight : weights) {
    const auto& shape = weight.spec.shape;
    if (!weight.packed()) {
      tensors.push_back({weight.spec.name, *weight.source->float_type, shape});
      continue;
    }
    const auto module = module_of(weight.spec.name);
    tensors.push_back({module + ".weight_packed", DType::kU8, {shape[0], shape[1] / 2}});
    tensors.push_back(
        {module + ".weight_scale", DType::kF8E4M3, {shape[0], shape[1] / kNvfp4Block}});
    tensors.push_back({module + ".weight_global_scale", DType::kF32, {1}});
    metadata[exact_scale_key(module)] =
        fmt::format("{:.9g}", read_nvfp4(source, weight).global_scale());
  }
  SafetensorsWriter out(folder / "model.safetensors", tensors, metadata);
  for (const ExportedWeight& weight : weights) {
    before(weight);
    if (!weight.packed()) {
      out.append(bytes_of(dense_values(source, weight)));
      continue;
    }
    const auto packed = read_nvfp4(source, weight);
    const float divisor = 1.0F / packed.global_scale();
    out.append(bytes_of(packed.codes()));
    out.append(bytes_of(packed.scales()));
    out.append(std::as_bytes(std::span(&divisor, 1)));
  }
  out.finish();
  write_text_file(folder / "config.json", config_json(source, weights));
  for (const auto& file : source.side_files()) write_text_file(folder / file.name, file.text);
}

}  // namespace qf
