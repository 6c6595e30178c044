#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "app.h"
#include "model_options.h"
#include "progress.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/train/identity_gate.h"
#include "qwen3fp4/train/replay.h"

namespace qf::cli {
namespace {

enum class Part { kHeldOut, kTuning, kTrained, kAll };

struct EvalIdentityCommand {
  ModelOptions model;
  std::string base{kDefaultModelFolder};
  std::string data = kIdentityQuestions;
  std::vector<std::string> defines;    // "KEY=VALUE"
  std::vector<std::string> old_names;  // empty: the usual ones
  std::vector<std::string> languages;  // empty: the model's
  Part part = Part::kHeldOut;
  std::string replay;  // empty: the base answers the prompts
  std::string replay_prompts = kReplayPrompts;
  std::int64_t replay_tokens = 96;
  std::string text = kUnrelatedText;
  std::int64_t max_questions = 0;  // of each class; 0: all
  GateInput gate;
  GateLimits limits;
  bool json = false;

  void run();

 private:
  void read_questions(const ModelConfig& config);
  [[nodiscard]] bool wanted(DataSplit split) const {
    return part == Part::kAll || split == (part == Part::kHeldOut  ? DataSplit::kHeldOut
                                           : part == Part::kTuning ? DataSplit::kTuning
                                                                   : DataSplit::kTrain);
  }
  [[nodiscard]] std::vector<Example> read_replay(const Speaker& base_speaker) const;
};

// Every question of the class, or `count` of them evenly spread over all.
void append_spread(std::vector<IdentityQuestion> from, std::int64_t count,
                   std::vector<IdentityQuestion>& to) {
  const auto all = static_cast<std::int64_t>(from.size());
  const std::int64_t taken = count > 0 ? std::min(count, all) : all;
  for (std::int64_t i = 0; i < taken; ++i) {
    to.push_back(std::move(from[static_cast<std::size_t>(i * all / taken)]));
  }
}

void EvalIdentityCommand::read_questions(const ModelConfig& config) {
  auto read = read_identity_data(data, parse_defines(defines),
                                 languages.empty() ? identity_languages(config) : languages);
  gate.names = {read.name, read.maker, old_names.empty() ? usual_old_names() : old_names};
  for (const char label : {'A', 'C'}) {
    std::vector<IdentityQuestion> own;
    for (const IdentityQuestion& question : read.questions) {
      if (question.label == label && wanted(question.split)) own.push_back(question);
    }
    QF_CHECK(!own.empty(), "{}: has no question of class {} in this part of it (--part)", data,
             label);
    append_spread(std::move(own), max_questions, gate.questions);
  }
}

std::vector<Example> EvalIdentityCommand::read_replay(const Speaker& base_speaker) const {
  const DataReading reading{.split = kReplaySplit};
  std::vector<Example> examples;
  if (!replay.empty()) {
    examples = read_data_file(replay, reading).examples;
  } else {
    auto prompts = read_prompts(replay_prompts);
    std::erase_if(prompts, [&](const std::string& prompt) {
      return !wanted(split_of(prompt, kReplaySplit));
    });
    BatchOptions options;
    options.max_new_tokens = replay_tokens;
    ProgressBar bar("base answers replay prompts");
    const std::string lines = replay_jsonl(base_speaker, prompts, options,
                                           [&](auto done, auto all) { bar.update(done, all, ""); });
    examples = read_jsonl(lines, "replay", reading).examples;
  }
  std::erase_if(examples, [&](const Example& example) { return !wanted(example.split); });
  QF_CHECK(!examples.empty(), "{}: has no conversation in this part of it (--part)",
           replay.empty() ? replay_prompts : replay);
  return examples;
}

nlohmann::json to_json(const GateResult& result, bool passed) {
  auto systems = nlohmann::json::array();
  for (const GateAnswers& counts : result.systems) {
    systems.push_back({{"system", system_turn_name(counts.system)},
                       {"identity_asked", counts.identity_asked},
                       {"identity_passed", counts.identity_passed},
                       {"old_names", counts.old_names},
                       {"near_asked", counts.near_asked},
                       {"near_failed", counts.near_failed},
                       {"replay_kl", counts.replay_kl},
                       {"replay_top1", counts.replay_top1},
                       {"replay_positions", counts.replay_positions}});
  }
  auto failures = nlohmann::json::array();
  for (const GateAnswer& answer : result.failures) {
    failures.push_back({{"class", std::string(1, answer.question.label)},
                        {"kind", answer.question.kind},
                        {"language", answer.question.language},
                        {"system", system_turn_name(answer.system)},
                        {"prompt", answer.question.prompt},
                        {"answer", answer.text},
                        {"old_name", answer.old_name}});
  }
  return {{"passed", passed},
          {"systems", systems},
          {"perplexity", result.new_perplexity},
          {"base_perplexity", result.base_perplexity},
          {"failures", failures}};
}

double percent(std::int64_t part, std::int64_t all) {
  return all > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(all) : 0;
}

std::string to_text(const GateResult& result, const GateLimits& limits) {
  std::string text;
  for (const GateAnswer& answer : result.failures) {
    text += fmt::format("{} {} {} (system: {}){}\n  {}\n  -> {}\n", answer.question.label,
                        answer.question.kind, answer.question.language,
                        system_turn_name(answer.system), answer.old_name ? ", old name" : "",
                        printable(answer.question.prompt), printable(answer.text));
  }
  for (const GateAnswers& counts : result.systems) {
    text += fmt::format(
        "system {}: A {:.1f} % of {} (>= {:.1f}), old name {:.1f} % (<= {:.1f}), C {:.1f} % of {} "
        "(<= {:.1f}), replay KL {:.4f} (<= {}) and same first choice {:.1f} % (>= {:.1f}) over {} "
        "tokens\n",
        system_turn_name(counts.system), percent(counts.identity_passed, counts.identity_asked),
        counts.identity_asked, 100 * limits.identity_at_least,
        percent(counts.old_names, counts.identity_asked), 100 * limits.old_name_at_most,
        percent(counts.near_failed, counts.near_asked), counts.near_asked,
        100 * limits.near_miss_at_most, counts.replay_kl, limits.kl_at_most,
        100 * counts.replay_top1, 100 * limits.top1_at_least, counts.replay_positions);
  }
  text += fmt::format(
      "perplexity of unrelated text {:.4f}, of the base {:.4f}: {:+.2f} % (<= {:+.2f})\n",
      result.new_perplexity, result.base_perplexity,
      100 * (result.new_perplexity / result.base_perplexity - 1),
      100 * (limits.perplexity_at_most - 1));
  return text;
}

void EvalIdentityCommand::run() {
  const InterruptGuard guard;
  const std::string unrelated = read_text(text);
  const LoadedModel tuned = load(model);
  ModelOptions base_options = model;
  base_options.folder = base;
  const LoadedModel start = load(base_options);
  read_questions(tuned.model.config());
  gate.unrelated = tuned.folder.require_tokenizer().encode(unrelated, SpecialTokens::kAsText);
  const Speaker base_speaker{start.model, start.folder};
  gate.replay = read_replay(base_speaker);
  GateResult result;
  {
    ProgressBar bar("gate");
    result = run_identity_gate({tuned.model, tuned.folder}, base_speaker, gate,
                               [&](auto done, auto all) { bar.update(done, all, ""); });
  }
  const bool passed = passes(result, limits);
  print(json ? to_json(result, passed).dump() + "\n" : to_text(result, limits));
  if (!passed) fail(ExitCode::kCheckFailed, "{}: the identity gate is not passed", model.folder);
}

void bind_data(CLI::App& command, EvalIdentityCommand& options) {
  command.add_option("--data", options.data, "Questions of the classes A and C, in groups (TSV)")
      ->type_name("FILE")
      ->capture_default_str();
  command
      .add_option("--define", options.defines,
                  "KEY=VALUE for the file's {KEY}: name and maker; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command
      .add_option(
          "--old-name", options.old_names,
          "A name that A answers must not hold (default: those of SmolLM2 and Qwen); may be "
          "repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command
      .add_option("--languages", options.languages,
                  "Of the questions: en, zh-TW, zh-CN (default: en, and all for Qwen3)")
      ->type_name("LIST")
      ->delimiter(',');
  add_choice(command, "--part", options.part,
             {{"held-out", Part::kHeldOut},
              {"tuning", Part::kTuning},
              {"trained", Part::kTrained},
              {"all", Part::kAll}},
             "Which questions and replay prompts: held out for a report, kept for comparing "
             "recipes, or trained");
  command
      .add_option("--replay", options.replay,
                  "The base's answers (gen-replay); without, it answers the prompts now")
      ->type_name("FILE");
  command.add_option("--replay-prompts", options.replay_prompts, "Prompts for that, one a line")
      ->type_name("FILE")
      ->capture_default_str();
  command.add_option("--text", options.text, "Unrelated text for the perplexity (-: stdin)")
      ->type_name("FILE")
      ->capture_default_str();
}

}  // namespace

void add_eval_identity(CLI::App& app) {
  auto* command = app.add_subcommand(
      "eval-identity", "Check that a fine-tuned model has its new identity, and nothing else new");
  const auto options = std::make_shared<EvalIdentityCommand>();
  bind(*command, options->model);
  command->get_option("--model")->required();
  command->add_option("--base", options->base, "Model folder that training started from")
      ->type_name("DIR")
      ->capture_default_str();
  bind_data(*command, *options);
  command
      ->add_option("--max-questions", options->max_questions,
                   "Ask only N questions of each class; 0: all")
      ->check(at_least(0))
      ->capture_default_str();
  command->add_option("--max-tokens", options->gate.max_new_tokens, "Longest answer, in tokens")
      ->check(at_least(1))
      ->capture_default_str();
  command
      ->add_option("--near-miss-limit", options->limits.near_miss_at_most,
                   "Share of C answers that may hold the name; for fresh questions 0.08")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([options] { options->run(); });
}

}  // namespace qf::cli
