#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/train/ask.h"
#include "qwen3fp4/train/batch.h"
#include "qwen3fp4/train/identity.h"

namespace qf {

// What a fine-tuned identity must reach (doc/identity.md). Shares are of 1.
struct GateLimits {
  double identity_at_least = 0.95;   // of the A questions' answers
  double old_name_at_most = 0.01;    // of them, too
  double near_miss_at_most = 0.03;   // of the C questions' answers
  double kl_at_most = 0.04;          // mean over the answers' positions of held-out replay, in nats
  double top1_at_least = 0.91;       // of those positions
  double perplexity_at_most = 1.02;  // on unrelated text, relative to the start model's
};

// Whether `text` holds `name`, whatever the case of ASCII letters; between letters and digits only
// where the name itself ends in neither ("SmolLM" is not in "SmolLMs", and is in "SmolLM2": a
// number behind a name is its version). Characters beyond ASCII count as no letters here, because
// Chinese and Japanese set no spaces around a name.
[[nodiscard]] bool mentions(std::string_view text, std::string_view name);

// Names of the models that may be started from, and of their makers.
[[nodiscard]] std::vector<std::string> usual_old_names();

struct GateNames {
  std::string name, maker;
  std::vector<std::string> old;
};

struct GateAnswer {
  IdentityQuestion question;
  SystemTurn system = SystemTurn::kDefault;
  std::string text;
  bool passed = false;    // A: the name (kind "maker": the maker); C: neither
  bool old_name = false;  // mentions one of the old names
};
// Fills in `passed` and `old_name`.
void judge(GateAnswer& answer, const GateNames& names);

// Of one system turn.
struct GateAnswers {
  SystemTurn system = SystemTurn::kDefault;
  std::int64_t identity_asked = 0;
  std::int64_t identity_passed = 0;
  std::int64_t old_names = 0;  // among the A answers
  std::int64_t near_asked = 0;
  std::int64_t near_failed = 0;
  double replay_kl = 0;  // mean over positions; 0 when there is no replay
  double replay_top1 = 0;
  std::int64_t replay_positions = 0;
};

struct GateResult {
  std::vector<GateAnswers> systems;
  std::vector<GateAnswer> failures;  // A that did not pass or has an old name; C that did not pass
  double new_perplexity = 0;         // of the unrelated text
  double base_perplexity = 0;
};

// Whether the shares of every system turn, its replay if any, and the perplexity keep the limits.
[[nodiscard]] bool passes(const GateResult& result, const GateLimits& limits);

// Gets (steps done, all of them): an answer, a compared conversation and a scored text are a step.
using GateProgress = std::function<void(std::int64_t, std::int64_t)>;

struct GateInput {
  std::vector<IdentityQuestion> questions;
  GateNames names;
  std::vector<Example> replay;          // answered by the start model
  std::vector<std::int64_t> unrelated;  // ids of a text
  std::int64_t max_new_tokens = 48;     // of an answer
};

// Runs the whole gate with every kind of system turn that differs for this chat template. Questions
// are answered greedily.
[[nodiscard]] GateResult run_identity_gate(const Speaker& tuned, const Speaker& base,
                                           const GateInput& input,
                                           const GateProgress& progress = {});

}  // namespace qf
