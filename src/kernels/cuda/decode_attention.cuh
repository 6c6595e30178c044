#pragma once

#include <type_traits>

#include "decode_softmax.cuh"
#include "decode_stage.cuh"
#include "kv_row.cuh"

// Attention: a block takes one item (up to four query heads of one key/value head) and one split of
// the cached tokens, and leaves sums for load_attended(). The cached keys and values come through
// the ring like weights, fetched long before they are needed. Flash decoding: a stream of
// head_dim / 4 lanes reads four tokens at a time, four features a lane, and keeps its own running
// maximum.
namespace qf::cuda::decode {

__device__ __forceinline__ void fill_rotation(const Args& a, int thread) {
  const int half = a.model.head_dim / 2;
  const std::int64_t row = a.step.position * half;
  for (int i = thread; i < half; i += kConsumers) {
    shared_state().rotation[i] = make_float2(a.model.rope_cos[row + i], a.model.rope_sin[row + i]);
  }
}

// The unused columns of the staged activations must be zero again when the next phase stages.
template <int kHeadDim>
__device__ __forceinline__ void clear_sums(const Args& a, int thread) {
  constexpr int kVectors = kConsumerWarps * kHeadsPerItem * kHeadDim / 4;
  for (int i = thread; i < kVectors; i += kConsumers) {
    reinterpret_cast<float4*>(attention_sums(a))[i] = make_float4(0, 0, 0, 0);
  }
}

// What a warp prepares: 0..3 a query each, 4 the key and 5 the value of the step's token, for the
// split that ends with it. head_dim / 32 neighbours a lane.
template <int kHeadDim>
struct Head {
  static constexpr int kOwn = kHeadDim / 32;
  float v[kOwn];
  bool exists;

  // From the qkv phase, once it is there; then RMS norm over the head (when the model has one) and
  // RoPE, feature i with feature i + E/2. Values are left as they are.
  __device__ __forceinline__ void load(const Args& a, const Phase& p, int warp, int lane) {
    const AttentionShare& share = shared_state().share;
    const bool query = warp < kHeadsPerItem;
    const bool value = warp == kHeadsPerItem + 1;
    const int in_group = share.subgroup * kHeadsPerItem + warp;
    exists = query ? in_group < a.group : share.has_newest && warp < kHeadsPerItem + 2;
    if (!exists) return;
    const int tile = query ? 0 : (value ? a.q_tiles + a.kv_tiles : a.q_tiles);
    const int head = query ? share.kv_head * a.group + in_group : share.kv_head;
    const int first = tile * kTileRows + head * kHeadDim + lane * kOwn;
    const float* const norm = value ? nullptr : shared_state().layers[p.layer].norm[query ? 2 : 3];
    float weight[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) weight[i] = norm != nullptr ? norm[lane * kOwn + i] : 1.0F;
    load_rows(a, p, first);
    if (norm != nullptr) {
      float squares = 0;
#pragma unroll
      for (int i = 0; i < kOwn; ++i) squares = fmaf(v[i], v[i], squares);
      const float mean = warp_sum(squares) / static_cast<float>(kHeadDim);
      const float inverse = rsqrtf(mean + a.model.rms_norm_eps);
#pragma unroll
      for (int i = 0; i < kOwn; ++i) v[i] = v[i] * inverse * weight[i];
    }
    if (value) return;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const float2 turn = shared_state().rotation[(lane * kOwn + i) % (kHeadDim / 2)];
      const float other = __shfl_xor_sync(~0U, v[i], 16);
      v[i] = v[i] * turn.x + (lane < 16 ? -other : other) * turn.y;
    }
  }

