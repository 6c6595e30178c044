#include <spdlog/spdlog.h>
#include <unistd.h>

#include <exception>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "app.h"
#include "guard.h"
#include "model_options.h"
#include "plan.h"
#include "progress.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/memory/guard.h"
#include "qwen3fp4/memory/host_cap.h"
#include "qwen3fp4/run/export_checkpoint.h"
#include "qwen3fp4/run/inference_plan.h"
#include "qwen3fp4/train/ask.h"
#include "qwen3fp4/train/checkpoint.h"
#include "qwen3fp4/train/export.h"
#include "qwen3fp4/train/identity.h"
#include "qwen3fp4/train/memory_plan.h"
#include "qwen3fp4/train/snapshot.h"
#include "train_data.h"
#include "train_html.h"
#include "train_options.h"
#include "train_report.h"

namespace qf::cli {
namespace {

// Steps of which --dry-run looks at the batches.
constexpr std::int64_t kPlannedSteps = 50;

// Learning rates in median block scales, as found for SmolLM2 (median .072): 3.2e-5 from a dithered
// start, 5.4e-5 from the original weights, whose cells' edges are emptier, 2.2e-4 for distillation.
// The identity preset's are higher, because KL holds the model where it is.
constexpr double kDitheredRate = 4.5e-4;
constexpr double kOriginalRate = 7.5e-4;
constexpr double kIdentityDitheredRate = 9.3e-4;
constexpr double kIdentityOriginalRate = 1.54e-3;
constexpr double kDistillRate = 3e-3;

// Longest answer to --sample-prompt.
constexpr std::int64_t kSampleTokens = 64;

// The weights of a folder; `make` decides what trains.
ModelWeights load_weights(const std::string& path, const Backend& backend,
                          const std::function<MakeTrained(const ModelConfig&)>& make) {
  const auto config = ModelFolder::open(path).config;
  const DatReader file(std::filesystem::path(path) / "model.dat");
  const auto show = progress_line("loading " + path);
  const auto source = make_weight_source(file, [&](std::int64_t done, std::int64_t all) {
    check_interrupted();
    show(done, all);
  });
  return ModelWeights::load(config, *source, backend, make(config));
}

MakeTrained train_nothing(const ModelConfig&) {
  return [](const WeightSpec&, const WeightMatrix&) { return nullptr; };
}

// One run of the command.
class TrainCommand {
 public:
  explicit TrainCommand(TrainOptions options)
      : options_(std::move(options)),
        folder_(ModelFolder::open(options_.model.folder)),
        data_(training_data(options_, folder_)),
        stream_(data_, options_.batch, options_.settings.seed) {
    if (options_.preset_layers) {
      options_.start.last_layers = identity_layers(folder_.config.num_hidden_layers);
    }
  }
  void run();

 private:
  void preview();
  void load();
  void note_tensors() const;
  void rescue(TrainReport& report);
  [[nodiscard]] double learning_rate() const;
  [[nodiscard]] ExportOptions export_options() const {
    return {.replace = options_.replace, .tensor_scale = !options_.compat};
  }
  // What --export asks for, and where it goes.
  [[nodiscard]] std::vector<std::pair<ExportFormat, std::string>> exports() const;
  void check_exports() const;
  void write_exports(TrainReport& report) const;
  void print_plan() const;
  // From headers and the first batches; true: the run ends here (--dry-run).
  [[nodiscard]] bool plan_only();
  void resume();
  void train();
  void evaluate(TrainReport& report);
  void keep_best(TrainReport& report);
  void sample(TrainReport& report) const;
  [[nodiscard]] bool stopped_early() const {
    return options_.early_stop > 0 && trainer_->progress().best.waited >= options_.early_stop;
  }
  void save(TrainReport& report);
  void check_watching();
  void write_report() const;
  [[nodiscard]] TrainFacts facts() const;
  void finish(TrainReport& report);
  void export_or_save(TrainReport& report);

