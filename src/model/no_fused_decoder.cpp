#include "qwen3fp4/model/fused_decoder.h"

namespace qf {

std::unique_ptr<FusedDecoder> FusedDecoder::make(const Qwen3Model&, KvCache&,
                                                 const std::vector<bool>&, std::string& why_not) {
  why_not = "this build has no CUDA";
  return nullptr;
}

}  // namespace qf
