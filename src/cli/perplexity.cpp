#include "qwen3fp4/run/perplexity.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app.h"
#include "model_options.h"
#include "plan.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/run/inference_plan.h"

namespace qf::cli {
namespace {

struct PerplexityCommand {
  ModelOptions model;
  PerplexityOptions perplexity;
  std::string file;
  std::string kl_against;  // empty: no comparison
  std::string kl_backend;  // empty: the model's
  bool json = false;
  bool dry_run = false;

  void run();

 private:
  [[nodiscard]] ModelOptions teacher_options() const;
  [[nodiscard]] bool plan_only(const OpenedModel& opened,
                               const std::optional<OpenedModel>& teacher) const;
};

nlohmann::json to_json(const PerplexityResult& result) {
  nlohmann::json json{{"perplexity", result.perplexity}, {"tokens", result.tokens}};
  if (result.kl) {
    json["kl"] = {{"mean", result.kl->mean},
                  {"median", result.kl->median},
                  {"p99", result.kl->p99},
                  {"max", result.kl->max}};
  }
  if (result.top1) json["top1"] = *result.top1;
  return json;
}

std::string to_text(const PerplexityResult& result) {
  std::string text =
      fmt::format("perplexity {:.4f} over {} tokens\n", result.perplexity, result.tokens);
  if (result.kl && result.top1) {
    text += fmt::format("KL mean {:.5f}, median {:.5f}, p99 {:.5f}, max {:.5f}\n", result.kl->mean,
                        result.kl->median, result.kl->p99, result.kl->max);
    text += fmt::format("same first choice {:.2f} %\n", *result.top1 * 100);
  }
  return text;
}

bool PerplexityCommand::plan_only(const OpenedModel& opened,
                                  const std::optional<OpenedModel>& teacher) const {
  const std::int64_t weights = opened.weight_bytes();
  const auto plan_of = [&](std::int64_t context) {
    // Logits, in double precision too, and their log-softmax; of two models twice, and the terms
    // of their divergence.
    InferenceRun run{.context = context,
                     .prompt = context,
                     .logit_rows = kPerplexityRows,
                     .logit_bytes = teacher ? 56 : 20,
                     .kv_cache = perplexity.kv_cache};
    auto plan = plan_inference(opened.config(), weights, *opened.backend, run);
    if (teacher) {
      run.kv_cache = KvCacheType::kAuto;
      const auto other =
          plan_inference(teacher->config(), teacher->weight_bytes(), *teacher->backend, run);
      std::int64_t held = 0;
      for (const auto& [name, bytes] : other.held) held += bytes;
      plan.held.emplace_back("the teacher, with its keys, values and hidden states", held);
    }
    return plan;
  };
  MemoryPlan plan = plan_of(perplexity.context);
  return settle_plan(plan, opened.on_device(), {.dry_run = dry_run, .json = json},
                     [&](const std::vector<MemoryPool>& pools) -> std::string {
                       const std::int64_t fits = largest_that_fits(2, perplexity.context, pools,
                                                                   opened.on_device(), plan_of);
                       return fits < 2 ? "" : fmt::format("--context {} would fit", fits);
                     });
}

ModelOptions PerplexityCommand::teacher_options() const {
  ModelOptions options = model;
  options.folder = kl_against;
  options.flag = "--kl-against";
  options.linear = "auto";  // what the model is measured against is not what is being tried
  if (!kl_backend.empty()) {
    options.backend = kl_backend;
    options.dtype = "auto";
  }
  return options;
}

void PerplexityCommand::run() {
  const InterruptGuard guard;
  const std::string text = read_text(file);
  auto opened = open(model);
  std::optional<OpenedModel> opened_teacher;
  if (!kl_against.empty()) opened_teacher.emplace(open(teacher_options()));
  if (plan_only(opened, opened_teacher)) return;
  const LoadedModel loaded = load(std::move(opened), model);
  const auto ids = loaded.folder.require_tokenizer().encode(text, SpecialTokens::kMatch);
  std::optional<LoadedModel> teacher;
  if (!kl_against.empty()) {
    teacher.emplace(load(std::move(*opened_teacher), teacher_options()));
    const auto& tokenizer = teacher->folder.tokenizer;
    QF_CHECK(!tokenizer || tokenizer->encode(text, SpecialTokens::kMatch) == ids,
             "--kl-against {}: its tokenizer gives other ids for the text than {}'s", kl_against,
             model.folder);
  }
  const auto result = measure_perplexity(loaded.model, teacher ? &teacher->model : nullptr, ids,
                                         perplexity, progress_line("perplexity"));
  print(json ? to_json(result).dump() + "\n" : to_text(result));
}

}  // namespace

void add_perplexity(CLI::App& app) {
  auto* command = app.add_subcommand(
      "perplexity", "Score a text, and compare with another model by KL divergence");
  const auto options = std::make_shared<PerplexityCommand>();
  bind(*command, options->model);
  bind_kv_cache(*command, options->perplexity.kv_cache);
  command->add_option("--file", options->file, "Text to score (-: stdin)")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--max-tokens", options->perplexity.max_tokens,
                   "Only the text's first N tokens; 0: all")
      ->check(at_least(0))
      ->capture_default_str();
  command
      ->add_option("--context", options->perplexity.context,
                   "Tokens of one window; windows do not overlap, the first token of each is not "
                   "scored")
      ->check(at_least(2))
      ->capture_default_str();
  auto* against =
      command
          ->add_option("--kl-against", options->kl_against,
                       "Model folder of the teacher: adds KL(teacher || model) and top-1 agreement")
          ->type_name("DIR");
  command
      ->add_option(
          "--kl-backend", options->kl_backend,
          "What computes the teacher (default: what computes the model); its --linear is auto")
      ->needs(against)
      ->type_name("NAME");
  bind_dry_run(*command, options->dry_run);
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([options] { options->run(); });
}

}  // namespace qf::cli
