#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/run/bench.h"
#include "qwen3fp4/run/kernel_bench.h"

namespace qf::cli {

// What `bench` says about a model beside its rows.
struct BenchSubject {
  std::string model;   // as it was asked for
  std::string format;  // of the projections: "nvfp4", or "nvfp4+bf16" where they differ
  std::string backend;
  std::string description;  // Backend::description()
  int threads = 0;
  std::int64_t parameters = 0;
  std::int64_t weight_bytes = 0;
  std::int64_t decode_bytes = 0;
  std::string linear = {};  // what linears multiply, as --linear spells it
};
[[nodiscard]] BenchSubject subject_of(const Qwen3Model& model, const std::string& name);

// One object, its rows in "rows".
[[nodiscard]] nlohmann::ordered_json to_json(const BenchSubject& subject,
                                             const BenchReport& report);
[[nodiscard]] nlohmann::ordered_json to_json(const KernelBenchOptions& options,
                                             const KernelBenchReport& report);
// One line a row, each with what the object says about all rows; without lists.
[[nodiscard]] std::string to_csv(const nlohmann::ordered_json& report);
// A table, and below it what all rows share.
[[nodiscard]] std::string to_markdown(const BenchSubject& subject, const BenchReport& report);
[[nodiscard]] std::string to_markdown(const KernelBenchOptions& options,
                                      const KernelBenchReport& report);

}  // namespace qf::cli
