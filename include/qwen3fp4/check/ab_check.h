#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/check/fault.h"
#include "qwen3fp4/check/path.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

// How two tensors of one shape differ. Sums in double, over the elements that are finite in both.
struct TapStatistics {
  bool non_finite_agree = true;  // NaN, +Inf and -Inf are at the same places
  double max_ref = 0, max_got = 0, max_diff = 0;
  double relative_l2 = 0;  // ||got - ref|| / ||ref||
  double cosine = 1;
  double scale = 1;  // the s that makes ||got - s * ref|| least
  std::int64_t nan_ref = 0, nan_got = 0, inf_ref = 0, inf_got = 0;
};

struct TapResult {
  std::string module;      // "model.layers.3.self_attn.q_proj"
  std::int64_t layer = 0;  // -1: the embedding; number of layers: what follows the last one
  std::vector<std::int64_t> shape;
  TapStatistics statistics;
  double bound = 0;   // of the relative L2; isolated taps are also bounded element by element
  double misfit = 0;  // the worst difference over its bound: over 1 is out of bounds
  [[nodiscard]] bool within() const { return misfit <= 1; }
};

// kIsolated: every operation of b gets a's input, so a deviation is that operation's own. kChained:
// each path feeds itself, so deviations add up.
enum class AbMode { kIsolated, kChained, kBoth };

struct AbOptions {
  AbMode mode = AbMode::kBoth;
  std::vector<std::int64_t> layers = {};  // compare only these; empty: all, and what is around them
  std::int64_t max_calls = std::numeric_limits<std::int64_t>::max();  // compare so many taps
  // A relative L2 above it, or values that are finite on one side only, end the chained comparison:
  // what comes after an explosion says nothing.
  double explosion_rel = 1e3;
  std::uint64_t seed = 0;   // of the noise that measures how errors grow
  bool last_token = false;  // compare only its values, which the next token is chosen by
};

struct AbFinding {
  std::string module;
  std::int64_t layer = 0;
  FaultClass fault_class = FaultClass::kUnknown;
  std::string evidence;  // sentences
};

// A weight that path b's model has other values of.
struct WeightDifference {
  std::string module;
  std::int64_t layer = 0;  // as TapResult's
  std::string how;         // "tensor scale 1.2 times (...)", or the two formats
  // Of other formats, whose rounding the bounds allow for. Else it is another model's weight, and
  // out of bounds whatever the prompt shows of it.
  bool allowed = false;
};

struct AbReport {
  std::string ref, got;  // what was compared, in words
  std::int64_t tokens = 0, layers = 0;
  std::vector<TapResult> isolated = {};  // in forward order; empty where the mode left them out
  std::vector<TapResult> chained = {};
  bool stopped_early = false;  // by max_calls
  bool exploded = false;       // the chained comparison ended at its last tap
  std::int64_t weights = 0;    // of the operations that ran
  std::vector<WeightDifference> differing_weights = {};  // among them, in forward order
  std::vector<std::string> notices = {};                 // sentences that do not decide the verdict
  // Of the first tap out of bounds, isolated if there is one, else chained.
  std::optional<AbFinding> finding = std::nullopt;
};

// One side of a comparison: a path over a model. Both must outlive the check.
struct AbSide {
  const Qwen3Model* model = nullptr;     // its backend counts for nothing; the path says which
  PathSpec path = {};                    // with ste=off: `model` has its masters (train/masters.h)
  std::string name = {};                 // for the report
  const Injection* injection = nullptr;  // for b: a fault to put in
};

// Progress: (stages done, stages in all).
using AbProgress = std::function<void(std::int64_t, std::int64_t)>;

// Runs `ids` through both, a layer at a time, compares every tap and forgets it. Memory: one
// layer's outputs a few times over, the KV caches, and the logits. Two models whose weights differ
// in one format are out of bounds in the first such module that is compared. Throws with exit code
// 2 for layers that the model does not have and for ids it does not know.
[[nodiscard]] AbReport ab_check(const AbSide& a, const AbSide& b, std::span<const std::int64_t> ids,
                                const AbOptions& options, const AbProgress& progress = {});

// The same against a file of f32 activations (from tools/dump_transformers_taps.py or `dump
// --taps`) of the same weights. The file's values are the reference, for a file cannot be fed with
// a's; isolated mode feeds a with the file's and needs a tap of every operation, chained takes what
// there is, and throws where that is nothing.
[[nodiscard]] AbReport ab_check_file(const AbSide& a, const std::filesystem::path& file,
                                     const AbOptions& options, const AbProgress& progress = {});

}  // namespace qf
