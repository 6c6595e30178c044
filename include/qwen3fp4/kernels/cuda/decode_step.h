#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "qwen3fp4/kernels/cuda/stream_layout.h"
#include "qwen3fp4/kernels/nf4_table.h"

// One token through a whole Qwen3 (or Llama-family) model in one persistent kernel, for Hopper
// (compute capability 9.0): one thread block an SM, each with a share of every matrix's chunks
// (stream_layout.h), fetched far ahead by a producer warp, keys and values of the cache among them.
// Blocks hand each other activations in words that say themselves when they are complete
// (src/kernels/cuda/decode_words.cuh): there is no barrier over the grid.
//
// Arithmetic: an activation is the sum of three E4M3 terms times a power of two shared by 256
// neighbours; products with the weights' exact E4M3 codes run on the FP8 tensor cores, block
// scales are applied in fp32. For y = W x, |y - exact| <= 2^-11 sum |w x|: closer than fp16
// activations. With NF4 an activation is an integer below 2^21 times a power of two shared by 256
// neighbours, a level a coarse byte and a fine one (nf4_table.h), and products run on the int8
// tensor cores: |y - exact| <= sum absmax (2^-13 |x| + 2^-20 m), where m is the largest |x| of x's
// 256, and absmax that of the weight's block. The stream (the residual) is fixed point in steps of
// 2^-30, so that |x| < 2^26, because integer sums do not depend on the order in which the blocks
// add to them; all other sums have a fixed order. So the same inputs give the same bits in every
// run.
namespace qf::cuda {

inline constexpr int kDecodeMaxLayers = 64;
// Limits of decode_plan(), see there.
inline constexpr int kDecodeMaxHidden = 6144;
inline constexpr int kDecodeMaxBlocks = 256;

struct DecodeMatrix {
  const std::uint8_t* chunks;  // in the stream layout
  float scale;                 // tensor scale; NF4: 1
};

struct DecodeLayer {
  DecodeMatrix q, k, v, o, gate, up, down;
  const float* input_layernorm;           // [hidden]
  const float* post_attention_layernorm;  // [hidden]
  const float* q_norm;                    // [head_dim]; nullptr: the model has none
  const float* k_norm;                    // [head_dim]; nullptr likewise
};

// All pointers are device pointers. The struct itself is passed by value to the kernel.
struct DecodeModel {
  std::int32_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocab;
  float rms_norm_eps;
  const __nv_bfloat16* embed_tokens;  // [vocab, hidden]
  const float* norm;                  // [hidden]
  DecodeMatrix lm_head;               // [vocab, hidden]
  const float* rope_cos;              // [context, head_dim / 2]
  const float* rope_sin;              // [context, head_dim / 2]
  // fp16; with scales codes of FP8 (kernels/kv_row.h).
  void* keys;           // [layers, kv_heads, context, head_dim]
  void* values;         // [layers, kv_heads, context, head_dim]
  float* key_scales;    // [layers, kv_heads, kv_scale_stride(context)]; nullptr: fp16
  float* value_scales;  // likewise
  std::int64_t context;
  bool nf4;  // all matrices are NF4, and nf4_table their code book's; else NVFP4
  Nf4Table nf4_table;
  DecodeLayer layer[kDecodeMaxLayers];
};

// What the device reports of a step; zeroed by the caller once.
struct DecodeStatus {
  std::uint32_t token;       // greedy choice: the first of the largest logits
  std::uint32_t non_finite;  // 0, or 1 + the phase (5 * layer + 0..4; the head last) that saw NaN
                             // or infinity first, in some block
  std::uint32_t hung;        // 0, or 1 + the phase in which a block gave up waiting
  std::uint32_t reserved;
};

// The same for a host that waits for it, in pinned memory that the device can write. Written once
// the step is done, `done` last.
struct DecodeReport {
  std::uint32_t token, non_finite, hung;
  std::uint32_t done;  // DecodeStep::number + 1
};

// Shape of the launch on the current device, and the bytes of workspace that a step needs.
struct DecodePlan {
  std::int32_t blocks = 0;        // one an SM
  std::int32_t ring_chunks = 0;   // fetched ahead, a multiple of 3
  std::int32_t x_chunks = 0;      // activations staged at a time, in 256 columns
  std::int32_t shared_bytes = 0;  // of a block
  std::int32_t qkv_parts = 0;     // blocks that share a tile of qkv, at most
  std::int32_t gate_up_parts = 0;
  std::int32_t splits = 0;  // of the cached tokens of one key/value head, at most
  std::int64_t workspace_bytes = 0;
};

// cudaErrorNotSupported: not compute capability 9.0. cudaErrorInvalidValue: a shape that the kernel
// does not take: head_dim other than 64 and 128, heads not a multiple of kv_heads or more than 8 of
// them sharing one, hidden over kDecodeMaxHidden, more layers than kDecodeMaxLayers, sizes that are
// no multiples of a block (16; NF4: 64).
[[nodiscard]] cudaError_t decode_plan(const DecodeModel& model, DecodePlan& plan);

struct DecodeStep {
  const std::uint32_t* token;  // device: the id to run; status->token of the step before may be it
  std::int64_t position;       // of that token: this many are cached before it
  float* logits;               // [vocab], or nullptr: not written
  const std::uint32_t* allowed;  // bit per id that may be chosen [ceil(vocab / 32)]; nullptr: all
  float* hidden;                 // nullptr, or [layers, hidden]: the stream after each layer, for
                                 // comparing layer by layer
  DecodeStatus* status;          // device
  DecodeReport* report;          // nullptr, or where the host waits
  void* workspace;               // plan.workspace_bytes, aligned to 256, zeroed before step 0 (and
                                 // after a step that hung) and kept from step to step
  std::uint32_t number;          // of the step on this workspace: 0, 1, 2, ...
  std::int64_t spin_limit_cycles;  // waiting longer for a value is a hang
};

[[nodiscard]] cudaError_t decode_step(const DecodeModel& model, const DecodePlan& plan,
                                      const DecodeStep& step, cudaStream_t stream);

}  // namespace qf::cuda
