#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "checkpoint_sources.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/model/packed_entries.h"
#include "qwen3fp4/model/weights.h"

namespace qf {
namespace {

bool is_plain_float(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

// A `.dat` file, raw or packed, beside its config.json.
class DatSource final : public CheckpointSource {
 public:
  DatSource(const std::filesystem::path& folder, const std::filesystem::path& weights)
      : CheckpointSource(), file_(weights) {
    name_ = weights.string();
    const auto config = folder / "config.json";
    set_config(read_text_file(config), config.string());
    std::set<std::string> packed_entries;
    groups_ = packed_groups(file_);
    const bool some_flat =
        std::any_of(groups_.begin(), groups_.end(),
                    [](const PackedGroup& group) { return group.shape.size() != 2; });
    if (some_flat) read_inventory_shapes();
    for (const PackedGroup& group : groups_) {
      QF_CHECK(group.problem.empty(), "{}: {}", name_, group.problem);
      packed_entries.insert(group.entries.begin(), group.entries.end());
      add_packed(group);
    }
    for (const TensorInfo& entry : file_.entries()) {
      if (!packed_entries.contains(entry.name)) add_raw(entry);
    }
    read_side_files(folder);
  }

  [[nodiscard]] at::Tensor read_f32(const CheckpointTensor& tensor) const override {
    if (const auto packed = read_packed(tensor)) return packed->dequantize();
    QF_CHECK(tensor.readable, "{}: {}: expected f32, f16 or bf16, found {}", name_,
             tensor.name_in_file, tensor.stored_type);
    const TensorInfo& entry = *file_.find(tensor.name_in_file);
    return load_float_tensor(file_, entry, entry.shape).to(at::kFloat);
  }

  [[nodiscard]] std::optional<WeightMatrix> read_packed(
      const CheckpointTensor& tensor) const override {
    for (const PackedGroup& group : groups_) {
      if (group.codes == tensor.name_in_file) return load_packed(file_, group, tensor.shape);
    }
    return std::nullopt;
  }

  [[nodiscard]] bool head_overrides_tie() const override { return true; }

 private:
  void add_packed(const PackedGroup& group) {
    CheckpointTensor tensor{.name = group.weight,
                            .name_in_file = group.codes,
                            .shape = shape_of(group),
                            .stored_type = std::string(weight_format_name(group.format))};
    for (const std::string& entry : group.entries) tensor.bytes += file_.find(entry)->bytes;
    tensors_.push_back(std::move(tensor));
  }

  void read_inventory_shapes() {
    // Every layer has entries of its own: a larger number must not make us list a billion weights.
    QF_CHECK(config().num_hidden_layers <= std::ssize(file_.entries()),
             "{}: expected weights of {} layers by config.json, found {} entries", name_,
             config().num_hidden_layers, file_.entries().size());
    for_each_weight(config(), true, [&](const WeightSpec& spec) {
      inventory_shapes_.emplace(spec.name, spec.shape);
    });
  }

  // NF4 entries without a quant_state are flat: only the configuration knows the weight's shape.
  [[nodiscard]] std::vector<std::int64_t> shape_of(const PackedGroup& group) const {
    if (group.shape.size() == 2) return group.shape;
    const auto known = inventory_shapes_.find(group.weight);
    QF_CHECK(known != inventory_shapes_.end() &&
                 element_count(known->second) == element_count(group.shape),
             "{}: packed weight '{}' of {} values without a quant_state: expected {} values by "
             "config.json",
             name_, group.weight, element_count(group.shape),
             known == inventory_shapes_.end() ? 0 : element_count(known->second));
    return known->second;
  }

  void add_raw(const TensorInfo& entry) {
    CheckpointTensor tensor{.name = entry.name,
                            .name_in_file = entry.name,
                            .shape = entry.shape,
                            .stored_type = std::string(dtype_name(entry.type)),
                            .bytes = entry.bytes};
    tensor.readable = is_plain_float(entry.type);
    if (tensor.readable) tensor.float_type = entry.type;
    tensors_.push_back(std::move(tensor));
  }

  DatReader file_;
  std::vector<PackedGroup> groups_;
  std::map<std::string, std::vector<std::int64_t>> inventory_shapes_;
};

}  // namespace

std::unique_ptr<CheckpointSource> open_dat(const std::filesystem::path& folder,
                                           const std::filesystem::path& weights) {
  return std::make_unique<DatSource>(folder, weights);
}

}  // namespace qf
