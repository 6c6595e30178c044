#include "qwen3fp4/train/identity_gate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/run/perplexity.h"
#include "qwen3fp4/train/dataset.h"

// Shapes in this file: T tokens of a conversation, R of them predicted, D hidden_size, V
// vocabulary.

namespace qf {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lowered(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), lower);
  return out;
}

std::vector<SystemTurn> system_turns(const ModelFolder& folder) {
  if (folder.require_chat_template().default_system().empty()) {
    return {SystemTurn::kDefault, SystemTurn::kEmpty};
  }
  return {SystemTurn::kDefault, SystemTurn::kNone, SystemTurn::kEmpty};
}

SystemMix mix_of(SystemTurn turn) {
  SystemMix mix{.template_default = 0};
  (turn == SystemTurn::kDefault ? mix.template_default
   : turn == SystemTurn::kNone  ? mix.none
                                : mix.empty) = 1;
  return mix;
}

// f64 [R, V] on the backend's device: log-probabilities at the positions whose next token is a
// target.
at::Tensor target_log_probabilities(const Qwen3Model& model, const TrainSequence& sequence,
                                    std::string_view role) {
  std::vector<std::int64_t> rows;
  for (std::size_t i = 1; i < sequence.targets.size(); ++i) {
    if (sequence.targets[i]) rows.push_back(static_cast<std::int64_t>(i) - 1);
  }
  KvCache cache(model.config(), static_cast<std::int64_t>(sequence.ids.size()),
                model.backend().cache_options());
  const auto hidden_TD = model.forward(sequence.ids, cache);
  const auto index_R = at::tensor(rows, at::kLong).to(hidden_TD.device());
  const auto logits_RV = model.logits(hidden_TD.index_select(0, index_R)).to(at::kDouble);
  if (!at::isfinite(logits_RV).all().item<bool>()) {
    fail(ExitCode::kNonFinite, "non-finite logits of the {} (qwen3fp4 inspect)", role);
  }
  return at::log_softmax(logits_RV, -1);
}

class Gate {
 public:
  Gate(const Speaker& tuned, const Speaker& base, const GateInput& input,
       const GateProgress& progress)
      : tuned_(tuned), base_(base), input_(input), progress_(progress) {}

  [[nodiscard]] GateResult run() {
    const auto turns = system_turns(tuned_.folder);
    steps_ = static_cast<std::int64_t>(
        turns.size() * (input_.questions.size() + input_.replay.size()) + 1);
    for (const SystemTurn turn : turns) {
      result_.systems.push_back({.system = turn});
      ask_all();
      if (!input_.replay.empty()) compare_replay();
    }
    if (!input_.unrelated.empty()) {
      const PerplexityOptions options{
          .context = std::min<std::int64_t>(512, tuned_.model.config().max_position_embeddings)};
      result_.new_perplexity =
          measure_perplexity(tuned_.model, nullptr, input_.unrelated, options).perplexity;
      result_.base_perplexity =
          measure_perplexity(base_.model, nullptr, input_.unrelated, options).perplexity;
    }
    step();
    return std::move(result_);
  }

 private:
  void step() {
    check_interrupted();
    if (progress_) progress_(++done_, steps_);
  }

  void ask_all() {
    GateAnswers& counts = result_.systems.back();
    std::vector<Question> questions;
    for (const IdentityQuestion& question : input_.questions) {
      questions.push_back({question.prompt, counts.system});
    }
    const auto answers = ask(tuned_, questions, {.max_new_tokens = input_.max_new_tokens},
                             [&](std::int64_t, std::int64_t) { step(); });
    for (std::size_t i = 0; i < answers.size(); ++i) {
      GateAnswer answer{input_.questions[i], counts.system, answers[i].text};
      judge(answer, input_.names);
      if (answer.question.label == 'A') {
        ++counts.identity_asked;
        counts.identity_passed += answer.passed ? 1 : 0;
        counts.old_names += answer.old_name ? 1 : 0;
      } else {
        ++counts.near_asked;
        counts.near_failed += answer.passed ? 0 : 1;
      }
      if (!answer.passed || (answer.question.label == 'A' && answer.old_name)) {
        result_.failures.push_back(std::move(answer));
      }
    }
  }