 private:
  __device__ __forceinline__ void load_rows(const Args& a, const Phase& p, int first) {
    const std::uint32_t tag = tag_of(a, p.layer);
    const std::int64_t stride = std::int64_t{qkv_tiles(a)} * kTileRows;
    const int parts = shared_state().qkv_parts[first / kTileRows];
    const auto* source = a.space.qkv + first;
    Patience patience{a, p.number - 1};
#pragma unroll
    for (int i = 0; i < kOwn; ++i) v[i] = 0;
    constexpr int kAtATime = 3;
    for (int first_part = 0; first_part < parts; first_part += kAtATime) {
      uint2 words[kAtATime][kOwn / 2];
      bool ready = true;
      do {
        ready = true;
#pragma unroll
        for (int k = 0; k < kAtATime; ++k) {
          const auto* const part = reinterpret_cast<const uint2*>(source + k * stride);
#pragma unroll
          for (int i = 0; i < kOwn / 2; ++i) {
            words[k][i] = first_part + k < parts ? load_relaxed(part + i) : make_uint2(tag, tag);
          }
        }
#pragma unroll
        for (int k = 0; k < kAtATime; ++k) {
#pragma unroll
          for (int i = 0; i < kOwn / 2; ++i) ready = ready && has_tag(words[k][i], tag);
        }
      } while (!ready && patience.more());
#pragma unroll
      for (int k = 0; k < kAtATime; ++k) {
#pragma unroll
        for (int i = 0; i < kOwn / 2; ++i) {
          v[2 * i] += untagged(words[k][i].x);
          v[2 * i + 1] += untagged(words[k][i].y);
        }
      }
      source += kAtATime * stride;
    }
  }
};

// To the cache and, as it reads the cache, to shared memory: a token gives the same bits while it
// is the newest and later.
template <int kOwn>
__device__ __forceinline__ void store_row(__half* cached, std::uint8_t* staged,
                                          const float (&v)[kOwn], int lane) {
  auto* const halves = reinterpret_cast<__half*>(staged);
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    cached[lane * kOwn + i] = halves[lane * kOwn + i] = __float2half_rn(v[i]);
  }
}
template <int kOwn>
__device__ __forceinline__ void store_row(E4M3* cached, float* scale, std::uint8_t* staged,
                                          const float (&v)[kOwn], int lane) {
  const float row_scale = kv_scale(largest_magnitude(v));
#pragma unroll
  for (int i = 0; i < kOwn; i += 2) {
    const auto pair = static_cast<std::uint16_t>(kv_code_pair(v[i], v[i + 1], row_scale));
    *reinterpret_cast<std::uint16_t*>(cached + lane * kOwn + i) = pair;
    *reinterpret_cast<std::uint16_t*>(staged + lane * kOwn + i) = pair;
  }
  if (lane == 0) *scale = *reinterpret_cast<float*>(staged + kMaxHeadDim) = row_scale;
}

// To shared memory, and the key and the value to the cache too (blocks that share a key/value head
// write the same bits).
template <int kHeadDim, class T>
__device__ __forceinline__ void store_heads(const Args& a, const Phase& p,
                                            const Head<kHeadDim>& head, int warp, int lane) {
  const AttentionShare& share = shared_state().share;
  constexpr int kOwn = kHeadDim / 32;
  if (warp < kHeadsPerItem) {
    const float scale = 1.44269504088896340736F / sqrtf(static_cast<float>(kHeadDim));
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      shared_state().query[warp][lane * kOwn + i] = head.exists ? head.v[i] * scale : 0.0F;
    }
    return;
  }
  if (!head.exists) return;
  const bool key = warp == kHeadsPerItem;
  T* const cached = static_cast<T*>(key ? a.model.keys : a.model.values) +
                    cache_place(a, p.layer, share.kv_head, a.step.position);
  std::uint8_t* const staged = shared_state().newest[key ? 0 : 1];
  if constexpr (std::is_same_v<T, E4M3>) {
    float* const scale = (key ? a.model.key_scales : a.model.value_scales) +
                         scale_place(a, p.layer, share.kv_head, a.step.position);
    store_row(cached, scale, staged, head.v, lane);
  } else {
    store_row(cached, staged, head.v, lane);
  }
}

// A lane's place among the streams of a group's four warps.
template <int kHeadDim>
struct StreamPlace {
  static constexpr int kStreams = 32 / Running<kHeadDim>::kLanes;  // of a warp
  static constexpr int kGroupStreams = 4 * kStreams;
  int stream, feature, lane;

