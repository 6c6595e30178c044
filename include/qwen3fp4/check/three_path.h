#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/check/ab_check.h"

namespace qf {

// Of how many tokens the three paths' rankings are compared.
inline constexpr std::int64_t kTopTokens = 10;

struct RankedToken {
  std::int64_t id = 0;
  double logit = 0;
  double probability = 0;
};

// What one path would say first.
struct FirstToken {
  std::string_view route;        // "inference", "STE", "no STE"
  std::string name;              // its AbSide's
  bool finite = true;            // false: some logit is not, and `top` is empty
  std::vector<RankedToken> top;  // the likeliest, best first; of equals the lower id
  std::int64_t chosen = -1;      // the likeliest that may be chosen; -1 where there is none
};

// How far two of FirstTokens are apart.
struct FirstTokenPair {
  std::size_t first = 0, second = 0;
  std::int64_t overlap = 0;    // ids that are in both tops
  double kl = 0, kl_back = 0;  // KL(first || second), KL(second || first), nats
  double relative_l2 = 0;      // of the logits, relative to the second's
};

struct ThreePaths {
  AbSide inference, ste;
  std::optional<AbSide> no_ste = std::nullopt;  // its model with its masters (train/masters.h)
};

struct ThreePathReport {
  std::int64_t tokens = 0;
  std::vector<FirstToken> paths = {};      // inference, STE, no STE where there is one
  std::vector<FirstTokenPair> pairs = {};  // every two; NaN where logits are not finite
  // Of the relative L2 between inference's logits and STE's. Over 1 is out of bounds.
  double bound = 0, misfit = 0;
  // The first operation of inference that is out of bounds on STE's values; else of the prompt's
  // last token where the two drift apart.
  std::optional<AbFinding> finding = std::nullopt;
  [[nodiscard]] bool within() const { return misfit <= 1 && !finding; }
};

// The token after `ids` by three paths: inference as it is used (on its device, with its KV cache),
// training's forward, and that of the weights before they were quantised, which is for information.
// Inference and STE must agree, operation by operation and in their logits, whose `bound` is what
// errors within every operation's bound have grown to (ab_check, isolated and chained). `allowed`:
// by id, what may be chosen; empty: all. Throws with exit code 3 where neither of the two has
// finite logits.
[[nodiscard]] ThreePathReport three_path(const ThreePaths& paths, std::span<const std::int64_t> ids,
                                         const std::vector<bool>& allowed, std::uint64_t seed,
                                         const AbProgress& progress = {});

}  // namespace qf
