#include "weight_loader.h"

#include <ATen/ATen.h>

#include <utility>

#include "qwen3fp4/base/error.h"

namespace qf {

WeightLoader::WeightLoader(const DatReader& file, Progress progress)
    : file_(file), progress_(std::move(progress)) {
  for (PackedGroup& group : packed_groups(file)) {
    const std::string weight = group.weight;
    const bool fresh = groups_.emplace(weight, std::move(group)).second;
    QF_CHECK(fresh, "{}: weight '{}' is packed twice", file.source().name(), weight);
  }
}

bool WeightLoader::has(const std::string& weight) const {
  return groups_.contains(weight) || file_.find(weight) != nullptr;
}

const TensorInfo& WeightLoader::raw_entry(const WeightSpec& spec) const {
  const TensorInfo* entry = file_.find(spec.name);
  if (entry == nullptr) {
    const std::string base = spec.name.substr(0, spec.name.size() - std::string(".weight").size());
    for (const std::string& prefix : {spec.name, base}) {
      QF_CHECK(file_.find(prefix + ".scale") == nullptr,
               "{}: weight '{}': the entry '{}.scale' has no '{}.qdata' beside it",
               file_.source().name(), spec.name, prefix, prefix);
    }
  }
  QF_CHECK(entry != nullptr,
           "{}: weight '{}' {} is missing: expected it as a float entry or packed",
           file_.source().name(), spec.name, shape_text(spec.shape));
  return *entry;
}

void WeightLoader::take(const std::string& entry) {
  taken_.insert(entry);
  bytes_read_ += file_.find(entry)->bytes;
  if (progress_) progress_(bytes_read_, file_.source().size());
}

WeightMatrix WeightLoader::matrix(const WeightSpec& spec) {
  const auto group = groups_.find(spec.name);
  if (group == groups_.end()) {
    const TensorInfo& entry = raw_entry(spec);
    auto weight = WeightMatrix::dense(load_float_tensor(file_, entry, spec.shape));
    take(entry.name);
    return weight;
  }
  WeightMatrix weight = load_packed(file_, group->second, spec.shape);
  for (const std::string& entry : group->second.entries) take(entry);
  QF_CHECK(file_.find(spec.name) == nullptr || taken_.contains(spec.name),
           "{}: weight '{}' is there twice: packed and as a float entry", file_.source().name(),
           spec.name);
  return weight;
}

at::Tensor WeightLoader::norm(const WeightSpec& spec) {
  const TensorInfo& entry = raw_entry(spec);
  auto weight = load_float_tensor(file_, entry, spec.shape).to(at::kFloat);
  take(entry.name);
  return weight;
}

void WeightLoader::check_nothing_left() const {
  constexpr std::size_t kNamed = 5;
  std::string names;
  std::size_t left = 0;
  for (const TensorInfo& entry : file_.entries()) {
    if (taken_.contains(entry.name)) continue;
    if (left < kNamed) names += (left == 0 ? "'" : ", '") + entry.name + "'";
    ++left;
  }
  QF_CHECK(left == 0, "{}: {} entries belong to no weight of this model: {}{}",
           file_.source().name(), left, names, left > kNamed ? ", ..." : "");
}

std::unique_ptr<WeightSource> make_weight_source(
    const DatReader& file, std::function<void(std::int64_t, std::int64_t)> progress) {
  return std::make_unique<WeightLoader>(file, std::move(progress));
}

}  // namespace qf
