#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "app.h"
#include "guard.h"
#include "model_options.h"
#include "plan.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/run/generator.h"
#include "qwen3fp4/run/inference_plan.h"
#include "qwen3fp4/run/sampling_defaults.h"
#include "qwen3fp4/run/session.h"

namespace qf::cli {
namespace {

struct GenerateCommand {
  ModelOptions model;
  PromptOptions prompt;
  SamplingOverrides sampling;
  GeneratorOptions generator;
  bool ignore_eos = false;
  std::int64_t turns = 1;
  std::string followup_prompt = "continue.";
  bool json = false;
  bool timing = false;
  bool logits_hash = false;
  bool dry_run = false;
  std::string session;  // a path; empty: none

  void run();

 private:
  void prepare(const ModelFolder& folder);
  // Prints it, or refuses what would not fit; true: the run ends here.
  [[nodiscard]] bool plan_only(const OpenedModel& opened) const;
  void set_context(const ModelConfig& config);
  // Before the weights are read, so that a wrong file costs no time.
  [[nodiscard]] std::optional<SavedSession> open_session(const OpenedModel& opened);
  void restore(Generator& run, const SavedSession& saved);
  // Of a run that is ended, which stays what is told.
  void rescue(const Generator& run);
  void answer_turns(Generator& run, bool has_tokenizer, nlohmann::json& rows);
  nlohmann::json answer_turn(Generator& generator, bool has_tokenizer);
  void print_extras(const Answer& answer, std::size_t sequence_length) const;
  [[nodiscard]] nlohmann::json to_json(const Answer& answer,
                                       const std::vector<std::int64_t>& turn_ids,
                                       std::size_t sequence_length) const;

