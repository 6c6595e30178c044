#include "qwen3fp4/check/ab_check.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ab_check_report.h"
#include "app.h"
#include "model_options.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/check/fault.h"
#include "qwen3fp4/check/path.h"
#include "qwen3fp4/check/scale_check.h"
#include "qwen3fp4/check/three_path.h"
#include "qwen3fp4/run/checkpoint_source.h"
#include "qwen3fp4/run/prompt.h"
#include "qwen3fp4/train/masters.h"
#include "qwen3fp4/train/trainer.h"
#include "three_path_report.h"

namespace qf::cli {
namespace {

// As generate runs by default on this machine: a prompt, then token by token.
PathSpec fastest_path() {
  PathSpec path;
  path.schedule = Schedule::kHalf;
  path.dtype = default_dtype(path.backend);
  return path;
}

struct AbCheckCommand {
  ModelOptions model;
  PromptOptions prompt;
  std::string a = "reference";
  std::string b{path_text(fastest_path())};
  bool a_given = false;
  bool b_given = false;
  std::string model_b, b_file, master, layers, inject, html;
  AbOptions check;
  bool scales = false;
  bool three_paths = false;
  bool all_taps = false;
  bool json = false;

  void run();

 private:
  PathSpec path_a_, path_b_;  // --a and --b
  void settle_paths();
  void list_faults() const;
  void check_scales() const;
  [[nodiscard]] AbReport compare(const LoadedModel& loaded) const;
  void settle_three_paths();
  void compare_first_token(const LoadedModel& loaded) const;
  [[nodiscard]] AbProgress show_progress() const;
};

// The models that paths run on: --model, --model-b, and both with their masters.
class PathModels {
 public:
  PathModels(const LoadedModel& loaded, const AbCheckCommand& options)
      : loaded_(loaded), options_(options) {
    if (!options.master.empty()) master_ = open_checkpoint(options.master);
  }
  [[nodiscard]] AbSide a(const PathSpec& path) {
    return side(loaded_.model, path, options_.model.folder);
  }
  [[nodiscard]] AbSide b(const PathSpec& path) {
    if (options_.model_b.empty()) return a(path);
    if (!other_) {
      ModelOptions options = options_.model;
      options.folder = options_.model_b;
      options.flag = "--model-b";
      other_.emplace(load(options));
    }
    return side(other_->model, path, options_.model_b);
  }

 private:
  AbSide side(const Qwen3Model& model, const PathSpec& path, const std::string& folder) {
    AbSide side{
        .model = &model, .path = path, .name = fmt::format("{} ({})", path_text(path), folder)};
    const std::string packed = path.ste == Ste::kOff ? first_packed_weight(model) : "";
    if (packed.empty()) return side;
    if (!master_) {
      fail(ExitCode::kUsage,
           "ste=off: {} holds {} packed, expected --master with the model before it was quantised",
           folder, packed);
    }
    auto found = with_masters_.find(&model);
    if (found == with_masters_.end()) {
      found = with_masters_.emplace(&model, with_masters(model, *master_, "--master")).first;
    }
    side.model = &found->second;
    side.name =
        fmt::format("{} ({}, packed weights of {})", path_text(path), folder, options_.master);
    return side;
  }

  const LoadedModel& loaded_;
  const AbCheckCommand& options_;
  std::unique_ptr<CheckpointSource> master_;
  std::optional<LoadedModel> other_;
  std::map<const Qwen3Model*, Qwen3Model> with_masters_;
};

// -1 for what is none.
std::int64_t layer_number(std::string_view text) {
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : -1;
}

// "0-3,7"
std::vector<std::int64_t> parse_layers(std::string_view text) {
  constexpr std::int64_t kMost = 10000;  // no model has as many; a typo must not fill the memory
  std::vector<std::int64_t> layers;
  bool more = !text.empty();
  while (more) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, comma);
    more = comma < text.size();
    text.remove_prefix(more ? comma + 1 : comma);
    const std::size_t dash = part.find('-');
    const std::int64_t first = layer_number(part.substr(0, dash));
    const std::int64_t last =
        dash == std::string_view::npos ? first : layer_number(part.substr(dash + 1));
    if (first < 0 || first > last || last >= kMost) {
      fail(ExitCode::kUsage, "--layers: expected layers like 0-3,7, got '{}'", part);
    }
    for (std::int64_t layer = first; layer <= last; ++layer) layers.push_back(layer);
  }
  return layers;
}

void AbCheckCommand::list_faults() const {
  if (json) {
    auto rows = nlohmann::json::array();
    for (const Fault& fault : faults()) {
      rows.push_back({{"fault", fault.name},
                      {"description", fault.description},
                      {"class", fault_class_name(fault.fault_class)},
                      {"modules", fault.modules}});
    }
    return print(rows.dump() + "\n");
  }
  for (const Fault& fault : faults()) {
    print(fmt::format("{:24} {} ({})\n{:24}   in {}\n", fault.name, fault.description,
                      fault_class_name(fault.fault_class), "", fmt::join(fault.modules, ", ")));
  }
}

