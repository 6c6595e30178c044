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
  std::string taps, out;

  void run() {
    NameFilter filter("--taps", "module", taps);
    const LoadedModel loaded = load(model);
    dump(loaded.model, prompt_ids(loaded.folder, read(prompt)), filter, out);
  }
};

}  // namespace

void add_dump(CLI::App& app) {
  auto* command =
      app.add_subcommand("dump", "Write a prompt's ids, logits and activations to a file");
  const auto options = std::make_shared<DumpCommand>();
  bind(*command, options->model);
  bind(*command, options->prompt);
  command
      ->add_option("--out", options->out,
                   "safetensors file to write: ids i64 [T], logits f32 [T, vocab]")
      ->type_name("FILE")
      ->check(not_empty)
      ->required();
  command
      ->add_option("--taps", options->taps,
                   "Write the outputs of these modules, too: model.layers.0.self_attn.q_proj, ...; "
                   "picked by a regular expression")
      ->type_name("REGEX")
      ->check(not_empty);
  command->callback([options] { options->run(); });
}

}  // namespace qf::cli