  __device__ __forceinline__ StreamPlace(int warp, int warp_lane)
      : stream(warp % 4 * kStreams + warp_lane / Running<kHeadDim>::kLanes),
        feature(warp_lane % Running<kHeadDim>::kLanes * 4),
        lane(warp_lane) {}
  // Token `i` of the stream's batch `number`.
  __device__ __forceinline__ int token(int number, int i) const {
    return (number * kBatchTokens + i) * kGroupStreams + stream;
  }
};

// From a slot with so many tokens: all keys, then all values.
template <int kHeadDim>
__device__ __forceinline__ void load_batch(const std::uint8_t* bytes, int tokens, int number,
                                           const StreamPlace<kHeadDim>& mine,
                                           Batch<__half>& batch) {
#pragma unroll
  for (int i = 0; i < kBatchTokens; ++i) {
    const int token = mine.token(number, i);
    if (token < tokens) {
      const int at = (token * kHeadDim + mine.feature) * 2;
      batch.keys[i] = *reinterpret_cast<const uint2*>(bytes + at);
      batch.values[i] = *reinterpret_cast<const uint2*>(bytes + tokens * kHeadDim * 2 + at);
      batch.present = i + 1;
    }
  }
}
// Each at its own place.
template <int kHeadDim>
__device__ __forceinline__ void load_batch(const std::uint8_t* bytes, int tokens, int number,
                                           const StreamPlace<kHeadDim>& mine, Batch<E4M3>& batch) {
#pragma unroll
  for (int i = 0; i < kBatchTokens; ++i) {
    const int token = mine.token(number, i);
    if (token < tokens) {
      const int at = token * kHeadDim + mine.feature;
      batch.keys[i] = *reinterpret_cast<const std::uint32_t*>(bytes + at);
      batch.values[i] = *reinterpret_cast<const std::uint32_t*>(bytes + kSlotPart + at);
      batch.present = i + 1;
    }
  }
  const int scored = mine.token(number, Running<kHeadDim>::token_of(mine.lane));
  if (scored < tokens) {
    const auto* const scales = reinterpret_cast<const float*>(bytes + 2 * kSlotPart);
    batch.key_scale = scales[scored];
    batch.value_scale = scales[kSlotScaleBytes / 4 + scored];
  }
}

// The step's own token, by the first stream of a warp.
template <int kHeadDim>
__device__ __forceinline__ void load_newest(const StreamPlace<kHeadDim>& mine,
                                            Batch<__half>& batch) {
  batch.keys[0] = *reinterpret_cast<const uint2*>(shared_state().newest[0] + mine.feature * 2);
  batch.values[0] = *reinterpret_cast<const uint2*>(shared_state().newest[1] + mine.feature * 2);
  batch.present = mine.lane < Running<kHeadDim>::kLanes ? 1 : 0;
}
template <int kHeadDim>
__device__ __forceinline__ void load_newest(const StreamPlace<kHeadDim>& mine, Batch<E4M3>& batch) {
  const auto word = [&](int which, int at) {
    return *reinterpret_cast<const std::uint32_t*>(shared_state().newest[which] + at);
  };
  batch.keys[0] = word(0, mine.feature);
  batch.values[0] = word(1, mine.feature);
  batch.present = mine.lane < Running<kHeadDim>::kLanes ? 1 : 0;
  if (Running<kHeadDim>::token_of(mine.lane) != 0) return;
  batch.key_scale = __uint_as_float(word(0, kMaxHeadDim));
  batch.value_scale = __uint_as_float(word(1, kMaxHeadDim));
}

