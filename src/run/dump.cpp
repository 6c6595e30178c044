#include "qwen3fp4/run/dump.h"

#include <ATen/ATen.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/safetensors.h"
#include "qwen3fp4/model/kv_cache.h"

namespace qf {
namespace {

std::span<const std::byte> bytes_of(const at::Tensor& values) {
  return {static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()};
}

}  // namespace

void dump(const Qwen3Model& model, std::span<const std::int64_t> ids, NameFilter& taps,
          const std::filesystem::path& out) {
  const std::int64_t vocab = model.config().vocab_size;
  const auto count = static_cast<std::int64_t>(ids.size());
  for (const std::int64_t id : ids) {
    QF_CHECK(id >= 0 && id < vocab, "prompt: token id {} is not one of the model's 0 to {}", id,
             vocab - 1);
  }
  if (count == 0 || count > model.config().max_position_embeddings) {
    fail(ExitCode::kUsage, "the prompt (--prompt, --ids): expected 1 to {} tokens, got {}",
         model.config().max_position_embeddings, count);
  }
  KvCache cache(model.config(), count, model.backend().cache_options());
  std::vector<std::pair<std::string, at::Tensor>> outputs;
  const auto keep = [&](std::string_view module, const at::Tensor& output) {
    outputs.emplace_back(module, output.to(at::kCPU, at::kFloat).contiguous());
  };
  Tap tap;
  if (!taps.empty()) {
    tap = [&](std::string_view module, const at::Tensor& output) {
      if (taps.matches(std::string(module))) keep(module, output);
      return output;
    };
  }
  keep("logits", model.logits(model.forward(ids, cache, tap)));
  taps.check_matched_something();

  std::vector<NamedBytes> tensors{{"ids", DType::kI64, {count}, std::as_bytes(ids)}};
  for (const auto& [name, values] : outputs) {
    tensors.push_back({name, DType::kF32, values.sizes().vec(), bytes_of(values)});
  }
  write_safetensors(out, tensors);
}

}  // namespace qf
