#pragma once

#include <memory>
#include <string>
#include <vector>

#include "qwen3fp4/model/fused_decoder.h"

namespace qf {

// One token as one CUDA graph of small kernels (kernels/cuda/token_step.h): for every device, and
// for NVFP4 and NF4. nullptr where it cannot; then `why_not` says why, in one clause. Before, it
// says why there is no persistent kernel, for the description.
[[nodiscard]] std::unique_ptr<FusedDecoder> make_graph_decoder(const Qwen3Model& model,
                                                               KvCache& cache,
                                                               const std::vector<bool>& allowed,
                                                               std::string& why_not);

}  // namespace qf