// This warp's share of the split's tokens. The warps of a group share a slot of the ring.
template <int kHeadDim, class T>
__device__ __forceinline__ void attend(const Args& a, RingPlace& place, int warp, int lane) {
  const AttentionShare& share = shared_state().share;
  using Mine = StreamPlace<kHeadDim>;
  constexpr int kSlotTokens = slot_tokens<T>(kHeadDim);
  constexpr int kBatches = kSlotTokens / (Mine::kGroupStreams * kBatchTokens);
  static_assert(kSlotTokens == kBatches * Mine::kGroupStreams * kBatchTokens,
                "a slot is whole batches of each stream");
  const Mine mine(warp, lane);
  Running<kHeadDim> run;
  run.start(lane);
  // The newest token comes after the cache's, in the turn of the group that would be next.
  int slot = place.next;
  for (;; slot += kGroups) {
    const bool cached = slot < share.slots;
    const bool newest = slot == share.slots && share.has_newest && warp % 4 == 0;
    if (!cached && !newest) break;
#pragma unroll 1
    for (int number = 0; number < (cached ? kBatches : 1); ++number) {
      Batch<T> batch;
      if (cached) {
        const int tokens = min(kSlotTokens, share.cached - slot * kSlotTokens);
        if (number == 0) {
          mbarrier_wait(shared_address(shared_state().full + place.slot), place.parity);
        }
        load_batch(ring_slot(place.slot), tokens, number, mine, batch);
        if (number == kBatches - 1) {
          __syncwarp();
          if (lane == 0) mbarrier_arrive(shared_address(shared_state().empty + place.slot));
          place.advance();
        }
      } else {
        load_newest(mine, batch);
      }
      run.add(batch, lane);
    }
    if (!cached) break;
  }
  place.next = slot - share.slots;
  if (Mine::kStreams == 2) run.merge(16, lane);
  run.store(a, warp, lane);
}

// The warps' sums put together, in their order, into the workspace, two neighbours a thread. A
// split without tokens gets words as well, for their tags.
template <int kHeadDim>
__device__ __forceinline__ void store_attended(const Args& a, const Phase& p, int thread) {
  static_assert(kHeadsPerItem * kHeadDim <= 2 * kConsumers);
  const int i = 2 * thread;
  if (i >= kHeadsPerItem * kHeadDim) return;
  const AttentionShare& share = shared_state().share;
  const int h = i / kHeadDim;
  float largest = -INFINITY;
  float total = 0;
  float2 sum = make_float2(0, 0);
  if (share.active) {
    float2 scale[kConsumerWarps];
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) {
      scale[w] = shared_state().head_scale[w][h];
      largest = fmaxf(largest, scale[w].x);
    }
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) {
      const float factor = scale[w].x == -INFINITY ? 0.0F : power_of_two(scale[w].x - largest);
      const float2 part =
          *reinterpret_cast<const float2*>(attention_sums(a) + w * kHeadsPerItem * kHeadDim + i);
      total = fmaf(factor, scale[w].y, total);
      sum.x = fmaf(factor, part.x, sum.x);
      sum.y = fmaf(factor, part.y, sum.y);
    }
  }
  const std::uint32_t tag = tag_of(a, p.layer);
  const int place = (share.item * a.splits + share.number) * kHeadsPerItem + h;
  auto* const out = a.space.attended + std::int64_t{place} * kHeadDim + i % kHeadDim;
  store_relaxed(reinterpret_cast<uint2*>(out), make_uint2(tagged(sum.x, tag), tagged(sum.y, tag)));
  if (i % kHeadDim == 0) {
    store_relaxed(a.space.attended_scale + place,
                  make_uint2(tagged(largest, tag), tagged(total, tag)));
  }
}

template <int kHeadDim, class T>
__device__ __forceinline__ void attention(const Args& a, const Phase& p, RingPlace& place, int warp,
                                          int lane) {
  const AttentionShare& share = shared_state().share;
  if (!share.exists) return;
  const int thread = warp * 32 + lane;
  if (share.active) {
    Head<kHeadDim> head;
    head.load(a, p, warp, lane);
    named_barrier<kConsumers>();  // nobody multiplies by the staged activations any more
    store_heads<kHeadDim, T>(a, p, head, warp, lane);
    named_barrier<kConsumers>();
    if (thread == 0) shared_state().multiplying = 1;
    attend<kHeadDim, T>(a, place, warp, lane);
    if (thread == 0) shared_state().multiplying = 0;
    named_barrier<kConsumers>();
  }
  store_attended<kHeadDim>(a, p, thread);
  if (share.active) {
    named_barrier<kConsumers>();
    clear_sums<kHeadDim>(a, thread);
  }
}

}  // namespace qf::cuda::decode
