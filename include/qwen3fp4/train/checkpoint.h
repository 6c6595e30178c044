#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/trainer.h"

namespace qf {

// Everything that the next step depends on and the model folder does not hold, in one `.dat` file:
// the trained weights with their states (entries "<weight>/<state>"), and as JSON ("train.json")
// where the run stands and the settings it must go on with. Appears whole or not at all.
// `settings`: a JSON object.
void save_checkpoint(const std::filesystem::path& path, const ModelWeights& model,
                     const TrainProgress& progress, std::string_view settings);

// Throws as load_checkpoint() does for other settings, so that a run can be refused before it loads
// a model. `later`: the one setting that is known only after that, and is not compared.
void check_checkpoint(const std::filesystem::path& path, std::string_view settings,
                      std::string_view later);

// Puts the states back. Throws, naming the first difference, when the file was written with other
// settings (exit code 2) or for other weights.
[[nodiscard]] TrainProgress load_checkpoint(const std::filesystem::path& path,
                                            const ModelWeights& model, std::string_view settings);

// FNV-1a over the bytes of every trained weight and state, in 16 hexadecimal digits: equal after N
// steps whether or not the run was resumed.
[[nodiscard]] std::string state_hash(const ModelWeights& model);

}  // namespace qf
