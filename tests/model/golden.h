#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <string>
#include <vector>

#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/packed_entries.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

inline const std::filesystem::path kGoldenModels =
    std::filesystem::path(QF_TEST_DIR) / "golden/model";

// The folders that tools/make_model_fixtures.py writes.
inline std::vector<std::string> golden_models() {
  return {"qwen3_tied_gqa4", "qwen3_untied_mha", "qwen3_untied_gqa8", "qwen3_yarn",
          "llama_tied_gqa3", "llama_linear",     "qwen3_bf16",        "qwen3_f16",
          "qwen3_nvfp4",     "qwen3_nf4"};
}

struct Golden {
  ModelConfig config;
  std::vector<std::int64_t> ids, greedy;
  at::Tensor logits, inv_freq;
  double attention_factor = 0;
};

inline Golden read_golden(const std::string& name) {
  const DatReader file(kGoldenModels / name / "expected.dat");
  const auto longs = [&](const char* entry) {
    const TensorInfo& info = *file.find(entry);
    std::vector<std::int64_t> out(static_cast<std::size_t>(element_count(info.shape)));
    file.read(info, std::as_writable_bytes(std::span(out)));
    return out;
  };
  const auto floats = [&](const char* entry) {
    const TensorInfo& info = *file.find(entry);
    return load_float_tensor(file, info, info.shape);
  };
  return {.config = ModelConfig::from_file(kGoldenModels / name / "config.json"),
          .ids = longs("ids"),
          .greedy = longs("greedy"),
          .logits = floats("logits"),
          .inv_freq = floats("inv_freq"),
          .attention_factor = floats("attention_factor").item<double>()};
}

// f32 [T, vocab] of all `ids`, given to the model `step` at a time.
inline at::Tensor all_logits(const Qwen3Model& model, const std::vector<std::int64_t>& ids,
                             std::size_t step) {
  KvCache cache(model.config(), static_cast<std::int64_t>(ids.size()));
  std::vector<at::Tensor> rows;
  for (std::size_t at = 0; at < ids.size(); at += step) {
    const auto part = std::span(ids).subspan(at, std::min(step, ids.size() - at));
    rows.push_back(model.logits(model.forward(part, cache)));
  }
  return at::cat(rows, 0);
}

}  // namespace qf
