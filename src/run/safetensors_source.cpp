#include <ATen/ATen.h>

#include <array>
#include <string_view>

#include "checkpoint_sources.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/safetensors.h"

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

class SafetensorsSource final : public CheckpointSource {
 public:
  explicit SafetensorsSource(const std::filesystem::path& folder)
      : CheckpointSource(), checkpoint_(folder) {
    name_ = folder.string();
    const auto config = folder / "config.json";
    set_config(read_text_file(config), config.string());
    for (const auto& entry : checkpoint_.entries()) refuse_quantised(entry);
    for (const auto& entry : checkpoint_.entries()) {
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

  [[nodiscard]] at::Tensor read_f32(const CheckpointTensor& tensor) const override {
    QF_CHECK(tensor.readable, "{}: {}: expected f32, f16 or bf16, found {}", name_,
             tensor.name_in_file, tensor.stored_type);
    const auto& entry = checkpoint_.entries()[static_cast<std::size_t>(&tensor - tensors_.data())];
    const auto stored = at::empty(tensor.shape, scalar_type(entry.type));
    checkpoint_.read(entry, {static_cast<std::byte*>(stored.data_ptr()), stored.nbytes()});
    return stored.to(at::kFloat);
  }

 private:
  void refuse_quantised(const TensorInfo& entry) const {
    for (const auto& [mark, maker] : kQuantisedMarks) {
      QF_CHECK(!entry.name.ends_with(mark),
               "{}: {}: expected f32, f16 or bf16 weights, found an already quantised checkpoint "
               "({}); convert the original one",
               name_, entry.name, maker);
    }
  }

  SafetensorsCheckpoint checkpoint_;
};

}  // namespace

std::unique_ptr<CheckpointSource> open_safetensors(const std::filesystem::path& folder) {
  return std::make_unique<SafetensorsSource>(folder);
}

}  // namespace qf
