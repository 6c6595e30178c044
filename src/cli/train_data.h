#pragma once

#include <vector>

#include "qwen3fp4/model/model_folder.h"
#include "qwen3fp4/train/dataset.h"
#include "train_options.h"

namespace qf::cli {

[[nodiscard]] Dataset training_data(const TrainOptions& options, const ModelFolder& folder);
// What is never trained: --eval-data, or else what the data holds out; perhaps nothing. In batches
// of --batch sequences.
[[nodiscard]] std::vector<TrainBatch> held_out_batches(const TrainOptions& options,
                                                       const ModelFolder& folder);
// The start model's answers for --preset identity without --replay, beside the model that is to be
// written; asked for once, so that a resumed run has the same.
void make_replay(const TrainOptions& options);

}  // namespace qf::cli