  TrainOptions options_;
  ModelFolder folder_;
  Dataset data_;
  BatchStream stream_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<ModelWeights> model_, teacher_;
  std::unique_ptr<Trainer> trainer_;
  StepResult last_;
  std::vector<TrainBatch> held_out_batches_;
  std::optional<BatchLoss> held_out_;
  std::int64_t evaluated_step_ = -1;
  MemoryPlan memory_;
};

void TrainCommand::preview() {
  const bool colour = ::isatty(STDOUT_FILENO) == 1;
  std::int64_t left = options_.preview;
  for (std::int64_t step = 1; left > 0; ++step) {
    for (const TrainSequence& sequence : stream_.batch(step)) {
      if (left-- <= 0) break;
      print(preview_text(sequence, folder_.require_tokenizer(), colour) + "\n");
    }
  }
}

void TrainCommand::load() {
  std::unique_ptr<CheckpointSource> master;
  if (!options_.init_master.empty()) master = open_checkpoint(options_.init_master);
  options_.start.master = master.get();
  model_ = std::make_unique<ModelWeights>(load_weights(
      options_.model.folder, *backend_,
      [&](const ModelConfig& config) { return make_trained(config, options_.start); }));
  options_.start.master = nullptr;
  if (!options_.teacher.empty()) {
    teacher_ =
        std::make_unique<ModelWeights>(load_weights(options_.teacher, *backend_, train_nothing));
  } else if (!options_.replay.empty()) {
    teacher_ = std::make_unique<ModelWeights>(model_->frozen_copy());
  }
  auto& peak = options_.settings.schedule.peak;
  peak = options_.learning_rate > 0 ? options_.learning_rate : learning_rate();
  trainer_ = std::make_unique<Trainer>(*model_, teacher_.get(), options_.settings);
  note_tensors();
  log_memory();
  begin_memory_phase("model_loaded");
}

void TrainCommand::note_tensors() const {
  std::vector<at::Tensor> weights;
  std::vector<at::Tensor> states;
  model_->for_each([&](const ModelWeight& weight) {
    weights.push_back(weight.weight().codes());
    weights.push_back(weight.weight().scales());
    if (weight.trained() == nullptr) return;
    weight.trained()->visit_states(
        [&](const std::string&, at::Tensor& state) { states.push_back(state); });
  });
  note_memory_tensors("weights", weights);
  // Codes are among a checkpoint's states too; they are the weights.
  std::erase_if(states, [&](const at::Tensor& state) {
    return std::ranges::any_of(
        weights, [&](const at::Tensor& w) { return w.defined() && w.is_alias_of(state); });
  });
  note_memory_tensors("masters and optimiser states", states);
}

std::vector<std::pair<ExportFormat, std::string>> TrainCommand::exports() const {
  std::vector<std::pair<ExportFormat, std::string>> wanted;
  for (const std::string& name : options_.exports) {
    if (name == "gguf") {
      wanted.emplace_back(ExportFormat::kGguf, options_.out + ".gguf");
    } else {
      wanted.emplace_back(ExportFormat::kSafetensors, options_.out + "-safetensors");
    }
  }
  return wanted;
}

// Training changes codes and norms, not how they are stored: what the start model can be written
// as, the result can.
void TrainCommand::check_exports() const {
  if (options_.exports.empty()) return;
  const auto start = open_checkpoint(options_.model.folder);
  for (const auto& [format, path] : exports()) {
    check_export_checkpoint(*start, path, format, options_.replace);
  }
}

void TrainCommand::write_exports(TrainReport& report) const {
  if (options_.exports.empty()) return;
  const auto trained = open_checkpoint(options_.out);
  for (const auto& [format, path] : exports()) {
    export_checkpoint(*trained, path, format, options_.replace);
    report.note("wrote " + path);
  }
}

double TrainCommand::learning_rate() const {
  const double scale = median_block_scale(*model_);
  if (scale == 0)
    fail(ExitCode::kUsage, "--lr: expected a learning rate, as nothing in NVFP4 trains");
  const bool identity = options_.preset == TrainPreset::kIdentity;
  const bool dithered = options_.init_master.empty();
  const double rate = !options_.teacher.empty() ? kDistillRate
                      : identity ? (dithered ? kIdentityDitheredRate : kIdentityOriginalRate)
                                 : (dithered ? kDitheredRate : kOriginalRate);
  return rate * scale;
}

void TrainCommand::print_plan() const {
  const auto& s = options_.settings;
  const std::int64_t layers = model_->config().num_hidden_layers;
  const std::int64_t trained = options_.start.last_layers > 0 ? options_.start.last_layers : layers;
  spdlog::info("model    {} ({} of {} layers train), {} in {}", options_.model.folder, trained,
               layers, options_.model.backend, s.compute == ComputeDtype::kBF16 ? "bf16" : "fp32");
  for (const DataSummary& part : data_.summary()) {
    spdlog::info("data     {}: {:.0f} %, {} examples, {} tokens, {} of them trained{}", part.name,
                 100 * part.share, part.examples, part.tokens, part.targets,
                 part.cut > 0 ? fmt::format(", {} cut at --seq-len", part.cut) : "");
  }
  spdlog::info("steps    {} of {}, learning rate {:.2e} after {} steps, clip {}, seed {}",
               s.schedule.steps,
               options_.batch.tokens > 0 ? fmt::format("{} tokens", options_.batch.tokens)
                                         : fmt::format("{} sequences", options_.batch.sequences),
               s.schedule.peak, s.schedule.warmup_steps, s.clip, s.seed);
  spdlog::info(
      "profile  {}: {:.1f} MB of weights, {:.1f} MB of masters and states, planned peak "
      "{:.1f} MB",
      train_profile_name(options_.start.profile), static_cast<double>(model_->weight_bytes()) / 1e6,
      static_cast<double>(model_->state_bytes()) / 1e6, static_cast<double>(memory_.peak()) / 1e6);
  spdlog::info("out      {}, log {}{}", options_.out, options_.log,
               options_.save_every > 0 ? ", checkpoint " + options_.checkpoint_path() : "");
}

bool TrainCommand::plan_only() {
  const bool on_device = options_.model.backend == "cuda";
  backend_ = qf::make_backend(options_.model.backend, ComputeDtype::kF32);
  std::vector<TrainBatch> batches;
  const auto steps = std::min(kPlannedSteps, options_.settings.schedule.steps);
  for (std::int64_t step = 1; step <= steps; ++step) batches.push_back(stream_.batch(step));
  const DatReader file(folder_.path / "model.dat");
  const bool keeps_copy = options_.teacher.empty() && !options_.replay.empty();
  const auto plan_of = [&](TrainProfile profile, std::int64_t sequences) {
    TrainStart start = options_.start;
    start.profile = profile;
    TrainShapes shapes = shapes_of(file, folder_.config, start, on_device, keeps_copy);
    if (!options_.teacher.empty()) {
      shapes.teacher =
          weight_bytes(DatReader(std::filesystem::path(options_.teacher) / "model.dat"));
    }
    auto cut = batches;
    for (TrainBatch& batch : cut) {
      if (std::ssize(batch) > sequences) batch.resize(static_cast<std::size_t>(sequences));
    }
    return plan_memory(shapes, options_.settings, cut);
  };
  std::int64_t most = 0;
  for (const TrainBatch& batch : batches) most = std::max<std::int64_t>(most, std::ssize(batch));
  memory_ = plan_of(options_.start.profile, most);
  return settle_plan(memory_, on_device, {.dry_run = options_.dry_run, .json = options_.json},
                     [&](const std::vector<MemoryPool>& pools) -> std::string {
                       const auto fits_with = [&](TrainProfile profile) {
                         return largest_that_fits(
                             1, most, pools, on_device,
                             [&](std::int64_t sequences) { return plan_of(profile, sequences); });
                       };
                       if (const auto fits = fits_with(options_.start.profile); fits >= 1) {
                         return fmt::format("--batch {} would fit", fits);
                       }
                       for (const auto profile : {TrainProfile::kDefault, TrainProfile::kMin}) {
                         if (const auto fits = fits_with(profile); fits >= 1) {
                           return fmt::format("--profile {} --batch {} would fit",
                                              train_profile_name(profile), fits);
                         }
                       }
                       return "";
                     });
}

void TrainCommand::resume() {
  if (options_.resume.empty()) return;
  trainer_->resume(load_checkpoint(options_.resume, *model_, settings_json(options_, data_)));
  spdlog::info("resumed  {} after step {}", options_.resume, trainer_->progress().steps_done);
  if (options_.early_stop > 0 && trainer_->progress().best.step > 0 &&
      !std::filesystem::exists(options_.best_path())) {
    fail(ExitCode::kUsage, "{}: expected the best model so far, after step {}; found none",
         options_.best_path(), trainer_->progress().best.step);
  }
}

void TrainCommand::evaluate(TrainReport& report) {
  BatchLoss all;
  for (const TrainBatch& batch : held_out_batches_) {
    if (interrupted()) return;  // train() saves
    const BatchLoss loss = trainer_->evaluate(batch);
    all.cross_entropy += loss.cross_entropy * static_cast<double>(loss.token_targets);
    all.kl += loss.kl * static_cast<double>(loss.teacher_targets);
    all.token_targets += loss.token_targets;
    all.teacher_targets += loss.teacher_targets;
    all.tokens += loss.tokens;
  }
  if (all.token_targets > 0) all.cross_entropy /= static_cast<double>(all.token_targets);
  if (all.teacher_targets > 0) all.kl /= static_cast<double>(all.teacher_targets);
  all.loss = all.cross_entropy + options_.settings.kl_weight * all.kl;
  evaluated_step_ = trainer_->progress().steps_done;
  report.evaluation(evaluated_step_, all);
  held_out_ = all;
  if (trainer_->record_evaluation(all.loss)) keep_best(report);
}

// On disk: it outlives a kill, as the checkpoint that knows of it does, and takes no memory.
void TrainCommand::keep_best(TrainReport& report) {
  if (options_.early_stop == 0) return;
  auto options = export_options();
  options.replace = true;
  export_model(*model_, options_.model.folder, options_.best_path(), options);
  report.note("kept as the best so far: " + options_.best_path());
}

void TrainCommand::sample(TrainReport& report) const {
  const Qwen3Model now = snapshot(*model_);
  std::vector<Question> questions;
  for (const std::string& prompt : options_.sample_prompts) questions.push_back({prompt});
  std::vector<BatchAnswer> answers;
  try {
    answers = ask({now, folder_}, questions, {.max_new_tokens = kSampleTokens});
  } catch (const Error& error) {
    if (error.code() == ExitCode::kInterrupted) return;  // train() saves
    throw;
  }
  std::vector<TrainSample> samples;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    samples.push_back({questions[i].prompt, answers[i].text});
  }
  report.samples(trainer_->progress().steps_done, samples);
}

void TrainCommand::save(TrainReport& report) {
  const auto path = options_.checkpoint_path();
  save_checkpoint(path, *model_, trainer_->progress(), settings_json(options_, data_));
  report.note(fmt::format("saved {} after step {}", path, trainer_->progress().steps_done));
}

// What was done before the step is saved when it is whole; the error is told as it came.
void TrainCommand::rescue(TrainReport& report) {
  if (!trainer_->whole()) {
    report.note("the step had begun to change weights: nothing is saved");
  } else if (trainer_->progress().steps_done > 0) {
    try {
      save(report);
    } catch (const Error& error) {
      report.note(error.what());
    }
  }
}

void TrainCommand::train() {
  if (options_.model.backend == "cpu") keep_free_pages();
  const std::int64_t steps = options_.settings.schedule.steps;
  TrainReport report({options_.log, options_.tensorboard}, trainer_->progress().steps_done, steps);
  const auto due = [&](std::int64_t every, std::int64_t step) {
    return every > 0 && (step % every == 0 || step == steps);
  };
  const auto save_what_is_whole = [&] { rescue(report); };
  while (trainer_->progress().steps_done < steps && !stopped_early()) {
    const std::int64_t step = trainer_->progress().steps_done + 1;
    with_rescue([&] { last_ = trainer_->step(stream_.batch(step)); }, save_what_is_whole);
    report.step(last_, backend_->memory_peak());
    with_rescue(
        [&] {
          if (due(options_.eval_every, step)) evaluate(report);
          if (due(options_.sample_every, step)) sample(report);
        },
        save_what_is_whole);
    if (interrupted()) {
      save(report);
      fail_interrupted(
          fmt::format("after step {}; --resume {} goes on", step, options_.checkpoint_path()));
    }
    if (options_.save_every > 0 && step % options_.save_every == 0) save(report);
  }
  // A run that goes on from its last step has none yet.
  if (options_.eval_every > 0 && evaluated_step_ < 0) evaluate(report);
  finish(report);
}

// Where the folder cannot be written after all, the run is not lost if a checkpoint can.
void TrainCommand::export_or_save(TrainReport& report) {
  begin_memory_phase("export");
  const auto& best = trainer_->progress().best;
  try {
    if (options_.early_stop > 0 && best.step < trainer_->progress().steps_done) {
      adopt_export(options_.best_path(), options_.model.folder, options_.out, options_.replace);
      report.note(fmt::format("{} is the model after step {}, held-out loss {:.4f}", options_.out,
                              best.step, best.loss));
    } else {
      export_model(*model_, options_.model.folder, options_.out, export_options());
      if (options_.early_stop > 0) std::filesystem::remove_all(options_.best_path());
    }
  } catch (const Error&) {
    const auto why = std::current_exception();
    try {
      save(report);
    } catch (const Error& error) {
      report.note(error.what());
    }
    std::rethrow_exception(why);
  }
}

void TrainCommand::finish(TrainReport& report) {
  export_or_save(report);
  write_exports(report);
  write_report();
  if (options_.json) {
    nlohmann::ordered_json json{{"out", options_.out},
                                {"steps", trainer_->progress().steps_done},
                                {"loss", last_.batch.loss},
                                {"tokens_per_second", report.tokens_per_second()},
                                {"memory_peak_bytes", backend_->memory_peak()},
                                {"state_hash", state_hash(*model_)}};
    if (held_out_) json["held_out_loss"] = held_out_->loss;
    if (options_.early_stop > 0) {
      json["best_step"] = trainer_->progress().best.step;
      json["best_held_out_loss"] = trainer_->progress().best.loss;
    }
    print(json.dump() + "\n");
    return;
  }
  print(fmt::format("{}: {} steps, last loss {:.4f}, {:.0f} tok/s, peak {:.2f} GB\n", options_.out,
                    trainer_->progress().steps_done, last_.batch.loss, report.tokens_per_second(),
                    static_cast<double>(backend_->memory_peak()) / 1e9));
}

TrainFacts TrainCommand::facts() const {
  const auto& settings = options_.settings;
  TrainFacts facts{
      .title = options_.out,
      .settings = {{"model", options_.model.folder},
                   {"steps", std::to_string(trainer_->progress().steps_done)},
                   {"learning rate", fmt::format("{:.3e}", settings.schedule.peak)},
                   {"profile", std::string(train_profile_name(options_.start.profile))},
                   {"seed", std::to_string(settings.seed)}},
      .memory = memory_,
      .memory_peak_bytes = backend_->memory_peak()};
  for (const DataSummary& part : data_.summary()) {
    facts.settings.emplace_back(
        "data", fmt::format("{}: {:.0f} %, {} examples, {} tokens, {} of them trained", part.name,
                            100 * part.share, part.examples, part.tokens, part.targets));
  }
  if (options_.early_stop > 0) {
    const auto& best = trainer_->progress().best;
    facts.settings.emplace_back(
        "result", fmt::format("after step {}, held-out loss {:.4f}", best.step, best.loss));
  }
  return facts;
}

void TrainCommand::write_report() const {
  if (options_.report.empty()) return;
  write_text_file(options_.report, train_html(options_.log, facts()));
}

void TrainCommand::check_watching() {
  if (options_.eval_every > 0) {
    held_out_batches_ = held_out_batches(options_, folder_);
    if (held_out_batches_.empty()) {
      fail(ExitCode::kUsage, "--eval-every: nothing is held out (--holdout, --eval-data)");
    }
  }
  if (options_.sample_every > 0) {
    const std::int64_t most = folder_.config.max_position_embeddings;
    for (const std::string& prompt : options_.sample_prompts) {
      const auto tokens = std::ssize(question_ids(folder_, prompt, SystemTurn::kDefault));
      if (tokens <= most) continue;
      fail(ExitCode::kUsage, "--sample-prompt: expected at most the model's {} tokens, got {}",
           most, tokens);
    }
  }
  if (!options_.report.empty()) const AtomicFile unwritable_places_throw(options_.report);
}

void TrainCommand::run() {
  if (options_.preview > 0) return preview();
  if (!options_.dry_run) {
    check_export(options_.model.folder, options_.out, export_options());
    check_exports();
    check_watching();
  }
  if (!options_.resume.empty()) {
    check_checkpoint(options_.resume, settings_json(options_, data_), kLearningRateSetting);
  }
  if (plan_only()) return;
  load();
  check_export(*model_, export_options());
  print_plan();
  resume();
  train();
}

}  // namespace

void add_train(CLI::App& app) {
  auto* command = app.add_subcommand(
      "train", "Fine-tune all weights of an NVFP4 model on conversations or texts");
  const auto options = std::make_shared<TrainOptions>();
  bind(*command, *options);
  command->callback([command, options] {
    settle(*command, *options);
    apply_settings(options->model);
    const InterruptGuard guard;
    if (!options->replay.empty()) make_replay(*options);
    TrainCommand(*options).run();
  });
}

}  // namespace qf::cli
