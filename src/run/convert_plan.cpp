#include "convert_plan.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <set>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/kernels/views.h"
#include "qwen3fp4/model/packed_entries.h"
#include "qwen3fp4/run/convert.h"
#include "qwen3fp4/run/name_filter.h"

namespace qf {
namespace {

constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";

bool is_packed(WeightFormat format) {
  return format == WeightFormat::kNvfp4 || format == WeightFormat::kNf4;
}

// Old transformers versions stored this table, which every loader computes anew.
bool is_harmless(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

// "model.layers.3.self_attn.q_proj.weight" -> "q_proj"
std::string family_of(const WeightSpec& spec) {
  if (spec.kind == WeightKind::kNorm) return "norm";
  const auto last = spec.name.rfind('.');
  const auto before = spec.name.rfind('.', last - 1);
  const auto begin = before == std::string::npos ? 0 : before + 1;
  return spec.name.substr(begin, last - begin);
}

WeightFormat float_format(const CheckpointTensor& source) {
  if (source.float_type == DType::kF32) return WeightFormat::kF32;
  if (source.float_type == DType::kF16) return WeightFormat::kF16;
  return WeightFormat::kBF16;
}

class Planner {
 public:
  Planner(const CheckpointSource& source, const ConvertOptions& options)
      : source_(source), options_(options), keep_("--keep", "weight", options.keep) {
    for (const auto& tensor : source.tensors()) {
      QF_CHECK(by_name_.emplace(tensor.name, &tensor).second,
               "{}: {}: expected every weight once, found it twice", source.name(), tensor.name);
    }
  }

  [[nodiscard]] ConvertPlan plan() {
    const bool tied = source_.config().tie_word_embeddings;
    const bool stored_head = by_name_.contains(kHead);
    const bool own_head = !tied || (stored_head && source_.head_overrides_tie());
    if (stored_head && !own_head) check_head_is_the_embedding();
    // Asked once, so that a --keep that names only a tied head counts as matched.
    const bool head_kept = keep_.matches(std::string(kHead));
    plan_.unties_head = !own_head && is_packed(options_.format) && !head_kept;
    const bool with_head = own_head || plan_.unties_head;
    plan_.config_says_tied = tied && with_head;

    for_each_weight(source_.config(), with_head, [&](const WeightSpec& spec) { add(spec); });
    keep_.check_matched_something();
    refuse_leftovers();
    return std::move(plan_);
  }

 private:
  void add(const WeightSpec& spec) {
    const bool head_from_embedding = plan_.unties_head && spec.kind == WeightKind::kHead;
    const auto found =
        by_name_.find(head_from_embedding ? kEmbedding : std::string_view(spec.name));
    QF_CHECK(found != by_name_.end(),
             "{}: {} {}: expected by the configuration, found no such tensor", source_.name(),
             spec.name, shape_text(spec.shape));
    const auto& tensor = *found->second;
    used_.insert(&tensor);
    QF_CHECK(tensor.readable, "{}: {}: expected a weight of f32, f16 or bf16, found {}",
             source_.name(), tensor.name_in_file, tensor.stored_type);
    QF_CHECK(tensor.shape == spec.shape,
             "{}: {}: expected shape {} from the configuration, found {}", source_.name(),
             tensor.name_in_file, shape_text(spec.shape), shape_text(tensor.shape));
    PlannedTensor planned{.spec = spec,
                          .family = family_of(spec),
                          .source = &tensor,
                          .format = format_for(spec, tensor)};
    check_fits(planned);
    plan_.entry_count += entries_of(planned.format, /*tensor_scale=*/!options_.compat);
    plan_.values += element_count(spec.shape);
    plan_.tensors.push_back(std::move(planned));
  }

  [[nodiscard]] WeightFormat format_for(const WeightSpec& spec, const CheckpointTensor& tensor) {
    if (keep_.matches(spec.name)) return float_format(tensor);
    const bool multiplies = spec.kind == WeightKind::kLinear || spec.kind == WeightKind::kHead;
    return is_packed(options_.format) && !multiplies ? float_format(tensor) : options_.format;
  }

  void check_fits(const PlannedTensor& planned) const {
    const auto& shape = planned.spec.shape;
    if (planned.format == WeightFormat::kNvfp4) {
      QF_CHECK(shape[1] % kNvfp4Block == 0,
               "{}: {}: expected rows of a multiple of {} values for nvfp4, found {} (--keep or "
               "--format bf16)",
               source_.name(), planned.spec.name, kNvfp4Block, shape[1]);
    }
    if (planned.format == WeightFormat::kNf4) {
      QF_CHECK(element_count(shape) % 2 == 0,
               "{}: {}: expected an even number of values for nf4, found {} (--keep or --format "
               "bf16)",
               source_.name(), planned.spec.name, element_count(shape));
    }
  }

  // Some tied checkpoints store the embedding a second time under the head's name. Their loaders
  // ignore it, so a different one would silently change the model either way.
  void check_head_is_the_embedding() {
    const auto& head = *by_name_.at(kHead);
    const auto embedding = by_name_.find(kEmbedding);
    QF_CHECK(embedding != by_name_.end() && head.readable && embedding->second->readable &&
                 head.shape == embedding->second->shape &&
                 at::equal(source_.read_f32(head), source_.read_f32(*embedding->second)),
             "{}: {}: expected the embedding's values, for config.json says tie_word_embeddings; "
             "found others",
             source_.name(), head.name_in_file);
    used_.insert(&head);
  }

  void refuse_leftovers() const {
    const CheckpointTensor* first = nullptr;
    std::int64_t count = 0;
    for (const auto& tensor : source_.tensors()) {
      if (used_.contains(&tensor) || is_harmless(tensor.name)) continue;
      if (first == nullptr) first = &tensor;
      ++count;
    }
    QF_CHECK(count == 0,
             "{}: {} {}: a {} model of {} layers has no such weight ({} unknown in all)",
             source_.name(), first->name_in_file, shape_text(first->shape),
             source_.config().model_type, source_.config().num_hidden_layers, count);
  }

  const CheckpointSource& source_;
  const ConvertOptions& options_;
  NameFilter keep_;
  std::map<std::string_view, const CheckpointTensor*> by_name_;
  std::set<const CheckpointTensor*> used_;
  ConvertPlan plan_;
};

}  // namespace

ConvertPlan plan_conversion(const CheckpointSource& source, const ConvertOptions& options) {
  return Planner(source, options).plan();
}

void check_destination(const std::filesystem::path& source,
                       const std::filesystem::path& destination, bool replace) {
  namespace fs = std::filesystem;
  const auto from = fs::weakly_canonical(source);
  const auto to = fs::weakly_canonical(destination);
  const auto [in_to, in_from] = std::mismatch(to.begin(), to.end(), from.begin(), from.end());
  if (in_to == to.end()) {
    fail(ExitCode::kUsage,
         "{}: expected a destination that does not hold the source, found {} in it",
         destination.string(), source.string());
  }
  if (!fs::exists(destination)) return;
  if (!fs::is_directory(destination)) {
    fail(ExitCode::kUsage, "{}: expected a folder to write, found a file", destination.string());
  }
  if (folder_is_empty(destination)) return;
  if (!replace) {
    fail(ExitCode::kUsage, "{}: exists already (--force replaces a model folder)",
         destination.string());
  }
  if (!fs::exists(destination / "model.dat")) {
    fail(ExitCode::kUsage,
         "{}: expected a model folder to replace, found a folder without model.dat",
         destination.string());
  }
}

}  // namespace qf
