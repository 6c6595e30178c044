#include "qwen3fp4/run/dump.h"

#include <ATen/ATen.h>

#include <array>
#include <cstddef>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/safetensors.h"
#include "qwen3fp4/model/kv_cache.h"

namespace qf {

void dump_logits(const Qwen3Model& model, std::span<const std::int64_t> ids,
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
  KvCache cache(model.config(), count);
  const at::Tensor logits =
      model.logits(model.forward(ids, cache)).to(at::kCPU, at::kFloat).contiguous();
  const std::span<const float> values(logits.const_data_ptr<float>(),
                                      static_cast<std::size_t>(logits.numel()));
  const std::array<NamedBytes, 2> tensors{
      NamedBytes{"ids", DType::kI64, {count}, std::as_bytes(ids)},
      NamedBytes{"logits", DType::kF32, {count, vocab}, std::as_bytes(values)}};
  write_safetensors(out, tensors);
}

}  // namespace qf
