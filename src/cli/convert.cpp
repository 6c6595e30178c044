#include "qwen3fp4/run/convert.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "app.h"
#include "progress.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/run/interrupt.h"

namespace qf::cli {
namespace {

struct ConvertCommand {
  std::string source;
  std::string destination;
  ConvertOptions options;
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

void check_nvfp4_options(const CLI::App& command, const ConvertOptions& options) {
  if (options.format == WeightFormat::kNvfp4) return;
  for (const auto* const name : {"--scales", "--compat"}) {
    if (command.count(name) > 0) {
      fail(ExitCode::kUsage, "{}: expected with --format nvfp4 only, found --format {}", name,
           weight_format_name(options.format));
    }
  }
}

void run_convert(const CLI::App& command, const ConvertCommand& convert) {
  check_nvfp4_options(command, convert.options);
  const InterruptGuard guard;
  const auto source = open_checkpoint(convert.source);
  for (const auto& note : source->notes()) spdlog::warn("note: {}", note);
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
  command->add_flag("--compat", options.compat,
                    "NVFP4 without the tensor scale, for readers that do not know scale_2");
  command->add_option("--keep", options.keep,
                      "Regular expression: weights whose name it finds keep the source's float "
                      "type (bf16 for block-quantised sources)");
  command->add_flag("--force", options.replace, "Replace DST when it is a model folder already");
  command->add_flag("--json", convert->json, "Print the table of errors and bytes as one object");
  command->callback([command, convert] { run_convert(*command, *convert); });
}

}  // namespace qf::cli
