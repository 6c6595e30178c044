#include "qwen3fp4/run/convert.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "app.h"
#include "model_options.h"
#include "plan.h"
#include "progress.h"
#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/train/calibration.h"
#include "qwen3fp4/train/dataset.h"

namespace qf::cli {
namespace {

// What weights the squared errors of the block scales.
enum class Calibration { kWeighted };

struct ConvertCommand {
  std::string source;
  std::string destination;
  ConvertOptions options;
  std::vector<std::string> calibrate;  // texts; empty: every column's errors count alike
  Calibration calibration = Calibration::kWeighted;
  std::int64_t calibration_tokens = 32768;
  ModelOptions compute;  // its backend runs the source over the texts
  bool dry_run = false;
  bool json = false;
};

nlohmann::ordered_json to_json(const ConvertReport& report) {
  nlohmann::ordered_json families = nlohmann::ordered_json::array();
  for (const auto& family : report.families) {
    families.push_back({{"family", family.name},
                        {"stored_as", family.stored_as},
                        {"tensors", family.tensors},
                        {"values", family.values},
                        {"bytes", family.bytes},
                        {"relative_rms_error", family.relative_rms_error}});
  }
  return {{"families", families},
          {"bytes", report.bytes},
          {"head_untied", report.head_untied},
          {"notes", report.notes}};
}

std::string to_table(const ConvertReport& report) {
  std::string table = fmt::format("{:<14} {:<8} {:>8} {:>14} {:>14} {:>19}\n", "family",
                                  "stored as", "tensors", "values", "bytes", "relative RMS error");
  std::int64_t values = 0;
  std::int64_t tensors = 0;
  for (const auto& family : report.families) {
    table +=
        fmt::format("{:<14} {:<9} {:>8} {:>14} {:>14} {:>18.5f}\n", family.name, family.stored_as,
                    family.tensors, family.values, family.bytes, family.relative_rms_error);
    values += family.values;
    tensors += family.tensors;
  }
  return table + fmt::format("{:<14} {:<9} {:>8} {:>14} {:>14}\n", "all", "", tensors, values,
                             report.bytes);
}

void check_options(const CLI::App& command, const ConvertCommand& convert) {
  const auto refuse = [&](std::string_view name, std::string_view problem) {
    if (command.count(std::string(name)) > 0) fail(ExitCode::kUsage, "{}: {}", name, problem);
  };
  if (convert.options.format != WeightFormat::kNvfp4) {
    for (const auto* const name : {"--scales", "--compat", "--calibrate"}) {
      refuse(name, fmt::format("expected with --format nvfp4 only, found --format {}",
                               weight_format_name(convert.options.format)));
    }
  }
  if (!convert.options.search_scales) {
    refuse("--calibrate", "expected with --scales search only, found --scales amax");
  }
  if (convert.calibrate.empty()) {
    for (const auto* const name : {"--calibration", "--calibration-tokens", "--backend"}) {
      refuse(name, "expected with --calibrate only");
    }
  }
}

std::vector<TrainSequence> calibration_sequences(const ConvertCommand& convert,
                                                 const CheckpointSource& source) {
  std::vector<DataFile> files;
  for (const auto& file : convert.calibrate) files.push_back({file});
  const auto chat = source.chat_template();
  const Dataset data(read_parts(files, {}, DataSplit::kTrain), {}, source.tokenizer(),
                     chat ? &*chat : nullptr);
  return spread(data.sequences(), convert.calibration_tokens);
}

void calibrate(ConvertCommand& convert, const CheckpointSource& source) {
  for (const CheckpointTensor& tensor : source.tensors()) {
    QF_CHECK(tensor.stored_type != weight_format_name(WeightFormat::kNvfp4),
             "{}: {}: expected the model before it was quantised, found nvfp4 (--calibrate)",
             source.name(), tensor.name);
  }
  check_conversion(source, convert.destination, convert.options);
  const auto sequences = calibration_sequences(convert, source);
  const auto backend = qf::make_backend(convert.compute.backend, ComputeDtype::kF32);
  constexpr std::int64_t kMicroBatchTokens = 2048;
  ProgressBar bar("calibrate");
  convert.options.column_weights =
      mean_input_squares(source, *backend, sequences, kMicroBatchTokens,
                         [&bar](std::int64_t done, std::int64_t layers) {
                           check_interrupted();
                           bar.update(done, layers, "");
                         });
}

bool plan_only(const ConvertCommand& convert, const CheckpointSource& source) {
  MemoryPlan plan = plan_conversion_memory(source);
  if (!convert.calibrate.empty()) {
    std::int64_t layer = 0;
    for (const CheckpointTensor& tensor : source.tensors()) {
      if (tensor.name.starts_with("model.layers.0.")) layer += element_count(tensor.shape) * 4;
    }
    plan.phases.emplace_back(
        "calibration: a layer in f32, hidden states",
        layer + 2 * convert.calibration_tokens * source.config().hidden_size * 4);
  }
  return settle_plan(plan, /*on_device=*/false, {.dry_run = convert.dry_run, .json = convert.json},
                     [](const std::vector<MemoryPool>&) { return std::string(); });
}

void run_convert(const CLI::App& command, ConvertCommand& convert) {
  check_options(command, convert);
  apply_settings(convert.compute);
  const InterruptGuard guard;
  const auto source = open_checkpoint(convert.source);
  if (plan_only(convert, *source)) return;
  for (const auto& note : source->notes()) spdlog::warn("note: {}", note);
  if (!convert.calibrate.empty()) calibrate(convert, *source);
  ConvertReport report;
  {
    ProgressBar bar("convert");
    report =
        convert_checkpoint(*source, convert.destination, convert.options,
                           [&bar](std::int64_t done, std::int64_t total, std::string_view tensor) {
                             check_interrupted();
                             bar.update(done, total, tensor);
                           });
  }
  print(convert.json ? to_json(report).dump() + "\n" : to_table(report));
}

}  // namespace

void add_convert(CLI::App& app) {
  auto* command =
      app.add_subcommand("convert", "Write a model folder in one of our weight formats");
  auto convert = std::make_shared<ConvertCommand>();
  auto& options = convert->options;
  command
      ->add_option("SRC", convert->source,
                   "Hugging Face folder (safetensors), GGUF file, or model folder (.dat)")
      ->required();
  command->add_option("DST", convert->destination, "The model folder to write")->required();
  add_choice(
      *command, "--format", options.format,
      {{"nvfp4", WeightFormat::kNvfp4},
       {"nf4", WeightFormat::kNf4},
       {"bf16", WeightFormat::kBF16},
       {"f32", WeightFormat::kF32}},
      "nvfp4, nf4: projections and head in 4 bits, the rest as the source has it; bf16, f32: "
      "every tensor");
  add_choice(*command, "--scales", options.search_scales, {{"search", true}, {"amax", false}},
             "NVFP4 block scales by least squared error, or plainly amax / 6");
  command
      ->add_option(
          "--calibrate", convert->calibrate,
          "Text (.txt, .jsonl, .tsv) like what the model will read: the source runs over it "
          "first, and block scales then spare what its linears multiply with large inputs; "
          "may be given several times")
      ->type_name("FILE")
      ->allow_extra_args(false);
  add_choice(*command, "--calibration", convert->calibration,
             {{"weighted", Calibration::kWeighted}},
             "What is made of --calibrate: squared errors weighted by each input's mean square");
  command
      ->add_option("--calibration-tokens", convert->calibration_tokens,
                   "Tokens of --calibrate that are run, spread evenly over it; 0: all")
      ->check(at_least(0))
      ->capture_default_str();
  command->add_option("--backend", convert->compute.backend, "What runs them: reference, cpu, cuda")
      ->type_name("NAME")
      ->capture_default_str();
  command
      ->add_option("--threads", convert->compute.threads, "Threads to compute with; 0: one a core")
      ->check(thread_count)
      ->capture_default_str();
  command->add_flag("--compat", options.compat,
                    "NVFP4 without the tensor scale, for readers that do not know scale_2");
  command->add_option("--keep", options.keep,
                      "Regular expression: weights whose name it finds keep the source's float "
                      "type (bf16 for block-quantised sources)");
  command->add_flag("--force", options.replace, "Replace DST when it is a model folder already");
  bind_dry_run(*command, convert->dry_run);
  command->add_flag("--json", convert->json, "Print the table of errors and bytes as one object");
  command->callback([command, convert] { run_convert(*command, *convert); });
}

}  // namespace qf::cli
