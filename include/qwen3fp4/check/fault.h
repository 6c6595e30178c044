#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

// What is probably wrong where an operation is out of bounds.
enum class FaultClass {
  kScaleFactor,        // scales misread, dropped, inverted, NaN
  kLayoutPermutation,  // the right numbers in the wrong places
  kNibbleOrder,        // the two codes of a byte exchanged
  kNorm,               // a norm missing, or with another eps or weight
  kRope,
  kAttention,  // scale, mask, cache position, heads
  kDtype,      // rounded to, or overflowed in, a narrower type
  kWeights,    // other weights, in no way that has a name
  kUnknown,
};
[[nodiscard]] std::string_view fault_class_name(FaultClass fault_class);

// A mistake that users have really met, to be put into path b on purpose.
struct Fault {
  std::string_view name;
  std::string_view description;
  FaultClass fault_class;  // what ab_check should call it
  // Where it can strike, without "model.layers.N.".
  std::vector<std::string_view> modules;
};
[[nodiscard]] const std::vector<Fault>& faults();

struct Injection {
  const Fault* fault = nullptr;
  std::int64_t layer = 0;
  std::string module;  // "mlp.up_proj"
};

// "FAULT[:LAYER[:MODULE]]"; what is left out is drawn with `seed` among the places of `model` where
// the fault can strike. Throws (exit code 2), listing what there is, for places it cannot.
[[nodiscard]] Injection parse_injection(std::string_view text, const Qwen3Model& model,
                                        std::uint64_t seed);

}  // namespace qf
