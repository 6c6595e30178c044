#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/base/error.h"

namespace qf {

bool built_with_cuda() { return false; }

const std::string& no_cuda_reason() {
  static const std::string kReason =
      "this build has no CUDA (build the preset `cuda`: doc/cuda.md)";
  return kReason;
}

std::unique_ptr<Backend> make_cuda_backend(ComputeDtype, LinearMode) {
  fail(ExitCode::kUsage, "backend 'cuda': {}", no_cuda_reason());
}

}  // namespace qf
