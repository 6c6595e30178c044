#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "inject.h"
#include "operation.h"
#include "path_runner.h"
#include "qwen3fp4/check/ab_check.h"
#include "shadowed_fault.h"

namespace qf {

// One stage's taps in forward order, put together from the pieces of a schedule.
class StageTaps {
 public:
  explicit StageTaps(std::int64_t tokens) : tokens_(tokens) {}

  // `rows`: of the tokens from `first` on. Pieces that replay a beginning bring rows again. Of
  // those the value is kept that is farther from `ref` [T, ...], where there is one; else the
  // first.
  void append(std::string_view module, std::int64_t first, const at::Tensor& rows,
              const at::Tensor& ref);
  [[nodiscard]] bool has(const std::string& module) const { return taps_.contains(module); }
  // [T, ...]
  [[nodiscard]] const at::Tensor& get(const std::string& module) const {
    return taps_.at(module).values;
  }
  [[nodiscard]] const std::vector<std::string>& modules() const { return order_; }
  void clear();

 private:
  struct Collected {
    at::Tensor values;
    std::int64_t rows = 0;  // that have come
  };

  std::int64_t tokens_;
  std::vector<std::string> order_;
  std::map<std::string, Collected> taps_;
};

// One run of a path, a stage at a time: its own model object (sharing the weights), backend, cache
// and taps.
class TappedRun {
 public:
  // Changes or replaces what the pass goes on with.
  using Feed = std::function<at::Tensor(std::string_view, std::int64_t, const at::Tensor&)>;

  // What a tap should be, [T, ...]; undefined where nobody knows.
  using Expected = std::function<at::Tensor(std::string_view, const at::Tensor& rows)>;

  enum class Keep { kComputed, kFed };

  // Borrows what `side` points to and `ids`.
  TappedRun(const AbSide& side, std::span<const std::int64_t> ids, Feed feed,
            Expected expected = {}, Keep keep = Keep::kComputed);

  // Stages in order, each once; forgets the taps of the one before.
  void run(std::int64_t stage);
  [[nodiscard]] const StageTaps& taps() const { return taps_; }
  // What the tap of this stage came from; of several pieces, the last.
  // Not of a path of training, which has no backend's operations.
  [[nodiscard]] const Operation& operation(const std::string& module) const {
    return operations_.at(module);
  }

 private:
  void note(std::string_view module);
  [[nodiscard]] at::Tensor tap(std::string_view module, std::int64_t first, const at::Tensor& rows);
  void inject_into_training(const Injection& injection, std::span<const std::int64_t> ids);
  [[nodiscard]] std::unique_ptr<StageRunner> make_runner(std::span<const std::int64_t> ids);

  PathSpec path_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<FaultyBackend> faulty_;
  RecordingBackend recording_;
  Qwen3Model model_;
  Feed feed_;
  Expected expected_;
  Keep keep_;
  std::unique_ptr<ShadowedFault> shadow_;  // of a fault in an operation of training
  StageTaps taps_;
  std::map<std::string, Operation> operations_;
  std::unique_ptr<StageRunner> runner_;
};

}  // namespace qf
