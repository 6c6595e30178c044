#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/run/checkpoint_source.h"
#include "qwen3fp4/train/batch.h"

namespace qf {

// At most `most` tokens (0: all) of whole sequences, spread evenly over the list; one sequence at
// least.
[[nodiscard]] std::vector<TrainSequence> spread(std::vector<TrainSequence> sequences,
                                                std::int64_t most);

// (layers done, layers in all)
using CalibrationProgress = std::function<void(std::int64_t, std::int64_t)>;

// Runs a model as it is in its file, in fp32, over sequences (their targets do not matter) and
// returns the mean square of every input feature of its linears and head, f32 [in] by the weight's
// name, a tied head's as lm_head.weight: what weights the squared errors of NVFP4's block scales.
// Holds the tokens' residual stream (f32 [tokens, hidden_size]), one layer's weights in f32 and
// its activations for `micro_batch_tokens` tokens (or the longest sequence's); first the embedding
// in f32. Throws for a value that is not finite, naming the weight that it would go into.
[[nodiscard]] std::map<std::string, at::Tensor> mean_input_squares(
    const CheckpointSource& source, const Backend& backend,
    std::span<const TrainSequence> sequences, std::int64_t micro_batch_tokens,
    const CalibrationProgress& progress = {});

}  // namespace qf