void AbCheckCommand::check_scales() const {
  const LoadedModel loaded = load(model);
  const auto rows = scale_check(loaded.model);
  std::int64_t failed = 0;
  auto as_json = nlohmann::json::array();
  std::string text;
  for (const ScaleCheckRow& row : rows) {
    failed += row.passed() ? 0 : 1;
    as_json.push_back({{"check", row.what}, {"max_abs", row.max_abs}, {"passed", row.passed()}});
    if (!row.passed() || all_taps) text += fmt::format("{:72} max_abs {}\n", row.what, row.max_abs);
  }
  text += fmt::format("scale check: {} of {} exact\n",
                      static_cast<std::int64_t>(rows.size()) - failed, rows.size());
  print(json ? as_json.dump() + "\n" : text);
  if (failed > 0) {
    fail(ExitCode::kCheckFailed, "--scale-check: {} of {} checks are not exact", failed,
         rows.size());
  }
}

AbProgress AbCheckCommand::show_progress() const {
  return [show = progress_line("ab-check")](std::int64_t done, std::int64_t all) {
    check_interrupted();
    show(done, all);
  };
}

AbReport AbCheckCommand::compare(const LoadedModel& loaded) const {
  PathModels models(loaded, *this);
  const AbSide side_a = models.a(path_a_);
  if (!b_file.empty()) return ab_check_file(side_a, b_file, check, show_progress());

  AbSide side_b = models.b(path_b_);
  std::optional<Injection> injection;
  if (!inject.empty()) {
    injection = parse_injection(inject, *side_b.model, check.seed);
    side_b.injection = &*injection;
    side_b.name += fmt::format(" with {} in layer {}'s {}", injection->fault->name,
                               injection->layer, injection->module);
  }
  return ab_check(side_a, side_b, prompt_ids(loaded.folder, read(prompt)), check, show_progress());
}

// Inference as generate begins it, training as it computes by default on the same backend.
void AbCheckCommand::settle_three_paths() {
  if (!b_given) path_b_.schedule = Schedule::kWhole;
  if (!a_given) {
    path_a_ = {
        .backend = path_b_.backend, .dtype = default_compute(path_b_.backend), .ste = Ste::kOn};
  }
  if (path_a_.ste != Ste::kOn || path_b_.trains()) {
    fail(ExitCode::kUsage,
         "--three-path: expected --a with ste=on and --b without ste=, found {} and {}",
         path_text(path_a_), path_text(path_b_));
  }
}

// What can be refused before a model is loaded.
void AbCheckCommand::settle_paths() {
  path_a_ = parse_path(a, "--a");
  path_b_ = parse_path(b, "--b");
  if (three_paths) return settle_three_paths();
  const bool unquantised = path_a_.ste == Ste::kOff || path_b_.ste == Ste::kOff;
  if (!master.empty() && !unquantised) {
    fail(ExitCode::kUsage, "--master: expected a path with ste=off, or --three-path, to use it");
  }
}

void AbCheckCommand::compare_first_token(const LoadedModel& loaded) const {
  PathModels models(loaded, *this);
  ThreePaths paths{.inference = models.b(path_b_), .ste = models.a(path_a_)};
  std::string why_not;
  if (master.empty() && !first_packed_weight(loaded.model).empty()) {
    why_not =
        fmt::format("{} holds 4-bit weights only (--master with the model before it was quantised)",
                    model.folder);
  } else {
    PathSpec without = path_a_;
    without.ste = Ste::kOff;
    paths.no_ste = models.a(without);
  }
  const Tokenizer* tokenizer = loaded.folder.tokenizer ? &*loaded.folder.tokenizer : nullptr;
  std::vector<bool> allowed;
  for (std::int64_t id = 0; tokenizer != nullptr && id < loaded.model.config().vocab_size; ++id) {
    allowed.push_back(tokenizer->has_token(id));
  }
  const auto report = three_path(paths, prompt_ids(loaded.folder, read(prompt)), allowed,
                                 check.seed, show_progress());
  print(json ? to_json(report, tokenizer, why_not)
                       .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
                   "\n"
             : to_text(report, tokenizer, why_not));
  if (!report.within()) fail(ExitCode::kCheckFailed, "ab-check: {}", verdict(report));
}

