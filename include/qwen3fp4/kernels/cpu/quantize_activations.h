#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/cpu/scale_tiles.h"
#include "qwen3fp4/kernels/views.h"

// Activations as a block-scaled FP4 product takes them (W4A4): NVFP4 with block scales amax / 6,
// under a tensor scale of each token's own, so that no token depends on which others run beside it.
// x[t, c] ~ e2m1(code) * block scale * token_scales[t]. A token with a value that is not finite has
// the token scale NaN and codes of 0.
namespace qf {

struct QuantisedTokens {
  std::uint8_t* codes;        // [tokens, cols/2]  element 2j low nibble, 2j+1 high nibble
  std::uint8_t* scale_tiles;  // scale_tiles_bytes(tokens, cols/16), padding 0
  float* token_scales;        // [tokens]
};

// x [tokens, cols], cols a multiple of 16.
void quantize_activations(const DenseView& x, const QuantisedTokens& out);

}  // namespace qf