  std::vector<std::int64_t> turn_ids_;      // of the turn that comes next
  std::vector<std::int64_t> followup_ids_;  // empty for one turn
  std::int64_t turn_end_ = 0;
  std::string fingerprint_;    // of the model, for the session
  std::int64_t restored_ = 0;  // tokens of the first turn that a session had
  std::int64_t skipped_ = 0;   // of the next turn, that the cache holds already
  std::int64_t saved_ = 0;     // all tokens that the session had
  bool rescued_ = false;       // it holds what the cache does
};

double per_second(std::int64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

void bind_sampling(CLI::App& command, GenerateCommand& options) {
  auto& sampling = options.sampling;
  command.add_option("--temp", sampling.temperature,
                     "Temperature; 0: greedy (default: generation_config.json, else 0)");
  command.add_option("--top-k", sampling.top_k, "Only the K likeliest tokens; 0: all");
  command.add_option("--top-p", sampling.top_p,
                     "Only the likeliest tokens that together reach probability P; 1: all");
  command.add_option("--min-p", sampling.min_p,
                     "Only tokens at least P times as likely as the likeliest; 0: all");
  command.add_option("--repeat-penalty", sampling.repetition_penalty,
                     "Divides positive logits of tokens that occurred; 1: off");
  command.add_option("--seed", sampling.seed, "Seed of the draws")
      ->check(at_least(0))
      ->capture_default_str();
}

void bind_limits(CLI::App& command, GenerateCommand& options) {
  auto& generator = options.generator;
  command.add_option("--max-tokens", generator.max_new_tokens, "Longest answer, in tokens")
      ->check(at_least(1))
      ->capture_default_str();
  command
      .add_option("--context", generator.context,
                  "Tokens that the KV cache holds (default: what prompt and answers need, at most "
                  "the model's positions)")
      ->check(at_least(1));
  command.add_option("--stop", generator.stop, "End the answer before this text; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command.add_flag("--ignore-eos", options.ignore_eos, "Do not stop at end tokens");
  bind_kv_cache(command, generator.kv_cache);
  add_choice(command, "--use-kvc", generator.use_kv_cache, {{"true", true}, {"false", false}},
             "false: run the whole sequence again for every token, for comparison");
  add_choice(command, "--fused", generator.fused, {{"true", true}, {"false", false}},
             "Decode in one launch a token where device and model have one");
  add_choice(command, "--prefill", generator.prefill,
             {{"whole", PrefillMode::kWhole}, {"token", PrefillMode::kToken}},
             "Run the prompt whole, or token by token");
}

void GenerateCommand::set_context(const ModelConfig& config) {
  const std::int64_t most = config.max_position_embeddings;
  auto& context = generator.context;
  if (context > most) {
    fail(ExitCode::kUsage, "--context: expected at most the model's {} positions, got {}", most,
         context);
  }
  const auto prompt_tokens = static_cast<std::int64_t>(turn_ids_.size());
  if (context > 0 && context < prompt_tokens) {
    fail(ExitCode::kUsage, "--context: expected at least the prompt's {} tokens, got {}",
         prompt_tokens, context);
  }
  if (context > 0) return;
  // A turn that stopped by length is closed with one more token.
  const auto followup_tokens = static_cast<std::int64_t>(followup_ids_.size()) + 1;
  // Bounded one by one, because --max-tokens may be as large as the user likes.
  const std::int64_t answer = std::min(generator.max_new_tokens, most);
  const std::int64_t rounds = std::min(turns, most);
  context = std::min(most, prompt_tokens + rounds * answer + (rounds - 1) * followup_tokens);
}

void GenerateCommand::prepare(const ModelFolder& folder) {
  const Prompt asked = read(prompt);
  turn_ids_ = prompt_ids(folder, asked);
  if (turns > 1) {
    followup_ids_ = followup_ids(folder, followup_prompt, asked);
    if (!asked.raw) turn_end_ = turn_end_token(folder);
  }
  generator.sampling = resolve_sampling(folder.generation, sampling);
  if (!ignore_eos) generator.end_tokens = folder.end_tokens();
  set_context(folder.config);
  const auto& s = generator.sampling;
  spdlog::debug("prompt of {} tokens, context of {}", turn_ids_.size(), generator.context);
  spdlog::debug("temperature {}, top-k {}, top-p {}, min-p {}, repetition penalty {}, seed {}",
                s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty, s.seed);
}

nlohmann::json GenerateCommand::to_json(const Answer& answer,
                                        const std::vector<std::int64_t>& turn_ids,
                                        std::size_t sequence_length) const {
  const GenerateTiming& t = answer.timing;
  nlohmann::json row{
      {"text", answer.text},
      {"ids", answer.ids},
      {"prompt_ids", turn_ids},
      {"stop_reason", stop_reason_name(answer.stop_reason)},
      {"seqLen", sequence_length},
      {"timing",
       {{"prefill_tokens", t.prefill_tokens},
        {"prefill_seconds", t.prefill_seconds},
        {"prefill_tokens_per_second", per_second(t.prefill_tokens, t.prefill_seconds)},
        {"decode_tokens", t.decode_tokens},
        {"decode_seconds", t.decode_seconds},
        {"decode_tokens_per_second", per_second(t.decode_tokens, t.decode_seconds)},
        {"decode_gb_per_second", per_second(t.decode_bytes, t.decode_seconds) / 1e9}}}};
  if (logits_hash) row["logits_hash"] = fmt::format("{:016x}", answer.logits_hash);
  return row;
}

void GenerateCommand::print_extras(const Answer& answer, std::size_t sequence_length) const {
  if (turns > 1) print(fmt::format("seqLen {}\n", sequence_length));
  if (logits_hash) print(fmt::format("logits-hash {:016x}\n", answer.logits_hash));
}

nlohmann::json GenerateCommand::answer_turn(Generator& run, bool has_tokenizer) {
  bool line_open = false;
  const auto show = [&](std::int64_t id, std::string_view text) {
    if (json) return;
    if (has_tokenizer) {
      if (!text.empty()) print(text);
    } else {
      print(fmt::format("{}{}", line_open ? "," : "", id));
    }
    line_open = true;
  };
  try {
    const auto rest = std::span<const std::int64_t>(turn_ids_).subspan(
        static_cast<std::size_t>(std::exchange(skipped_, 0)));
    const Answer answer = run.answer(rest, show);
    if (!json) print("\n");
    if (!json) print_extras(answer, run.sequence().size());
    const GenerateTiming& t = answer.timing;
    if (timing) {
      spdlog::info("prefill: {} tokens in {:.3f} s, {:.1f} tok/s", t.prefill_tokens,
                   t.prefill_seconds, per_second(t.prefill_tokens, t.prefill_seconds));
      spdlog::info("decode: {} tokens in {:.3f} s, {:.1f} tok/s, {:.2f} GB/s", t.decode_tokens,
                   t.decode_seconds, per_second(t.decode_tokens, t.decode_seconds),
                   per_second(t.decode_bytes, t.decode_seconds) / 1e9);
    }
    if (answer.stop_reason == StopReason::kContext) {
      spdlog::warn("the answer was cut: the context of {} tokens is full (--context)",
                   generator.context);
    }
    return to_json(answer, turn_ids_, run.sequence().size());
  } catch (const Error&) {
    if (line_open) print("\n");
    throw;
  }
}

bool GenerateCommand::plan_only(const OpenedModel& opened) const {
  const auto prompt_tokens = static_cast<std::int64_t>(turn_ids_.size());
  const std::int64_t weights = opened.weight_bytes();
  const auto plan_of = [&](std::int64_t context) {
    // Without a cache the whole sequence is a prompt in the end.
    const std::int64_t longest = generator.use_kv_cache ? prompt_tokens : context;
    return plan_inference(opened.config(), weights, *opened.backend,
                          {.context = context, .prompt = longest, .kv_cache = generator.kv_cache});
  };
  MemoryPlan plan = plan_of(generator.context);
  return settle_plan(plan, opened.on_device(), {.dry_run = dry_run, .json = json},
                     [&](const std::vector<MemoryPool>& pools) -> std::string {
                       const std::int64_t fits = largest_that_fits(
                           prompt_tokens, generator.context, pools, opened.on_device(), plan_of);
                       if (fits < prompt_tokens) return "";
                       return fmt::format("--context {} would fit", fits);
                     });
}

std::optional<SavedSession> GenerateCommand::open_session(const OpenedModel& opened) {
  if (session.empty()) return std::nullopt;
  if (!generator.use_kv_cache) {
    fail(ExitCode::kUsage, "--session: expected a run with a KV cache, found --use-kvc false");
  }
  try {
    const AtomicFile unwritable_places_throw(session);
  } catch (const Error& error) {
    fail(error.code(), "--session: {}", error.what());
  }
  fingerprint_ = model_fingerprint(opened.folder);
  if (!std::filesystem::exists(session)) return std::nullopt;
  const auto type = kv_stored_type(
      generator.kv_cache, c10::typeMetaToScalarType(opened.backend->cache_options().dtype()));
  return SavedSession(session,
                      {opened.config(), fingerprint_, type, opened.backend->linear_mode()});
}

void GenerateCommand::restore(Generator& run, const SavedSession& saved) {
  skipped_ = restored_ = run.restore(saved, turn_ids_);
  saved_ = saved.tokens();
  // The last token is run again in any case.
  const auto wanted = std::min(saved_, std::ssize(turn_ids_) - 1);
  if (restored_ < wanted) {
    spdlog::warn("{}: {} of its {} tokens begin this prompt; it is replaced after the answer",
                 session, restored_, saved_);
  }
  spdlog::debug("session: {} of the prompt's {} tokens are the first of {} in {}", restored_,
                turn_ids_.size(), saved.tokens(), session);
}

void GenerateCommand::rescue(const Generator& run) {
  if (session.empty() || run.cache().length() == 0) return;
  if (run.cache().length() <= saved_) {
    spdlog::warn("{} is left as it was, with {} tokens: this run has {}", session, saved_,
                 run.cache().length());
    return;
  }
  try {
    run.save(session, fingerprint_);
    rescued_ = true;
  } catch (const std::exception& error) {
    spdlog::warn("the session was not saved: {}", error.what());
  }
}

void GenerateCommand::answer_turns(Generator& run, bool has_tokenizer, nlohmann::json& rows) {
  const auto all = [&] {
    for (std::int64_t turn = 0; turn < turns && !interrupted(); ++turn) {
      if (turn > 0) {
        if (!prompt.prompt.raw) run.close_turn(turn_end_);
        turn_ids_ = followup_ids_;
      }
      rows.push_back(answer_turn(run, has_tokenizer));
    }
  };
  try {
    with_rescue(all, [&] { rescue(run); });
  } catch (const Error& error) {
    if (error.code() == ExitCode::kInterrupted) return rescue(run);  // run() says so
    if (error.code() == ExitCode::kNonFinite && restored_ > 0) {
      fail(error.code(), "{}; or {}, of which {} tokens were taken, is damaged (--session)",
           error.what(), session, restored_);
    }
    throw;
  }
  if (interrupted()) return rescue(run);
  if (session.empty() || run.cache().length() == 0) return;
  run.save(session, fingerprint_);
}

void GenerateCommand::run() {
  const InterruptGuard guard;
  auto opened = open(model);
  if (!opened.folder.tokenizer && !generator.stop.empty()) {
    (void)opened.folder.require_tokenizer();
  }
  prepare(opened.folder);
  const auto saved = open_session(opened);
  if (plan_only(opened)) return;
  const LoadedModel loaded = load(std::move(opened), model);
  const Tokenizer* tokenizer = loaded.folder.tokenizer ? &*loaded.folder.tokenizer : nullptr;
  Generator run(loaded.model, tokenizer, generator);
  spdlog::debug("KV cache: {} of {}", gigabytes(run.cache().bytes()),
                kv_type_name(run.cache().keys().scalar_type()));
  spdlog::debug("decode: {}", run.decode_description());
  if (saved) restore(run, *saved);
  auto rows = nlohmann::json::array();
  const auto print_rows = [&] {
    if (!json || rows.empty()) return;
    const auto result = turns > 1 ? nlohmann::json{{"turns", rows}} : rows.front();
    print(result.dump() + "\n");
  };
  try {
    answer_turns(run, tokenizer != nullptr, rows);
  } catch (const Error&) {
    print_rows();  // the turns before are answers all the same
    throw;
  }
  print_rows();
  if (rescued_) {
    fail_interrupted(fmt::format("after {} tokens, which {} holds", run.cache().length(), session));
  }
  check_interrupted();
}

}  // namespace

void add_generate(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "Answer a prompt");
  const auto options = std::make_shared<GenerateCommand>();
  bind(*command, options->model);
  bind(*command, options->prompt);
  bind_limits(*command, *options);
  bind_sampling(*command, *options);
  auto* turns =
      command->add_option("--turns", options->turns, "Turns of one conversation, on one KV cache")
          ->check(at_least(1))
          ->capture_default_str();
  command
      ->add_option("--followup-prompt", options->followup_prompt,
                   "The user's message in every turn after the first")
      ->needs(turns)
      ->type_name("TEXT")
      ->capture_default_str();
  command
      ->add_option(
          "--session", options->session,
          "Keep the KV cache in FILE (safetensors): what it holds of the prompt's beginning "
          "is not run again, and after the answer it holds everything")
      ->check(not_empty)
      ->type_name("FILE");
  command->add_flag("--json", options->json, "Print one JSON object instead of the text");
  bind_dry_run(*command, options->dry_run);
  command->add_flag("--timing", options->timing, "Say tok/s and GB/s on stderr");
  command->add_flag("--logits-hash", options->logits_hash,
                    "Print a hash of the bits of the last token's logits");
  command->callback([options] { options->run(); });
}

}  // namespace qf::cli
