#pragma once

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/config.h"
#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// Refuse (exit code 2) weights that the backend's LinearMode cannot run, before one of them is
// read: kW4A4 takes projections in NVFP4 with E4M3 block scales, on a device only shapes that
// cuBLASLt takes. A head in another format is multiplied as with kW4A16.
void check_linear_mode(const Backend& backend, const ModelConfig& config, const DatReader& weights);
// Of weights that are drawn.
void check_linear_mode(const Backend& backend, WeightFormat format);

}  // namespace qf
