#include "qwen3fp4/kernels/cpu/quantize_activations.h"

#include <algorithm>
#include <cstring>

#include "qwen3fp4/kernels/cpu/quantize.h"
#include "qwen3fp4/kernels/nvfp4_block.h"

namespace qf {

void quantize_activations(const DenseView& x, const QuantisedTokens& out) {
  const std::int64_t blocks = x.cols / kNvfp4Block;
  std::fill_n(out.scale_tiles, scale_tiles_bytes(x.rows, blocks), std::uint8_t{0});
  for (std::int64_t t = 0; t < x.rows; ++t) {
    const float* const token = x.values + t * x.cols;
    const float scale = nvfp4_token_scale(absolute_max(token, x.cols));
    out.token_scales[t] = scale;
    for (std::int64_t b = 0; b < blocks; ++b) {
      float scaled[kNvfp4Block];
      for (std::int64_t i = 0; i < kNvfp4Block; ++i) {
        scaled[i] = is_finite(scale) ? token[b * kNvfp4Block + i] / scale : 0.0F;
      }
      const Nvfp4Block block = nvfp4_plain_block(scaled, 1.0F);
      std::memcpy(out.codes + (t * blocks + b) * (kNvfp4Block / 2), block.codes,
                  sizeof(block.codes));
      out.scale_tiles[scale_tile_offset(t, b, blocks)] = block.scale_e4m3;
    }
  }
}

}  // namespace qf
