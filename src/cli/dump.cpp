#include "qwen3fp4/run/dump.h"

#include <memory>
#include <string>

#include "app.h"
#include "model_options.h"
#include "qwen3fp4/run/prompt.h"

namespace qf::cli {
namespace {

struct DumpCommand {
  ModelOptions model;
  PromptOptions prompt;
  std::string out;

  void run() {
    const LoadedModel loaded = load(model);
    dump_logits(loaded.model, prompt_ids(loaded.folder, read(prompt)), out);
  }
};

}  // namespace

void add_dump(CLI::App& app) {
  auto* command = app.add_subcommand("dump", "Write a prompt's ids and logits to a file");
  const auto options = std::make_shared<DumpCommand>();
  bind(*command, options->model);
  bind(*command, options->prompt);
  command
      ->add_option("--out", options->out,
                   "safetensors file to write: ids i64 [T], logits f32 [T, vocab]")
      ->type_name("FILE")
      ->required();
  command->callback([options] { options->run(); });
}

}  // namespace qf::cli
