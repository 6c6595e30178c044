#include <memory>
#include <string>

#include "app.h"
#include "progress.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/run/export_checkpoint.h"

namespace qf::cli {
namespace {

struct ExportCommand {
  std::string source;
  std::string destination;
  ExportFormat format = ExportFormat::kSafetensors;
  bool replace = false;
};

void run_export(const ExportCommand& command) {
  const InterruptGuard guard;
  const auto source = open_checkpoint(command.source);
  {
    ProgressBar bar("export");
    export_checkpoint(*source, command.destination, command.format, command.replace,
                      [&bar](std::int64_t done, std::int64_t all) {
                        check_interrupted();
                        bar.update(done, all, "");
                      });
  }
  print(command.destination + "\n");
}

}  // namespace

void add_export(CLI::App& app) {
  auto* command =
      app.add_subcommand("export", "Write a model as other programs read it, bit for bit the same");
  const auto options = std::make_shared<ExportCommand>();
  command->add_option("SRC", options->source, "Model folder (.dat), or what convert reads")
      ->required();
  command->add_option("DST", options->destination, "The folder (safetensors) or file (gguf)")
      ->required();
  add_choice(*command, "--format", options->format,
             {{"safetensors", ExportFormat::kSafetensors}, {"gguf", ExportFormat::kGguf}},
             "safetensors: Hugging Face folder with NVFP4 as compressed-tensors has it "
             "(transformers, vLLM); gguf: for llama.cpp");
  command->add_flag("--force", options->replace, "Replace DST when it is such an export already");
  command->callback([options] { run_export(*options); });
}

}  // namespace qf::cli
