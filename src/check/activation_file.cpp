#include "activation_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <span>

#include "qwen3fp4/base/error.h"

namespace qf {

ActivationFile::ActivationFile(const std::filesystem::path& path)
    : name_(path.string()), file_(path) {
  const auto ids = std::ranges::find(file_.entries(), "ids", &TensorInfo::name);
  QF_CHECK(ids != file_.entries().end() && ids->type == DType::kI64 && ids->shape.size() == 1 &&
               ids->shape[0] > 0,
           "{}: expected activations with `ids` i64 [T] (from dump or "
           "tools/dump_transformers_taps.py), found none",
           name_);
  ids_.resize(static_cast<std::size_t>(ids->shape[0]));
  file_.read(*ids, std::as_writable_bytes(std::span(ids_)));
}

const TensorInfo* ActivationFile::find(const std::string& module) const {
  for (const std::string& name : {module, std::string(module == "lm_head" ? "logits" : module)}) {
    const auto found = std::ranges::find(file_.entries(), name, &TensorInfo::name);
    if (found != file_.entries().end()) return &*found;
  }
  return nullptr;
}

std::string ActivationFile::contents() const {
  const auto first = std::ranges::find_if(
      file_.entries(), [](const TensorInfo& entry) { return entry.name != "ids"; });
  if (first == file_.entries().end()) return "nothing but ids";
  const std::size_t others = file_.entries().size() - 2;
  return first->name + (others > 0 ? fmt::format(" and {} more", others) : "");
}

at::Tensor ActivationFile::read(const std::string& module,
                                const std::vector<std::int64_t>& shape) const {
  const TensorInfo& entry = *find(module);
  // transformers has heads x head_dim in one dimension where o_proj reads them.
  const std::vector<std::int64_t> flat{shape[0], element_count(shape) / shape[0]};
  QF_CHECK(entry.type == DType::kF32 && (entry.shape == shape || entry.shape == flat),
           "{}: {}: expected f32 {}, found {} {}", name_, module, shape_text(shape),
           dtype_name(entry.type), shape_text(entry.shape));
  auto values = at::empty(shape, at::kFloat);
  file_.read(entry, {static_cast<std::byte*>(values.mutable_data_ptr()), values.nbytes()});
  return values;
}

}  // namespace qf
