#include "qwen3fp4/run/linear_mode.h"

#include <fmt/format.h>

#include <string>
#include <unordered_map>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/packed_entries.h"
#include "qwen3fp4/model/weights.h"

namespace qf {
namespace {

// How a file has a weight, for messages; empty where the file lacks it, which loading will say.
std::string stored_as(const DatReader& file, const std::string& weight,
                      const std::unordered_map<std::string, PackedGroup>& groups) {
  const auto group = groups.find(weight);
  if (group == groups.end()) {
    const TensorInfo* entry = file.find(weight);
    return entry == nullptr ? std::string() : std::string(dtype_name(entry->type));
  }
  std::string name(weight_format_name(group->second.format));
  if (group->second.format != WeightFormat::kNvfp4) return name;
  const TensorInfo* scales = file.find(group->second.scales);
  const bool e4m3 =
      scales == nullptr || scales->type == DType::kU8 || scales->type == DType::kF8E4M3;
  return e4m3 ? name : fmt::format("{} with {} block scales", name, dtype_name(scales->type));
}

}  // namespace

void check_linear_mode(const Backend& backend, const ModelConfig& config,
                       const DatReader& weights) {
  if (backend.linear_mode() != LinearMode::kW4A4) return;
  std::unordered_map<std::string, PackedGroup> groups;
  for (PackedGroup& group : packed_groups(weights)) groups.emplace(group.weight, std::move(group));
  const bool has_head = groups.contains("lm_head.weight") || weights.find("lm_head.weight");
  for_each_weight(config, has_head, [&](const WeightSpec& spec) {
    const bool head = spec.kind == WeightKind::kHead || (spec.kind == WeightKind::kEmbedding &&
                                                         config.tie_word_embeddings && !has_head);
    if (spec.kind != WeightKind::kLinear && !head) return;
    const std::string found = stored_as(weights, spec.name, groups);
    const bool nvfp4 = found.starts_with("nvfp4");
    if (found.empty() || (head && !nvfp4)) return;
    if (found != "nvfp4") {
      fail(ExitCode::kUsage,
           "--linear w4a4: expected NVFP4 weights with E4M3 block scales (convert --format nvfp4), "
           "found {} in {} of {}",
           spec.name, found, weights.source().name());
    }
    const bool shaped = spec.shape[1] % 32 == 0 && spec.shape[0] % 8 == 0;
    if (backend.device().is_cuda() && !shaped) {
      fail(ExitCode::kUsage,
           "--linear w4a4: cuBLASLt expects inputs in multiples of 32 and outputs in multiples of "
           "8, found {} with {} inputs and {} outputs (--linear w4a16)",
           spec.name, spec.shape[1], spec.shape[0]);
    }
  });
}

void check_linear_mode(const Backend& backend, WeightFormat format) {
  if (backend.linear_mode() != LinearMode::kW4A4 || format == WeightFormat::kNvfp4) return;
  fail(ExitCode::kUsage, "--linear w4a4: expected NVFP4 weights, found --format {}",
       weight_format_name(format));
}

}  // namespace qf
