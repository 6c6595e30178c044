#include "train_options.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "app.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/train/identity.h"

namespace qf::cli {
namespace {

void bind_data(CLI::App& command, TrainOptions& options) {
  command
      .add_option(
          "--data", options.data,
          "Training data (.tsv, .jsonl, .txt), perhaps with a weight: FILE[:WEIGHT]; may be "
          "given several times")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command
      .add_option("--replay", options.replay,
                  "Answers of the start model (gen-replay), to stay close to: KL instead of "
                  "cross-entropy; as --data")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command
      .add_option("--teacher", options.teacher,
                  "Distil: KL to the model of this folder on all data, instead of cross-entropy")
      ->type_name("DIR");
  command
      .add_option(
          "--define", options.defines,
          "KEY=VALUE for data that declares {KEY} with #!define; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command
      .add_option("--holdout", options.holdout_percent,
                  "Percent of conversations that are kept for evaluation, where the data does not "
                  "say")
      ->check(CLI::Range(0, 99))
      ->capture_default_str();
  command
      .add_option(
          "--system-mix", options.system_mix,
          "How often conversations get the template's default system prompt, none, an empty "
          "one, a neutral other one")
      ->type_name("A,B,C,D")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->default_str("1,0,0,0");
  command
      .add_option("--seq-len", options.dataset.sequence_length, "Longer sequences are cut there")
      ->check(at_least(2))
      ->capture_default_str();
  command.add_option("--batch", options.batch.sequences, "Sequences a step")
      ->check(at_least(1))
      ->capture_default_str();
  command
      .add_option("--batch-tokens", options.batch.tokens,
                  "As many whole sequences a step as have this many tokens; 0: --batch counts")
      ->check(at_least(0))
      ->capture_default_str();
}

void bind_optimiser(CLI::App& command, TrainOptions& options) {
  auto& settings = options.settings;
  auto& schedule = settings.schedule;
  command.add_option("--steps", schedule.steps, "Steps of the run")
      ->check(at_least(1))
      ->capture_default_str();
  command
      .add_option("--lr", options.learning_rate,
                  "Highest learning rate; 0: from the model's block scales and the preset")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--warmup", options.warmup_steps,
                  "Steps until the learning rate is there; -1: a tenth of all")
      ->check(at_least(-1))
      ->capture_default_str();
  add_choice(command, "--schedule", schedule.shape,
             {{"cosine", ScheduleShape::kCosine},
              {"linear", ScheduleShape::kLinear},
              {"constant", ScheduleShape::kConstant}},
             "How the learning rate goes down to 0 after the warm-up, or stays");
  const auto number = [&](const char* name, double& value, const char* description) {
    command.add_option(name, value, description)
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
  };
  number("--weight-decay", settings.weight_decay, "Of linears and head, times the learning rate");
  number("--beta1", settings.beta1, "Adam's decay of the gradient's mean");
  number("--beta2", settings.beta2, "Adam's decay of the mean of its square");
  number("--epsilon", settings.epsilon, "Adam's");
  number("--clip", settings.clip, "Largest norm of a step's gradient; 0: no clipping");
  command.add_flag("--clip-exact", settings.clip_exact,
                   "Clip by this step's own norm (a second backward pass), not the last step's");
  number("--kl-weight", settings.kl_weight, "What the KL of --replay counts beside the rest");
  command.add_option("--seed", settings.seed, "Of the order of the data and all rounding")
      ->check(at_least(0))
      ->capture_default_str();
}

void bind_weights(CLI::App& command, TrainOptions& options) {
  add_choice(
      command, "--profile", options.start.profile,
      {{"default", TrainProfile::kDefault},
       {"exact", TrainProfile::kExact},
       {"min", TrainProfile::kMin},
       {"fp32", TrainProfile::kFp32}},
      "Masters and optimiser states: 2.1, 3.6, 0.5 or 12 bytes a weight, beside its own 0.56");
  command
      .add_option("--init-master", options.init_master,
                  "The model before it was quantised: where masters start (else anywhere inside "
                  "their cells)")
      ->type_name("DIR");
  command
      .add_option(
          "--train-last-layers", options.start.last_layers,
          "Train only these many of the last layers, with norm and head; 0: all (unless given, "
          "--preset identity takes four fifths)")
      ->check(at_least(0))
      ->capture_default_str();
  command
      .add_option("--freeze", options.start.freeze,
                  "Regular expression: weights whose name it finds stay as they are")
      ->type_name("REGEX");
  command.add_flag("--train-embedding", options.start.embedding,
                   "Train the embedding too (12 bytes of states for each of its values)");
  command.add_flag("--offload-states", options.start.offload_moments,
                   "Keep the optimiser's states in main memory (cuda)");
  command.add_flag("--offload-master", options.start.offload_master,
                   "Keep the masters in main memory (cuda)");
  command
      .add_option("--micro-batch-tokens", options.settings.micro_batch_tokens,
                  "Sequences that go through a layer together: until they have more tokens")
      ->check(at_least(1))
      ->capture_default_str();
  command
      .add_option("--step-chunk-rows", options.settings.step_chunk_rows,
                  "Rows of a weight that the optimiser takes at a time; 0: all. Changes no result")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_option("--compute-dtype", options.compute_dtype, "bf16, fp32, auto (bf16 on cuda)")
      ->check(one_of({"auto", "bf16", "fp32"}))
      ->type_name("NAME")
      ->capture_default_str();
}

void bind_watching(CLI::App& command, TrainOptions& options) {
  command
      .add_option("--tensorboard", options.tensorboard,
                  "Write the curves and samples as a TensorBoard event file into this folder")
      ->type_name("DIR");
  command
      .add_option("--report", options.report,
                  "Write one HTML page at the end: curves, memory by phase, samples")
      ->type_name("FILE");
  command
      .add_option("--eval-every", options.eval_every,
                  "Evaluate on what --holdout keeps (the identity preset: on its tuning part), or "
                  "--eval-data, every so many steps and at the end; 0: never")
      ->check(at_least(0))
      ->capture_default_str();
  command
      .add_option("--eval-data", options.eval_data,
                  "What to evaluate on instead, never trained; as --data")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command
      .add_option("--early-stop", options.early_stop,
                  "Stop after so many evaluations without a better loss; the result is the best "
                  "one's model. 0: never")
      ->check(at_least(0))
      ->capture_default_str();
  command
      .add_option("--sample-every", options.sample_every,
                  "Answer --sample-prompt, every so many steps and at the end; 0: never")
      ->check(at_least(0))
      ->capture_default_str();
  command
      .add_option("--sample-prompt", options.sample_prompts,
                  "A user's message to answer then, greedily; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false);
}

void bind_run(CLI::App& command, TrainOptions& options) {
  command
      .add_option("--out", options.out,
                  "The model folder to write at the end (default: that of --model with -trained)")
      ->type_name("DIR");
  command.add_flag("--force", options.replace, "Replace --out when it is a model folder already");
  command.add_flag("--compat", options.compat,
                   "Write it for readers that do not know scale_2 (needs tensor scales of 1)");
  command
      .add_option("--export", options.exports,
                  "Write the result for other programs, too: OUT-safetensors (transformers, vLLM), "
                  "OUT.gguf (llama.cpp); may be given several times")
      ->type_name("safetensors|gguf")
      ->check(one_of({"safetensors", "gguf"}))
      ->allow_extra_args(false);
  command
      .add_option("--save-every", options.save_every,
                  "Write a checkpoint, OUT.checkpoint.dat, every so many steps; 0: never")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_option("--resume", options.resume, "Go on from this checkpoint")->type_name("FILE");
  command.add_option("--log", options.log, "One JSON object a step (default: OUT.log.jsonl)")
      ->type_name("FILE");
  bind_watching(command, options);
  command
      .add_option("--preview", options.preview,
                  "Print so many sequences of the first steps, trained tokens marked, and stop")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_flag("--dry-run", options.dry_run,
                   "Print what the run would hold in memory, and stop");
  command.add_flag("--json", options.json, "Print the result as one object");
}

void settle_paths(TrainOptions& options) {
  std::filesystem::path model(options.model.folder);
  if (!model.has_filename()) model = model.parent_path();
  if (options.out.empty()) options.out = model.string() + "-trained";
  while (options.out.size() > 1 && options.out.ends_with('/')) options.out.pop_back();
  if (options.log.empty()) options.log = options.out + ".log.jsonl";
}

void settle_identity(const CLI::App& command, TrainOptions& options) {
  if (command.count("--data") == 0) options.data = {kIdentityQuestions};
  if (command.count("--replay") == 0) options.replay = {options.out + ".replay.jsonl"};
  if (options.data.size() != 1 || options.replay.size() != 1 || !options.teacher.empty()) {
    fail(ExitCode::kUsage,
         "--preset identity: expected one file of questions, one of replay and no --teacher");
  }
  if (command.count("--system-mix") == 0) {
    const SystemMix mix = identity_system_mix();
    options.system_mix = {mix.template_default, mix.none, mix.empty, mix.other};
  }
  if (command.count("--kl-weight") == 0) options.settings.kl_weight = 2.5;
  if (command.count("--steps") == 0) options.settings.schedule.steps = 1000;
  if (command.count("--batch") == 0) options.batch.sequences = 32;
  options.preset_layers = command.count("--train-last-layers") == 0 && !options.start.embedding;
}

void settle_distill(const CLI::App& command, TrainOptions& options) {
  if (options.teacher.empty()) {
    fail(ExitCode::kUsage, "--preset distill: expected --teacher, found none");
  }
  if (command.count("--beta2") == 0) options.settings.beta2 = 0.95;
  if (command.count("--epsilon") == 0) options.settings.epsilon = 1e-10;
  if (command.count("--clip") == 0) options.settings.clip = 0;
  if (command.count("--warmup") == 0) options.warmup_steps = options.settings.schedule.steps / 20;
}

}  // namespace

void bind(CLI::App& command, TrainOptions& options) {
  options.settings.schedule.steps = 200;
  bind_without_backend(command, options.model);
  command.add_option("--backend", options.model.backend, "What computes: reference, cpu, cuda")
      ->type_name("NAME")
      ->capture_default_str();
  add_choice(command, "--preset", options.preset,
             {{"none", TrainPreset::kNone},
              {"identity", TrainPreset::kIdentity},
              {"distill", TrainPreset::kDistill}},
             "Defaults for teaching a model who it is, or what quantisation lost");
  bind_data(command, options);
  bind_optimiser(command, options);
  bind_weights(command, options);
  bind_run(command, options);
}

void settle(const CLI::App& command, TrainOptions& options) {
  settle_paths(options);
  if (options.preset == TrainPreset::kIdentity) settle_identity(command, options);
  if (options.preset == TrainPreset::kDistill) settle_distill(command, options);
  if (options.data.empty()) fail(ExitCode::kUsage, "--data: expected a file, found none");
  if (!options.teacher.empty() && !options.replay.empty()) {
    fail(ExitCode::kUsage, "--replay: its teacher is the start model, found --teacher beside it");
  }
  if ((options.start.offload_moments || options.start.offload_master) &&
      options.model.backend != "cuda") {
    fail(ExitCode::kUsage, "--offload-states, --offload-master: expected with --backend cuda");
  }
  if (options.early_stop > 0 && options.eval_every == 0) {
    fail(ExitCode::kUsage, "--early-stop: expected --eval-every, found none");
  }
  if (!options.eval_data.empty() && options.eval_every == 0) {
    fail(ExitCode::kUsage, "--eval-data: expected --eval-every, found none");
  }
  if ((options.sample_every > 0) == options.sample_prompts.empty()) {
    fail(ExitCode::kUsage, "--sample-every, --sample-prompt: expected both, found one");
  }
  if (options.system_mix.size() != 4) {
    fail(ExitCode::kUsage, "--system-mix: expected four numbers, found {}",
         options.system_mix.size());
  }
  auto& settings = options.settings;
  auto& steps = settings.schedule.steps;
  auto& warmup = settings.schedule.warmup_steps;
  warmup = options.warmup_steps >= 0 ? options.warmup_steps : steps / 10;
  if (warmup > steps) {
    fail(ExitCode::kUsage, "--warmup: expected at most the {} steps of the run, found {}", steps,
         warmup);
  }
  settings.compute = options.compute_dtype == "auto"   ? default_compute(options.model.backend)
                     : options.compute_dtype == "bf16" ? ComputeDtype::kBF16
                                                       : ComputeDtype::kF32;
  options.start.seed = settings.seed;
  auto& system = options.dataset.system;
  system.template_default = options.system_mix[0];
  system.none = options.system_mix[1];
  system.empty = options.system_mix[2];
  system.other = options.system_mix[3];
  for (const auto text : neutral_system_prompts()) system.others.emplace_back(text);
}

std::string settings_json(const TrainOptions& options, const Dataset& data) {
  const auto& s = options.settings;
  std::int64_t tokens = 0;
  std::int64_t targets = 0;
  for (const DataSummary& part : data.summary()) {
    tokens += part.tokens;
    targets += part.targets;
  }
  nlohmann::ordered_json json = {
      {"--backend", options.model.backend},
      {"--compute-dtype", s.compute == ComputeDtype::kBF16 ? "bf16" : "fp32"},
      {"--data", options.data},
      {"--replay", options.replay},
      {"--teacher", options.teacher},
      {"--define", options.defines},
      {"--holdout", options.holdout_percent},
      {"--system-mix", options.system_mix},
      {"--seq-len", options.dataset.sequence_length},
      {"--batch", options.batch.sequences},
      {"--batch-tokens", options.batch.tokens},
      {"tokens of the data", tokens},
      {"targets of the data", targets},
      {"--profile", train_profile_name(options.start.profile)},
      {"--train-last-layers", options.start.last_layers},
      {"--freeze", options.start.freeze},
      {"--micro-batch-tokens", s.micro_batch_tokens},
      {"--steps", s.schedule.steps},
      {kLearningRateSetting, s.schedule.peak},
      {"--schedule", static_cast<int>(s.schedule.shape)},
      {"--warmup", s.schedule.warmup_steps},
      {"--weight-decay", s.weight_decay},
      {"--beta1", s.beta1},
      {"--beta2", s.beta2},
      {"--epsilon", s.epsilon},
      {"--clip", s.clip},
      {"--clip-exact", s.clip_exact},
      {"--kl-weight", s.kl_weight},
      {"--seed", s.seed}};
  // Only where it trains: checkpoints from before there was the option have none.
  if (options.start.embedding) json["--train-embedding"] = true;
  return json.dump();
}

}  // namespace qf::cli
