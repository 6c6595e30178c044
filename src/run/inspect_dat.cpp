#include "inspect_dat.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/packed_entries.h"
#include "value_scan.h"

namespace qf {
namespace {

// Projections of real models lie well inside; a misread scale does not (doc/formats.md).
constexpr double kSmallestAmax = 1e-3;
constexpr double kLargestAmax = 1e2;

std::int64_t nan_scales(const WeightMatrix& weight) {
  const at::Tensor& scales = weight.scales();
  if (scales.scalar_type() != at::kByte) return at::isnan(scales).sum().item<std::int64_t>();
  return scales.bitwise_and(0x7F).eq(0x7F).sum().item<std::int64_t>();
}

void scan_values(const WeightMatrix& weight, InspectedTensor& tensor) {
  constexpr std::int64_t kValuesAtOnce = std::int64_t{1} << 22;
  const std::int64_t rows = weight.out_features();
  const std::int64_t step = std::max<std::int64_t>(1, kValuesAtOnce / weight.in_features());
  ValueScan scan;
  for (std::int64_t first = 0; first < rows; first += step) {
    scan.add(weight.dequantize_rows(first, std::min(step, rows - first)));
  }
  tensor.amax = scan.amax();
  const std::int64_t nan = nan_scales(weight);
  if (nan > 0) tensor.flags.push_back(fmt::format("{} NaN scales", nan));
  for (std::string& flag : scan.flags()) tensor.flags.push_back(std::move(flag));
  const double amax = tensor.amax.value_or(0);
  if (amax < kSmallestAmax || amax > kLargestAmax) {
    tensor.flags.push_back(fmt::format("dequantised amax {:.3g} is outside {} .. {}", amax,
                                       kSmallestAmax, kLargestAmax));
  }
}

InspectedTensor inspect_packed(const DatReader& file, const PackedGroup& group) {
  InspectedTensor tensor{.name = group.weight,
                         .type = std::string(weight_format_name(group.format)),
                         .shape = group.shape,
                         .entries = group.entries,
                         .flags = {}};
  for (const std::string& name : group.entries) tensor.bytes += file.find(name)->bytes;
  if (!group.problem.empty()) {
    tensor.flags.push_back(group.problem);
    return tensor;
  }
  const bool flat = group.shape.size() != 2;  // NF4 that does not say its shape
  const std::vector<std::int64_t> shape =
      flat ? std::vector<std::int64_t>{1, group.shape.at(0)} : group.shape;
  if (element_count(shape) == 0) return tensor;
  try {
    scan_values(load_packed(file, group, shape), tensor);
  } catch (const Error& error) {
    tensor.flags.emplace_back(error.what());
  }
  return tensor;
}

}  // namespace

InspectReport inspect_dat(const std::filesystem::path& path) {
  const DatReader file(path);
  InspectReport report{.path = path.string(), .format = "dat", .tensors = {}};
  report.entries = std::ssize(file.entries());
  // A packed weight stands where the first of its entries does.
  std::unordered_map<std::string, PackedGroup> group_of_entry;
  for (const PackedGroup& group : packed_groups(file)) {
    for (const std::string& entry : group.entries) group_of_entry.emplace(entry, group);
  }
  std::unordered_set<std::string> seen;
  for (const TensorInfo& entry : file.entries()) {
    const auto group = group_of_entry.find(entry.name);
    if (group != group_of_entry.end()) {
      if (seen.insert(group->second.codes).second) {
        report.tensors.push_back(inspect_packed(file, group->second));
      }
      continue;
    }
    InspectedTensor tensor = inspect_raw(
        entry, [&](std::span<std::byte> out, std::int64_t first) { file.read(entry, out, first); });
    if (entry.name.ends_with(".scale") && entry.type == DType::kF8E4M3) {
      tensor.flags.emplace_back("scales without the .qdata entry that they belong to");
    }
    report.tensors.push_back(std::move(tensor));
  }
  return report;
}

}  // namespace qf
