#include "qwen3fp4/run/export_checkpoint.h"

#include <ATen/ATen.h>

#include "export_formats.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/tensor_info.h"

namespace qf {
namespace {

namespace fs = std::filesystem;

fs::path folder_path(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

void check_destination(const CheckpointSource& source, const fs::path& destination,
                       ExportFormat format, bool replace) {
  const auto path = folder_path(destination);
  const auto from = fs::weakly_canonical(source.name());
  if (fs::weakly_canonical(path) == from || fs::weakly_canonical(path) == from.parent_path()) {
    fail(ExitCode::kUsage, "{}: expected a destination apart from the source", path.string());
  }
  const bool folder = format == ExportFormat::kSafetensors;
  if (fs::exists(path) && !(folder && fs::is_directory(path) && folder_is_empty(path))) {
    if (!replace) fail(ExitCode::kUsage, "{}: exists already (--force replaces it)", path.string());
    const bool ours = folder ? fs::exists(path / "model.safetensors") : fs::is_regular_file(path);
    if (!ours) {
      fail(ExitCode::kUsage, "{}: expected a {} to replace, found another thing", path.string(),
           folder ? "folder with model.safetensors" : "file");
    }
  }
  if (folder) {
    const AtomicFolder unwritable_places_throw(path, replace);
  } else {
    const AtomicFile unwritable_places_throw(path);
  }
}

}  // namespace

std::string_view export_format_name(ExportFormat format) {
  return format == ExportFormat::kSafetensors ? "safetensors" : "gguf";
}

std::vector<ExportedWeight> exported_weights(const CheckpointSource& source) {
  const bool with_head = !source.config().tie_word_embeddings ||
                         (source.head_overrides_tie() && source.find("lm_head.weight") != nullptr);
  std::vector<ExportedWeight> weights;
  for_each_weight(source.config(), with_head, [&](const WeightSpec& spec) {
    const CheckpointTensor* tensor = source.find(spec.name);
    QF_CHECK(tensor != nullptr && tensor->shape == spec.shape,
             "{}: {}: expected it with shape {} by the configuration, found {}", source.name(),
             spec.name, shape_text(spec.shape),
             tensor == nullptr ? "none" : shape_text(tensor->shape));
    const bool nvfp4 = tensor->stored_type == weight_format_name(WeightFormat::kNvfp4);
    QF_CHECK(tensor->float_type.has_value() || nvfp4,
             "{}: {}: expected NVFP4, f32, f16 or bf16 to export, found {}", source.name(),
             spec.name, tensor->stored_type);
    weights.push_back({spec, tensor});
  });
  return weights;
}

at::Tensor dense_values(const CheckpointSource& source, const ExportedWeight& weight) {
  const auto type = *weight.source->float_type;
  return source.read_f32(*weight.source)
      .to(type == DType::kBF16  ? at::kBFloat16
          : type == DType::kF16 ? at::kHalf
                                : at::kFloat)
      .contiguous();
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

void check_export_checkpoint(const CheckpointSource& source, const fs::path& destination,
                             ExportFormat format, bool replace) {
  const auto weights = exported_weights(source);
  if (format == ExportFormat::kGguf) {
    check_gguf_weights(source, weights);
    (void)gguf_metadata(source);
  }
  check_destination(source, destination, format, replace);
}

void export_checkpoint(const CheckpointSource& source, const fs::path& destination,
                       ExportFormat format, bool replace, const ExportProgress& progress) {
  check_export_checkpoint(source, destination, format, replace);
  const auto weights = exported_weights(source);
  std::int64_t all = 0;
  for (const ExportedWeight& weight : weights) all += element_count(weight.spec.shape);
  std::int64_t done = 0;
  const auto before = [&](const ExportedWeight& weight) {
    if (progress) progress(done, all);
    done += element_count(weight.spec.shape);
  };
  if (format == ExportFormat::kGguf) {
    write_gguf(source, weights, destination, before);
  } else {
    AtomicFolder folder(folder_path(destination), replace);
    write_safetensors_folder(source, weights, folder.staging(), before);
    folder.commit();
  }
  if (progress) progress(all, all);
}

}  // namespace qf