void AbCheckCommand::run() {
  const InterruptGuard guard;
  if (inject == "list") return list_faults();
  settle_paths();
  check.layers = parse_layers(layers);
  model.backend = "reference";  // paths say what computes
  if (!html.empty()) const AtomicFile unwritable_places_throw(html);
  if (scales) return check_scales();
  const LoadedModel loaded = load(model);
  if (three_paths) return compare_first_token(loaded);
  const AbReport report = compare(loaded);
  print(json ? to_json(report).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"
             : to_text(report, all_taps));
  // After the report, which a disk that has become full must not cost.
  if (!html.empty()) write_text_file(html, to_html(report));
  if (report.finding) {
    fail(ExitCode::kCheckFailed, "ab-check: {} is out of bounds (likely {})",
         report.finding->module, fault_class_name(report.finding->fault_class));
  }
  if (!inject.empty()) {
    fail(ExitCode::kCheckFailed,
         "--inject {}: was put in, but changes nothing here that exceeds rounding (one token alone "
         "has neither a rotation nor a mask; --layers and --ab-max-calls may have left it out)",
         inject);
  }
}

std::string positive(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // "not greater" also refuses NaN.
  if (error != std::errc() || end != text.data() + text.size() || !(value > 0)) {
    return fmt::format("expected a number above 0, got {}", text);
  }
  return "";
}

void bind_check(CLI::App& command, AbCheckCommand& options) {
  AbOptions& check = options.check;
  add_choice(
      command, "--mode", check.mode,
      {{"both", AbMode::kBoth}, {"isolated", AbMode::kIsolated}, {"chained", AbMode::kChained}},
      "isolated: every operation of b gets a's input; chained: each path feeds itself");
  command.add_option("--layers", options.layers, "Compare only these: 0-3,7")
      ->type_name("LIST")
      ->check(not_empty);
  command
      .add_option("--ab-max-calls", check.max_calls, "Compare only the first N taps (default: all)")
      ->type_name("N")
      ->check(at_least(1));
  command
      .add_option("--explosion-rel", check.explosion_rel,
                  "End the chained comparison where relative L2 exceeds this")
      ->check(positive)
      ->capture_default_str();
  command
      .add_option("--seed", check.seed,
                  "Of the noise that bounds drift, and of what --inject leaves open")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_flag("--all-taps", options.all_taps, "Print every tap, not each layer's worst");
}

}  // namespace

void add_ab_check(CLI::App& app) {
  auto* command = app.add_subcommand(
      "ab-check", "Run the same tokens through two paths and compare layer by layer");
  const auto options = std::make_shared<AbCheckCommand>();
  bind_without_backend(*command, options->model);
  auto prompts = bind(*command, options->prompt);
  command
      ->add_option("--a", options->a,
                   "The path that counts as right: "
                   "BACKEND[,prefill=token|half][,cache=off][,dtype=fp16|bf16][,linear=w4a4], or "
                   "of training BACKEND,ste=on|off[,dtype=bf16]")
      ->type_name("PATH")
      ->capture_default_str();
  auto* b = command->add_option("--b", options->b, "The path to check")
                ->type_name("PATH")
                ->capture_default_str();
  auto* model_b = command->add_option("--model-b", options->model_b, "Model folder of path b")
                      ->type_name("DIR")
                      ->check(not_empty);
  auto* b_file = command
                     ->add_option("--b-file", options->b_file,
                                  "Compare path a with activations in a file (dump --taps, "
                                  "tools/dump_transformers_taps.py)")
                     ->type_name("FILE")
                     ->check(not_empty);
  command
      ->add_option("--master", options->master,
                   "The model before it was quantised (as convert reads it), for ste=off")
      ->type_name("DIR")
      ->check(not_empty);
  auto* inject =
      command
          ->add_option("--inject", options->inject,
                       "Put a fault into path b, to see it found: FAULT[:LAYER[:MODULE]]; "
                       "list: name them")
          ->type_name("FAULT")
          ->check(not_empty);
  auto* scales = command->add_flag("--scale-check", options->scales,
                                   "Check instead that every scale keeps its place and meaning");
  auto* three = command->add_flag(
      "--three-path", options->three_paths,
      "Compare instead the first token by inference (--b), training (--a) and without STE");
  for (CLI::Option* option : {b, model_b, inject}) b_file->excludes(option);
  for (CLI::Option* option : prompts) b_file->excludes(option);
  bind_check(*command, *options);
  command->add_option("--html", options->html, "Write a page with heat maps")
      ->type_name("FILE")
      ->check(not_empty);
  command->add_flag("--json", options->json, "Print one JSON object");
  for (CLI::Option* option : command->get_options()) {
    constexpr std::string_view kGoWithIt[] = {"--help", "--model",    "--threads",    "--verbose",
                                              "--json", "--all-taps", "--scale-check"};
    const bool goes = std::ranges::any_of(
        kGoWithIt, [&](std::string_view name) { return option->check_name(std::string(name)); });
    if (!goes) scales->excludes(option);
  }
  for (const char* name : {"--b-file", "--inject", "--mode", "--layers", "--ab-max-calls",
                           "--explosion-rel", "--all-taps", "--html"}) {
    three->excludes(command->get_option(name));
  }
  command->callback([command, options] {
    options->a_given = command->count("--a") > 0;
    options->b_given = command->count("--b") > 0;
    options->run();
  });
}

}  // namespace qf::cli
