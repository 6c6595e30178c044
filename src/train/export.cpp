#include "qwen3fp4/train/export.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <string>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/packed_entries.h"
#include "qwen3fp4/run/checkpoint_source.h"
#include "qwen3fp4/run/convert.h"

namespace qf {
namespace {

// "models/x/" is the folder "models/x".
std::filesystem::path folder_path(const std::filesystem::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

void write_norm(DatWriter& out, const ModelWeight& norm) {
  const auto values = norm.rows(at::kFloat).to(at::kCPU).contiguous();
  out.write(norm.spec().name, DType::kF32, norm.spec().shape,
            {static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()});
}

}  // namespace

void check_export(const std::filesystem::path& papers, const std::filesystem::path& destination,
                  const ExportOptions& options) {
  check_destination(papers, folder_path(destination), options.replace);
  const AtomicFolder unwritable_places_throw(folder_path(destination), options.replace);
}

void check_export(const ModelWeights& model, const ExportOptions& options) {
  model.for_each([&](const ModelWeight& weight) {
    const WeightMatrix& matrix = weight.weight();
    QF_CHECK(options.tensor_scale || matrix.format() != WeightFormat::kNvfp4 ||
                 matrix.global_scale() == 1.0F,
             "--compat: {}: expected a tensor scale of 1, found {} (convert --compat)",
             weight.spec().name, matrix.global_scale());
  });
}

void export_model(const ModelWeights& model, const std::filesystem::path& papers,
                  const std::filesystem::path& destination, const ExportOptions& options) {
  const c10::InferenceMode no_autograd;
  check_destination(papers, folder_path(destination), options.replace);
  check_export(model, options);
  const auto source = open_checkpoint(papers);
  std::int64_t entries = 0;
  model.for_each([&](const ModelWeight& weight) {
    entries += entries_of(weight.weight().format(), options.tensor_scale);
  });
  AtomicFolder folder(folder_path(destination), options.replace);
  DatWriter out(folder.staging() / "model.dat", entries);
  model.for_each([&](const ModelWeight& weight) {
    if (weight.spec().kind == WeightKind::kNorm) {
      write_norm(out, weight);
    } else {
      write_weight(out, weight.spec().name, weight.weight().to(at::kCPU), options.tensor_scale);
    }
  });
  out.finish();
  write_text_file(folder.staging() / "config.json", source->config_json());
  for (const auto& file : source->side_files()) {
    write_text_file(folder.staging() / file.name, file.text);
  }
  folder.commit();
}

void adopt_export(const std::filesystem::path& kept, const std::filesystem::path& papers,
                  const std::filesystem::path& destination, bool replace) {
  check_destination(papers, folder_path(destination), replace);
  AtomicFolder folder(folder_path(destination), replace);
  for (const auto& item : std::filesystem::directory_iterator(kept)) {
    std::filesystem::rename(item.path(), folder.staging() / item.path().filename());
  }
  folder.commit();
  std::filesystem::remove(kept);
}

}  // namespace qf
