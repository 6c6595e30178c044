#pragma once

#include <type_traits>

#include "decode_args.cuh"
#include "hopper.cuh"

// What fetches for the decode kernel: one thread of a block, ahead of those that multiply.
namespace qf::cuda::decode {

// The small weights that are read next into L2, a line a block: they come out of DRAM once a token.
__device__ __forceinline__ void prefetch_norms(const LaunchArgs& launch, int layer) {
  const ModelArgs& model = launch.args.model;
  constexpr int kLine = 32;  // floats
  const int line = static_cast<int>(blockIdx.x) * kLine;
  const auto prefetch = [line](const float* weights, int count) {
    if (weights != nullptr && line < count) {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(weights + line));
    }
  };
  const DecodeLayer& next = launch.layer[min(layer + 1, model.layers - 1)];
  prefetch(launch.layer[layer].post_attention_layernorm, model.hidden);
  prefetch(next.input_layernorm, model.hidden);
  prefetch(next.q_norm, model.head_dim);
  prefetch(next.k_norm, model.head_dim);
}

// Fetches this block's bytes of all phases in order. While the block waits for activations only a
// few slots are on their way: more would delay what it waits for. While it multiplies, as many as
// the memory can be kept busy with.
struct Producer {
  static constexpr int kInFlightWaiting = 2;
  static constexpr int kInFlightMultiplying = 4;
  const LaunchArgs& launch;
  const Args& a;
  int slot = 0, arrived_slot = 0;
  std::uint32_t parity = 1, arrived_parity = 0;
  int issued = 0, arrived = 0;

  __device__ __forceinline__ void wait_arrived() {
    mbarrier_wait(shared_address(shared_state().full + arrived_slot), arrived_parity);
    ++arrived;
    if (++arrived_slot == a.ring) {
      arrived_slot = 0;
      arrived_parity ^= 1U;
    }
  }
  // The next slot, once its last bytes are used.
  __device__ __forceinline__ void acquire(int bytes) {
    mbarrier_wait(shared_address(shared_state().empty + slot), parity);
    const volatile std::uint32_t& multiplying = shared_state().multiplying;
    while (issued - arrived >= (multiplying != 0 ? kInFlightMultiplying : kInFlightWaiting)) {
      wait_arrived();
    }
    mbarrier_expect(shared_address(shared_state().full + slot), bytes);
  }
  __device__ __forceinline__ void copy(int offset, const void* source, int bytes) const {
    bulk_copy(shared_address(ring_slot(slot) + offset), source, bytes,
              shared_address(shared_state().full + slot));
  }
  __device__ __forceinline__ void advance() {
    ++issued;
    if (++slot == a.ring) {
      slot = 0;
      parity ^= 1U;
    }
  }

  __device__ __forceinline__ void weights(const Phase& p) {
    const std::uint8_t* source = nullptr;
    int tile = p.first_tile;
    int column = p.first_column;
    for (int chunk = p.first; chunk < p.last; ++chunk, ++column, source += kChunkBytes) {
      if (column == p.chunks_per_tile) {
        column = 0;
        ++tile;
      }
      if (chunk == p.first || column == 0) {
        int of_matrix = tile;
        const std::uint8_t* const base = matrix_of(launch, p, of_matrix).chunks;
        source = base + (std::int64_t{of_matrix} * p.chunks_per_tile + column) * kChunkBytes;
      }
      acquire(kChunkBytes);
      copy(0, source, kChunkBytes);
      advance();
    }
  }
  // Keys, then values, of the tokens that the cache holds.
  template <class T>
  __device__ __forceinline__ void cached_tokens(const Phase& p) {
    const AttentionShare& share = shared_state().share;
    const int slot_size = slot_tokens<T>(a.model.head_dim);
    for (int i = 0; i < share.slots; ++i) {
      const int tokens = min(slot_size, share.cached - i * slot_size);
      const int bytes = tokens * a.model.head_dim * static_cast<int>(sizeof(T));
      const std::int64_t first = share.first + i * slot_size;
      const std::int64_t place = cache_place(a, p.layer, share.kv_head, first);
      const T* const keys = static_cast<const T*>(a.model.keys) + place;
      const T* const values = static_cast<const T*>(a.model.values) + place;
      if constexpr (std::is_same_v<T, E4M3>) {
        const int scale_bytes = copied_scale_bytes(tokens);
        const std::int64_t scales = scale_place(a, p.layer, share.kv_head, first);
        acquire(2 * (bytes + scale_bytes));
        copy(0, keys, bytes);
        copy(kSlotPart, values, bytes);
        copy(2 * kSlotPart, a.model.key_scales + scales, scale_bytes);
        copy(2 * kSlotPart + kSlotScaleBytes, a.model.value_scales + scales, scale_bytes);
      } else {
        acquire(2 * bytes);
        copy(0, keys, bytes);
        copy(bytes, values, bytes);
      }
      advance();
    }
  }
  template <class T>
  __device__ __forceinline__ void run() {
    const int phases = a.model.layers * kPhasesPerLayer;
    for (int index = 0; index <= phases; ++index) {
      const Phase p = phase_at(a, shared_state().ranges, index);
      if (p.type == kQkv) prefetch_norms(launch, p.layer);
      if (p.type == kO) cached_tokens<T>(p);
      weights(p);
    }
  }
};

}  // namespace qf::cuda::decode
