#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "model_options.h"
#include "qwen3fp4/train/dataset.h"
#include "qwen3fp4/train/start.h"
#include "qwen3fp4/train/trainer.h"

namespace qf::cli {

// What `train` starts from where nothing else is said: doc/training.md has the recipes.
enum class TrainPreset { kNone, kIdentity, kDistill };

struct TrainOptions {
  ModelOptions model;
  std::string compute_dtype = "auto";
  TrainPreset preset = TrainPreset::kNone;

  std::vector<std::string> data, replay, defines;
  std::string teacher;
  std::int64_t holdout_percent = 0;
  std::vector<double> system_mix{1, 0, 0, 0};  // SystemMix's first four
  DatasetOptions dataset;
  BatchSize batch;

  TrainStart start;
  bool preset_layers = false;  // as many of the last layers as the preset takes
  std::string init_master;
  TrainSettings settings;
  double learning_rate = 0;        // 0: from the model's block scales
  std::int64_t warmup_steps = -1;  // -1: the preset's share of the steps

  std::string out;  // empty: beside the model
  bool replace = false;
  bool compat = false;
  std::vector<std::string> exports;  // names of ExportFormat
  std::int64_t save_every = 0;
  std::string resume, log;
  std::int64_t eval_every = 0;
  std::vector<std::string> eval_data;  // empty: what --holdout keeps
  std::int64_t early_stop = 0;         // evaluations without improvement; 0: never
  std::int64_t sample_every = 0;
  std::vector<std::string> sample_prompts;
  std::string tensorboard, report;  // empty: none
  std::int64_t preview = 0;
  bool dry_run = false;
  bool json = false;

  // Where the best evaluation's model waits for the end of the run.
  [[nodiscard]] std::string best_path() const { return out + ".best"; }
  [[nodiscard]] std::string checkpoint_path() const { return out + ".checkpoint.dat"; }
};

void bind(CLI::App& command, TrainOptions& options);
// Fills in what was not given: the preset's values, paths, the compute type. Throws (exit code 2)
// for options that do not go together.
void settle(const CLI::App& command, TrainOptions& options);
inline constexpr const char* kLearningRateSetting = "--lr";  // known once the model is loaded
// Everything that decides the bits of a step, as the JSON object that a checkpoint keeps.
[[nodiscard]] std::string settings_json(const TrainOptions& options, const Dataset& data);

}  // namespace qf::cli
