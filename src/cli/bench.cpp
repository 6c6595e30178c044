#include "qwen3fp4/run/bench.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "app.h"
#include "bench_report.h"
#include "model_options.h"
#include "plan.h"
#include "progress.h"
#include "qwen3fp4/backend/bandwidth.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/model/synthetic.h"
#include "qwen3fp4/quant/parallel.h"
#include "qwen3fp4/run/inference_plan.h"
#include "qwen3fp4/run/kernel_bench.h"
#include "qwen3fp4/run/linear_mode.h"
#include "qwen3fp4/train/memory_plan.h"
#include "qwen3fp4/train/start.h"
#include "qwen3fp4/train/step_bench.h"

namespace qf::cli {
namespace {

struct BenchCommand {
  ModelOptions model;
  std::string synthetic;  // empty: --model
  WeightFormat format = WeightFormat::kNvfp4;
  BenchOptions bench;
  std::vector<std::string> train;  // batches, SEQUENCESxTOKENS
  TrainProfile profile = TrainProfile::kDefault;
  bool kernels = false;
  std::string shape{
      fmt::format("{}x{}", KernelBenchOptions{}.out_features, KernelBenchOptions{}.in_features)};
  bool json = false;
  bool csv = false;
  bool dry_run = false;

  void run();

 private:
  void run_model(const Qwen3Model& measured, const std::string& name) const;
  void run_kernels() const;
  void run_steps() const;
  // Print the plan or refuse it; true: the run ends here.
  [[nodiscard]] bool plan_only(const ModelConfig& config, std::int64_t weights,
                               const Backend& backend) const;
  [[nodiscard]] bool plan_steps(const StepBenchOptions& options, const ModelConfig& config,
                                const Backend& backend) const;
  [[nodiscard]] SyntheticWeights::Progress progress_of_drawing() const {
    return [show = progress_line("drawing " + synthetic)](std::int64_t done, std::int64_t all) {
      check_interrupted();
      show(done, all);
    };
  }
  template <class Subject, class Report>
  void print_report(const Subject& subject, const Report& report) const {
    if (json) return print(to_json(subject, report).dump() + "\n");
    print(csv ? to_csv(to_json(subject, report)) : to_markdown(subject, report));
  }
};

std::int64_t size_in(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && value <= kMost ? value : 0;
}

// "AxB"; 0 for what is no size.
std::pair<std::int64_t, std::int64_t> parse_pair(std::string_view text) {
  const std::size_t cross = std::min(text.find('x'), text.size());
  return {size_in(text.substr(0, cross)), size_in(text.substr(std::min(cross + 1, text.size())))};
}

void add_bandwidth(MemoryPlan& plan, bool on_device) {
  plan.phases.emplace_back("read bandwidth: its buffer", bandwidth_buffer_bytes(on_device));
}

void BenchCommand::run_model(const Qwen3Model& measured, const std::string& name) const {
  BenchReport report;
  {
    ProgressBar bar("bench");
    report = bench_model(measured, bench,
                         [&](std::int64_t done, std::int64_t all, std::string_view test) {
                           bar.update(done, all, test);
                         });
  }
  print_report(subject_of(measured, name), report);
}

void BenchCommand::run_kernels() const {
  KernelBenchOptions options;
  std::tie(options.out_features, options.in_features) = parse_pair(shape);
  if (options.out_features < 1 || options.in_features < 1) {
    fail(ExitCode::kUsage, "--shape: expected OUTxIN, two numbers above 0, found '{}'", shape);
  }
  options.repetitions = bench.repetitions;
  apply_settings(model);
  KernelBenchReport report;
  {
    ProgressBar bar("bench");
    const auto show = [&](std::int64_t done, std::int64_t all, std::string_view kernel) {
      bar.update(done, all, kernel);
    };
    report = model.backend == "cuda" ? bench_cuda_kernels(options.repetitions, show)
                                     : bench_kernels(options, show);
  }
  print_report(options, report);
}

void BenchCommand::run_steps() const {
  StepBenchOptions options;
  for (const std::string& text : train) {
    const auto [sequences, tokens] = parse_pair(text);
    if (sequences < 1 || tokens < 2) {
      fail(ExitCode::kUsage, "--train: expected SEQUENCESxTOKENS of at least 1 and 2, found '{}'",
           text);
    }
    options.batches.push_back({sequences, tokens});
  }
  options.compute = model.dtype == "fp32" || (model.dtype == "auto" && model.backend != "cuda")
                        ? ComputeDtype::kF32
                        : ComputeDtype::kBF16;
  if (model.dtype == "fp16") fail(ExitCode::kUsage, "--dtype: training expects fp32 or bf16");
  options.repetitions = bench.repetitions;
  options.seed = bench.seed;
  const ModelConfig config = qwen3_config(synthetic);
  const auto backend = qf::make_backend(model.backend, ComputeDtype::kF32);
  apply_settings(model);
  if (plan_steps(options, config, *backend)) return;
  SyntheticWeights weights(config, WeightFormat::kNvfp4, bench.seed, progress_of_drawing());
  const auto drawn = ModelWeights::load(
      config, weights, *backend,
      make_trained(config, {.profile = profile, .seed = static_cast<std::uint64_t>(bench.seed)}));
  BenchReport report;
  {
    ProgressBar bar("bench");
    report = bench_steps(drawn, options,
                         [&](std::int64_t done, std::int64_t all, std::string_view test) {
                           bar.update(done, all, test);
                         });
  }
  std::int64_t parameters = 0;
  drawn.for_each(
      [&](const ModelWeight& weight) { parameters += element_count(weight.spec().shape); });
  const BenchSubject subject{.model = synthetic,
                             .format = fmt::format("nvfp4, {}", train_profile_name(profile)),
                             .backend = std::string(backend->name()),
                             .description = backend->description(),
                             .threads = parallel_threads(),
                             .parameters = parameters,
                             .weight_bytes = drawn.weight_bytes() + drawn.state_bytes()};
  print_report(subject, report);
}

bool BenchCommand::plan_only(const ModelConfig& config, std::int64_t weights,
                             const Backend& backend) const {
  const auto most = [](const std::vector<std::int64_t>& values) {
    return values.empty() ? 0 : std::ranges::max(values);
  };
  const std::int64_t longest = std::max(most(bench.prompt_tokens), most(bench.decode_tokens));
  const auto plan_of = [&](std::int64_t depth) {
    auto plan = plan_inference(config, weights, backend,
                               {.context = depth + longest,
                                .prompt = std::max(most(bench.prompt_tokens), depth),
                                .kv_cache = bench.kv_cache});
    add_bandwidth(plan, backend.device().is_cuda());
    return plan;
  };
  MemoryPlan plan = plan_of(most(bench.depths));
  return settle_plan(plan, backend.device().is_cuda(), {.dry_run = dry_run, .json = json},
                     [&](const std::vector<MemoryPool>& pools) -> std::string {
                       const std::int64_t fits = largest_that_fits(
                           0, most(bench.depths), pools, backend.device().is_cuda(), plan_of);
                       return fits < 0 ? "" : fmt::format("--depth {} would fit", fits);
                     });
}

bool BenchCommand::plan_steps(const StepBenchOptions& options, const ModelConfig& config,
                              const Backend& backend) const {
  const TrainShapes shapes =
      synthetic_shapes(config, {.profile = profile}, backend.device().is_cuda());
  TrainSettings settings;
  settings.compute = options.compute;
  std::vector<TrainBatch> batches;
  for (const auto& [sequences, tokens] : options.batches) {
    TrainSequence sequence;
    sequence.ids.resize(static_cast<std::size_t>(tokens));
    sequence.targets.assign(static_cast<std::size_t>(tokens), true);
    batches.emplace_back(static_cast<std::size_t>(sequences), sequence);
  }
  MemoryPlan plan = plan_memory(shapes, settings, batches);
  add_bandwidth(plan, shapes.on_device);
  return settle_plan(plan, shapes.on_device, {.dry_run = dry_run, .json = json},
                     [](const std::vector<MemoryPool>&) { return std::string(); });
}

void BenchCommand::run() {
  const InterruptGuard guard;
  if (kernels) return run_kernels();
  if (!train.empty()) return run_steps();
  if (synthetic.empty()) {
    auto opened = open(model);
    if (plan_only(opened.config(), opened.weight_bytes(), *opened.backend)) return;
    const LoadedModel loaded = load(std::move(opened), model);
    return run_model(loaded.model, model.folder);
  }
  const ModelConfig config = qwen3_config(synthetic);
  const auto backend = make_backend(model);
  apply_settings(model);
  check_linear_mode(*backend, format);
  if (plan_only(config, weight_bytes(config, format), *backend)) return;
  SyntheticWeights weights(config, format, bench.seed, progress_of_drawing());
  const Qwen3Model drawn = Qwen3Model::load(config, weights, *backend);
  log_loaded(synthetic, drawn, model);
  run_model(drawn, synthetic);
}

// Not by CLI11's own means, which would list all of them in every option's line of the help.
void refuse_options(const CLI::App& command, std::initializer_list<const char*> names,
                    std::string_view why) {
  for (const auto* const name : names) {
    if (command.count(name) > 0) fail(ExitCode::kUsage, "{}: expected without {}", name, why);
  }
}

void check_options(const CLI::App& command, const BenchCommand& bench) {
  if (command.count("--kernels") > 0) {
    refuse_options(command,
                   {"--model", "--dtype", "--linear", "--kv-cache", "--synthetic", "--format",
                    "--pp", "--tg", "--depth", "--train", "--dry-run"},
                   "--kernels, which runs no model");
    const std::string& backend = bench.model.backend;
    if (backend == "cuda") {
      refuse_options(command, {"--shape"}, "--backend cuda, whose kernels take Qwen3-4B's shapes");
    } else if (backend != "cpu") {
      fail(ExitCode::kUsage, "--kernels: expected --backend cpu or cuda, found {}", backend);
    }
  }
  if (command.count("--train") > 0) {
    refuse_options(command, {"--linear", "--kv-cache", "--format", "--pp", "--tg", "--depth"},
                   "--train, which runs steps on NVFP4");
  }
}

void bind_sizes(CLI::App& command, BenchOptions& bench) {
  const auto list = [&](const char* name, std::vector<std::int64_t>& values,
                        const char* description) {
    command.add_option(name, values, description)
        ->type_name("LIST")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(at_least(0))
        ->default_str(fmt::format("{}", fmt::join(values, ",")));
  };
  list("--pp", bench.prompt_tokens, "Prompts of these many tokens, each in one piece; 0: none");
  list("--tg", bench.decode_tokens, "Runs of these many greedy tokens, one at a time; 0: none");
  list("--depth", bench.depths, "Each of them behind these many tokens in the KV cache");
  command.add_option("--reps", bench.repetitions, "Repetitions, after a warm-up")
      ->check(at_least(1))
      ->capture_default_str();
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* command = app.add_subcommand(
      "bench", "Measure a model's or the kernels' speed against this machine's read bandwidth");
  const auto options = std::make_shared<BenchCommand>();
  bind(*command, options->model);
  bind_kv_cache(*command, options->bench.kv_cache);
  auto* synthetic = command
                        ->add_option("--synthetic", options->synthetic,
                                     fmt::format("Random weights in the shapes of: {}",
                                                 fmt::join(qwen3_names(), ", ")))
                        ->type_name("NAME")
                        ->excludes("--model");
  add_choice(
      *command, "--format", options->format,
      {{"nvfp4", WeightFormat::kNvfp4}, {"nf4", WeightFormat::kNf4}, {"bf16", WeightFormat::kBF16}},
      "Of the synthetic projections and head")
      ->needs(synthetic);
  bind_sizes(*command, options->bench);
  auto* train =
      command
          ->add_option("--train", options->train,
                       "Optimiser steps on batches of these sizes instead, of a --synthetic model")
          ->type_name("SEQUENCESxTOKENS,...")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->needs(synthetic);
  add_choice(*command, "--profile", options->profile,
             {{"exact", TrainProfile::kExact},
              {"default", TrainProfile::kDefault},
              {"min", TrainProfile::kMin},
              {"fp32", TrainProfile::kFp32}},
             "Optimiser states for --train")
      ->needs(train);
  auto* kernels = command->add_flag("--kernels", options->kernels,
                                    "Measure the backend's kernels (cpu, cuda) one by one instead");
  command->add_option("--shape", options->shape, "Of the weight for --kernels: OUTxIN features")
      ->type_name("OUTxIN")
      ->capture_default_str()
      ->needs(kernels);
  bind_dry_run(*command, options->dry_run);
  auto* json = command->add_flag("--json", options->json, "Print one object instead of a table");
  command->add_flag("--csv", options->csv, "Print comma-separated values")->excludes(json);
  command->callback([command, options] {
    check_options(*command, *options);
    options->run();
  });
}

}  // namespace qf::cli
