#include "qwen3fp4/check/ab_check.h"

#include <algorithm>
#include <charconv>
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
#include "qwen3fp4/check/fault.h"
#include "qwen3fp4/check/path.h"
#include "qwen3fp4/check/scale_check.h"
#include "qwen3fp4/run/interrupt.h"
#include "qwen3fp4/run/prompt.h"

namespace qf::cli {
namespace {

// As generate runs by default on this machine.
std::string fastest_path() {
  PathSpec path;
  path.schedule = Schedule::kHalf;
  path.dtype = default_dtype(path.backend);
  return path_text(path);
}

struct AbCheckCommand {
  ModelOptions model;
  PromptOptions prompt;
  std::string a = "reference";
  // As generate runs it: a prompt, then token by token.
  std::string b{fastest_path()};
  std::string model_b, b_file, layers, inject, html;
  AbOptions check;
  bool scales = false;
  bool all_taps = false;
  bool json = false;

  void run();

 private:
  void list_faults() const;
  void check_scales() const;
  [[nodiscard]] AbReport compare(const LoadedModel& loaded) const;
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
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
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

AbReport AbCheckCommand::compare(const LoadedModel& loaded) const {
  const auto show = progress_line("ab-check");
  const auto progress = [&](std::int64_t done, std::int64_t all) {
    check_interrupted();
    show(done, all);
  };
  const auto side = [](const LoadedModel& side_model, const PathSpec& path,
                       const std::string& folder) {
    return AbSide{.model = &side_model.model,
                  .path = path,
                  .name = fmt::format("{} ({})", path_text(path), folder)};
  };
  const AbSide side_a = side(loaded, parse_path(a, "--a"), model.folder);
  if (!b_file.empty()) return ab_check_file(side_a, b_file, check, progress);

  std::optional<LoadedModel> other;
  if (!model_b.empty()) {
    ModelOptions options = model;
    options.folder = model_b;
    other.emplace(load(options));
  }
  AbSide side_b =
      side(other ? *other : loaded, parse_path(b, "--b"), other ? model_b : model.folder);
  std::optional<Injection> injection;
  if (!inject.empty()) {
    injection = parse_injection(inject, *side_b.model, check.seed);
    side_b.injection = &*injection;
    side_b.name += fmt::format(" with {} in layer {}'s {}", injection->fault->name,
                               injection->layer, injection->module);
  }
  return ab_check(side_a, side_b, prompt_ids(loaded.folder, read(prompt)), check, progress);
}

void AbCheckCommand::run() {
  const InterruptGuard guard;
  if (inject == "list") return list_faults();
  // Refused before a model is loaded.
  (void)parse_path(a, "--a");
  (void)parse_path(b, "--b");
  check.layers = parse_layers(layers);
  model.backend = "reference";  // paths say what computes
  if (scales) return check_scales();
  const LoadedModel loaded = load(model);
  const AbReport report = compare(loaded);
  print(json ? to_json(report).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"
             : to_text(report, all_taps));
  // After the report, which a path that cannot be written must not cost.
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

std::string not_empty(const std::string& text) {
  return text.empty() ? "expected a value, got an empty one" : "";
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
                   "BACKEND[,prefill=token|half][,cache=off][,dtype=fp16|bf16][,linear=w4a4]")
      ->type_name("PATH")
      ->capture_default_str();
  auto* b = command->add_option("--b", options->b, "The path to check")
                ->type_name("PATH")
                ->capture_default_str();
  auto* model_b = command->add_option("--model-b", options->model_b, "Model folder of path b")
                      ->type_name("DIR");
  auto* b_file = command
                     ->add_option("--b-file", options->b_file,
                                  "Compare path a with activations in a file (dump --taps, "
                                  "tools/dump_transformers_taps.py)")
                     ->type_name("FILE");
  auto* inject =
      command
          ->add_option("--inject", options->inject,
                       "Put a fault into path b, to see it found: FAULT[:LAYER[:MODULE]]; "
                       "list: name them")
          ->type_name("FAULT")
          ->check(not_empty);
  auto* scales = command->add_flag("--scale-check", options->scales,
                                   "Check instead that every scale keeps its place and meaning");
  for (CLI::Option* option : {b, model_b, inject}) b_file->excludes(option);
  for (CLI::Option* option : prompts) b_file->excludes(option);
  bind_check(*command, *options);
  command->add_option("--html", options->html, "Write a page with heat maps")->type_name("FILE");
  command->add_flag("--json", options->json, "Print one JSON object");
  for (CLI::Option* option : command->get_options()) {
    constexpr std::string_view kGoWithIt[] = {"--help", "--model",    "--threads",    "--verbose",
                                              "--json", "--all-taps", "--scale-check"};
    const bool goes = std::ranges::any_of(
        kGoWithIt, [&](std::string_view name) { return option->check_name(std::string(name)); });
    if (!goes) scales->excludes(option);
  }
  command->callback([options] { options->run(); });
}

}  // namespace qf::cli
