#include "train_data.h"

#include <filesystem>
#include <string>
#include <utility>

#include "app.h"
#include "model_options.h"
#include "progress.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/train/identity.h"
#include "qwen3fp4/train/replay.h"

namespace qf::cli {
namespace {

DataReading reading_of(const TrainOptions& options) {
  return {.defines = parse_defines(options.defines),
          .split = {.held_out = options.holdout_percent}};
}

// What --preset identity trains on.
IdentityRecipe identity_recipe(const TrainOptions& options, const ModelConfig& config) {
  return {.questions = options.data.front(),
          .replay = options.replay.front(),
          .defines = reading_of(options).defines,
          .languages = identity_languages(config)};
}

TargetKind kind_of(const TrainOptions& options) {
  return options.teacher.empty() ? TargetKind::kTokens : TargetKind::kTeacher;
}

std::vector<DataPart> parts_of(const TrainOptions& options, const ModelConfig& config,
                               DataSplit split) {
  if (options.preset == TrainPreset::kIdentity) {
    return identity_parts(identity_recipe(options, config), split);
  }
  std::vector<DataFile> files;
  for (const auto& file : options.data) files.push_back(parse_data_file(file, kind_of(options)));
  for (const auto& file : options.replay) {
    files.push_back(parse_data_file(file, TargetKind::kTeacher));
  }
  return read_parts(files, reading_of(options), split);
}

Dataset dataset_of(const std::vector<DataPart>& parts, const TrainOptions& options,
                   const ModelFolder& folder) {
  const ChatTemplate* chat = folder.chat_template ? &*folder.chat_template : nullptr;
  return {parts, options.dataset, folder.require_tokenizer(), chat};
}

// Parts of files of their own, whatever they hold out themselves.
std::vector<DataPart> evaluation_parts(const TrainOptions& options) {
  std::vector<DataFile> files;
  for (const auto& file : options.eval_data) {
    files.push_back(parse_data_file(file, kind_of(options)));
  }
  std::vector<DataPart> parts;
  for (const DataSplit split : {DataSplit::kTrain, DataSplit::kTuning, DataSplit::kHeldOut}) {
    for (auto& part : read_parts(files, {}, split)) parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

Dataset training_data(const TrainOptions& options, const ModelFolder& folder) {
  return dataset_of(parts_of(options, folder.config, DataSplit::kTrain), options, folder);
}

std::vector<TrainBatch> held_out_batches(const TrainOptions& options, const ModelFolder& folder) {
  // What the identity gate holds out is for its report alone.
  const auto split =
      options.preset == TrainPreset::kIdentity ? DataSplit::kTuning : DataSplit::kHeldOut;
  const auto parts = options.eval_data.empty() ? parts_of(options, folder.config, split)
                                               : evaluation_parts(options);
  std::vector<TrainBatch> batches;
  if (parts.empty()) return batches;
  TrainBatch batch;
  for (TrainSequence& sequence : dataset_of(parts, options, folder).sequences()) {
    batch.push_back(std::move(sequence));
    if (std::ssize(batch) == options.batch.sequences) batches.push_back(std::exchange(batch, {}));
  }
  if (!batch.empty()) batches.push_back(std::move(batch));
  return batches;
}

void make_replay(const TrainOptions& options) {
  const std::string& path = options.replay.front();
  if (options.preset != TrainPreset::kIdentity || std::filesystem::exists(path)) return;
  const LoadedModel start = load(options.model);
  const auto recipe = identity_recipe(options, start.model.config());
  ProgressBar bar("answering near misses and replay prompts");
  write_text_file(path,
                  identity_replay({start.model, start.folder}, recipe, read_prompts(kReplayPrompts),
                                  [&](std::int64_t done, std::int64_t all) {
                                    check_interrupted();
                                    bar.update(done, all, "");
                                  }));
}

}  // namespace qf::cli