  void compare_replay() {
    GateAnswers& counts = result_.systems.back();
    const Dataset data({{"replay", input_.replay}},
                       {.system = mix_of(counts.system),
                        .sequence_length = tuned_.model.config().max_position_embeddings},
                       base_.folder.require_tokenizer(), &base_.folder.require_chat_template());
    Comparison comparison;
    for (const TrainSequence& sequence : data.sequences()) {
      add_comparison(target_log_probabilities(tuned_.model, sequence, "new model"),
                     target_log_probabilities(base_.model, sequence, "start model"), comparison);
      step();
    }
    const auto positions = static_cast<double>(comparison.kl.size());
    for (const double kl : comparison.kl) counts.replay_kl += kl / positions;
    counts.replay_top1 = static_cast<double>(comparison.same_top1) / positions;
    counts.replay_positions = static_cast<std::int64_t>(comparison.kl.size());
  }

  const Speaker& tuned_;
  const Speaker& base_;
  const GateInput& input_;
  const GateProgress& progress_;
  GateResult result_;
  std::int64_t done_ = 0;
  std::int64_t steps_ = 0;
};

}  // namespace

bool mentions(std::string_view text, std::string_view name) {
  if (name.empty()) return false;
  const std::string in = lowered(text);
  const std::string wanted = lowered(name);
  const bool word_begins = is_letter(name.front()) || is_digit(name.front());
  for (std::size_t at = in.find(wanted); at != std::string::npos; at = in.find(wanted, at + 1)) {
    const char before = at > 0 ? in[at - 1] : ' ';
    const std::size_t end = at + wanted.size();
    const char after = end < in.size() ? in[end] : ' ';
    const bool begins = !word_begins || !(is_letter(before) || is_digit(before));
    const bool ends = !is_letter(name.back()) || !is_letter(after);
    const bool number_ends = !is_digit(name.back()) || !is_digit(after);
    if (begins && ends && number_ends) return true;
  }
  return false;
}

std::vector<std::string> usual_old_names() {
  return {"SmolLM", "Hugging Face", "HuggingFace", "Qwen",     "Alibaba", "Tongyi", "通义",
          "通義",   "千问",         "千問",        "阿里巴巴", "阿里云",  "阿里雲"};
}

void judge(GateAnswer& answer, const GateNames& names) {
  const bool name = mentions(answer.text, names.name);
  const bool maker = mentions(answer.text, names.maker);
  answer.old_name = std::ranges::any_of(
      names.old, [&](const std::string& old) { return mentions(answer.text, old); });
  if (answer.question.label == 'A') {
    answer.passed = answer.question.kind == "maker" ? maker : name;
  } else {
    answer.passed = !name && !maker;
  }
}

bool passes(const GateResult& result, const GateLimits& limits) {
  const auto of = [](double share, std::int64_t count) {
    return share * static_cast<double>(count);
  };
  const auto within = [&](const GateAnswers& counts) {
    const auto asked = counts.identity_asked;
    const bool answers =
        static_cast<double>(counts.identity_passed) >= of(limits.identity_at_least, asked) &&
        static_cast<double>(counts.old_names) <= of(limits.old_name_at_most, asked) &&
        static_cast<double>(counts.near_failed) <= of(limits.near_miss_at_most, counts.near_asked);
    const bool replay =
        counts.replay_positions == 0 ||
        (counts.replay_kl <= limits.kl_at_most && counts.replay_top1 >= limits.top1_at_least);
    return answers && replay;
  };
  return std::ranges::all_of(result.systems, within) &&
         result.new_perplexity <= limits.perplexity_at_most * result.base_perplexity;
}

GateResult run_identity_gate(const Speaker& tuned, const Speaker& base, const GateInput& input,
                             const GateProgress& progress) {
  const auto asked = [&](char label) {
    return std::ranges::any_of(input.questions,
                               [&](const auto& question) { return question.label == label; });
  };
  QF_CHECK(asked('A') && asked('C'), "expected questions of both classes A and C, found {}",
           asked('A')   ? "only A"
           : asked('C') ? "only C"
                        : "none");
  QF_CHECK(tuned.model.config().vocab_size == base.model.config().vocab_size,
           "--base: expected the new model's vocabulary of {} tokens, got {}",
           tuned.model.config().vocab_size, base.model.config().vocab_size);
  return Gate(tuned, base, input, progress).run();
}

}  // namespace qf
