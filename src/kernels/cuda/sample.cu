#include "qwen3fp4/kernels/cuda/sample.h"

// A slice of kSlice ids is a thread block, a thread an id. Launches follow each other in the
// stream, which is all the order between slices that there is: what one launch sums up with integer
// atomics, every block of the next one reads.
//
// top-k and top-p each look for the key at which a sum over larger keys (of ones, or of weights)
// reaches a target: a radix descent over the key's bits, 11 at a time (the last pass has one that
// is known already). A launch adds the keys that agree with the bits found so far to a histogram of
// the next ones.
namespace qf::cuda {
namespace {

constexpr int kSlice = 1024;
constexpr int kWarps = kSlice / 32;
constexpr int kMaxSlices = kSampleMaxVocab / kSlice;
static_assert(kMaxSlices <= kSlice, "the last launch has a thread for every slice");

constexpr int kPasses = 3;
constexpr int kBins = 2048;
static_assert(kBins == 2 * kSlice, "a thread reads two bins");
__host__ __device__ constexpr unsigned pass_shift(int pass) {
  return pass == 0 ? 21 : (pass == 1 ? 10 : 0);
}

enum Limit { kTopK, kTopP };

// Where a descent has got to.
struct Cut {
  std::uint32_t key;        // the bits found so far, zeros below
  std::uint64_t remaining;  // of the target, after the sum over larger keys
};

struct Slice {
  std::uint64_t weight;  // of the survivors, those at the top-p cut aside
  std::uint32_t survivors;
  std::uint32_t at_cut;
};

// Zeroed at the start of every step.
struct Totals {
  unsigned long long best;  // sample_key << 32 | ~id; 0: no id is allowed
  std::uint32_t non_finite;
  unsigned long long histogram[2][kPasses][kBins];
};

struct Args {
  SampleRule rule;
  SampleStep step;
  Totals* totals;
  Cut (*cuts)[kPasses + 1];  // [limit][passes done]
  Slice* slices;             // [slices]
  std::uint64_t* weights;    // [vocab]
  std::uint32_t* keys;       // [vocab]; 0: not allowed
};

__device__ std::uint32_t best_key(const Args& a) {
  return static_cast<std::uint32_t>(a.totals->best >> 32);
}

__device__ std::uint64_t weight_of(const Args& a, std::uint32_t key) {
  return sample_weight(logit_of_key(key), logit_of_key(best_key(a)), a.rule.temperature);
}

// Sums of `value` over the threads up to this one. Every thread of the block takes part.
template <class T>
__device__ T inclusive_scan(T value) {
  __shared__ T of_warp[kWarps];
  const unsigned lane = threadIdx.x % 32;
  for (unsigned offset = 1; offset < 32; offset *= 2) {
    const T lower = __shfl_up_sync(0xFFFFFFFFU, value, offset);
    if (lane >= offset) value += lower;
  }
  __syncthreads();  // of_warp may still be read from the scan before
  if (lane == 31) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  for (unsigned warp = 0; warp < threadIdx.x / 32; ++warp) value += of_warp[warp];
  return value;
}

// The cut after one more pass, whose histogram the launch before has filled. For top-p the first
// one also says what the target is. Every thread of the block takes part and gets it.
__device__ Cut refine(const Args& a, Limit limit, int pass, const Cut& before) {
  __shared__ Cut found;
  const unsigned long long* const bins = a.totals->histogram[limit][pass];
  // From the largest bin down.
  const unsigned top = kBins - 1 - 2 * threadIdx.x;
  const std::uint64_t high = bins[top];
  const std::uint64_t both = high + bins[top - 1];
  const std::uint64_t reached = inclusive_scan(both);
  __shared__ std::uint64_t total;
  if (threadIdx.x == kSlice - 1) {
    total = reached;
    found = {before.key, 0};  // where the target is beyond all keys: the cut stays at the bottom
  }
  __syncthreads();
  const std::uint64_t target =
      limit == kTopP && pass == 0 ? top_p_target(a.rule.top_p, total) : before.remaining;
  const std::uint64_t larger = reached - both;
  if (larger < target && target <= reached) {
    const bool in_high = target <= larger + high;
    found = {before.key | (in_high ? top : top - 1) << pass_shift(pass),
             target - larger - (in_high ? 0 : high)};
  }
  __syncthreads();
  const Cut cut = found;
  __syncthreads();  // `found` may be written by the next call
  return cut;
}

// The cut after `passes` launches of select_kernel, the last of which is the launch before this
// one; kept for later launches.
__device__ Cut cut_after(const Args& a, Limit limit, int passes) {
  if (passes == 0) return {0, static_cast<std::uint64_t>(a.rule.top_k)};
  const Cut before =
      passes == 1 ? Cut{0, static_cast<std::uint64_t>(a.rule.top_k)} : a.cuts[limit][passes - 1];
  const Cut cut = refine(a, limit, passes - 1, before);
  if (blockIdx.x == 0 && threadIdx.x == 0) a.cuts[limit][passes] = cut;
  return cut;
}

// The smallest key that top-k keeps. `fresh`: the launch before was top-k's last.
__device__ std::uint32_t top_k_floor(const Args& a, bool fresh) {
  if (a.rule.top_k == 0) return 1;
  const Cut cut = fresh ? cut_after(a, kTopK, kPasses) : a.cuts[kTopK][kPasses];
  return cut.key == 0 ? 1 : cut.key;  // 0 are the ids that are not allowed
}

__global__ void __launch_bounds__(kSlice) score_kernel(Args a) {
  const std::int64_t id = std::int64_t{blockIdx.x} * kSlice + threadIdx.x;
  std::uint32_t key = 0;
  bool finite = true;
  if (id < a.step.vocab) {
    float logit = a.step.logits[id];
    finite = is_finite(logit);
    if (a.step.allowed == nullptr || id_in_set(a.step.allowed, id)) {
      if (a.step.repeated != nullptr && id_in_set(a.step.repeated, id)) {
        logit = penalised_logit(logit, a.rule.repetition_penalty);
      }
      key = sample_key(logit);
    }
    a.keys[id] = key;
  }
  if (!finite) atomicOr(&a.totals->non_finite, 1U);
  // The larger of equal keys is that of the lower id.
  unsigned long long best =
      key == 0 ? 0 : static_cast<unsigned long long>(key) << 32 | ~static_cast<std::uint32_t>(id);
  for (int offset = 16; offset > 0; offset /= 2) {
    const unsigned long long other = __shfl_xor_sync(0xFFFFFFFFU, best, offset);
    best = other > best ? other : best;
  }
  if (threadIdx.x % 32 == 0 && best != 0) atomicMax(&a.totals->best, best);
}

__global__ void __launch_bounds__(kSlice) weigh_kernel(Args a) {
  const std::int64_t id = std::int64_t{blockIdx.x} * kSlice + threadIdx.x;
  if (id < a.step.vocab) a.weights[id] = a.keys[id] == 0 ? 0 : weight_of(a, a.keys[id]);
}

// A weight in two parts, of which a slice sums up in 32 bits each: atomics of 64 bits on shared
// memory are loops.
constexpr unsigned kLowBits = 22;
static_assert((std::uint64_t{1} << (kSampleWeightBits - kLowBits)) * kSlice <= 0xFFFFFFFFU &&
                  (std::uint64_t{1} << kLowBits) * kSlice <= std::uint64_t{1} << 32,
              "no sum over a slice overflows");

__global__ void __launch_bounds__(kSlice) select_kernel(Args a, Limit limit, int pass) {
  __shared__ std::uint32_t low[kBins], high[kBins];
  for (int bin = threadIdx.x; bin < kBins; bin += kSlice) low[bin] = high[bin] = 0;
  const std::uint32_t floor = limit == kTopK ? 1 : top_k_floor(a, pass == 0);
  const Cut cut = cut_after(a, limit, pass);
  __syncthreads();
  const std::int64_t id = std::int64_t{blockIdx.x} * kSlice + threadIdx.x;
  const std::uint32_t key = id < a.step.vocab ? a.keys[id] : 0;
  const bool agrees = pass == 0 || (key ^ cut.key) >> pass_shift(pass - 1) == 0;
  if (key >= floor && agrees) {
    const std::uint64_t value = limit == kTopK ? 1 : a.weights[id];
    const unsigned bin = key >> pass_shift(pass) & (kBins - 1);
    atomicAdd(&low[bin], static_cast<std::uint32_t>(value) & ((1U << kLowBits) - 1));
    atomicAdd(&high[bin], static_cast<std::uint32_t>(value >> kLowBits));
  }
  __syncthreads();
  for (int bin = threadIdx.x; bin < kBins; bin += kSlice) {
    const unsigned long long sum =
        (static_cast<unsigned long long>(high[bin]) << kLowBits) + low[bin];
    if (sum != 0) atomicAdd(&a.totals->histogram[limit][pass][bin], sum);
  }
}

struct Fate {
  bool survives, at_cut;  // not both
};
__device__ Fate fate_of(const Args& a, std::int64_t id, std::uint32_t floor, std::uint32_t cut) {
  if (id >= a.step.vocab) return {false, false};
  const std::uint32_t key = a.keys[id];
  const bool kept = key >= floor && key >= cut && a.weights[id] >= min_p_weight(a.rule.min_p);
  return {kept && key != cut, kept && key == cut};
}

__global__ void __launch_bounds__(kSlice) tally_kernel(Args a) {
  const bool top_p = a.rule.top_p < 1;
  const std::uint32_t floor = top_k_floor(a, !top_p);
  const std::uint32_t cut = top_p ? cut_after(a, kTopP, kPasses).key : 0;
  const std::int64_t id = std::int64_t{blockIdx.x} * kSlice + threadIdx.x;
  const Fate fate = fate_of(a, id, floor, cut);
  const std::uint64_t weight = inclusive_scan(fate.survives ? a.weights[id] : std::uint64_t{0});
  // Two counts up to 1024 in one.
  const auto counts = inclusive_scan((fate.survives ? 1U : 0U) + (fate.at_cut ? 1U << 16 : 0U));
  if (threadIdx.x == kSlice - 1) a.slices[blockIdx.x] = {weight, counts & 0xFFFF, counts >> 16};
}

// Of the ids at the top-p cut, all of one weight, the first so many stay.
struct CutTies {
  std::uint64_t kept, weight;
  __device__ std::uint64_t among(std::uint64_t before, std::uint64_t count) const {
    const std::uint64_t left = before < kept ? kept - before : 0;
    return count < left ? count : left;
  }
};

__device__ void finish(const Args& a, std::uint32_t token) {
  a.step.state->token = token;
  if (a.step.repeated != nullptr) a.step.repeated[token / 32] |= 1U << token % 32;
}

// The best token; or why there is none.
__global__ void best_kernel(Args a) {
  SampleState& state = *a.step.state;
  if (state.status != SampleStatus::kChosen) return;
  if (a.totals->non_finite != 0) {
    state.status = SampleStatus::kNonFiniteLogits;
  } else if (a.totals->best == 0) {
    state.status = SampleStatus::kNoTokenAllowed;
  } else {
    finish(a, ~static_cast<std::uint32_t>(a.totals->best));
  }
}

// One block: finds the slice in which the draw falls, and in it the id.
__global__ void __launch_bounds__(kSlice) draw_kernel(Args a, int slices) {
  __shared__ int slice;
  __shared__ std::uint64_t target;  // left of the drawn weight before the slice
  __shared__ std::uint64_t ties_before;
  __shared__ std::uint64_t total_weight, total_count, first_target;
  __shared__ SampleStatus status;
  const bool top_p = a.rule.top_p < 1;
  const Cut cut = top_p ? a.cuts[kTopP][kPasses] : Cut{0, 0};
  const std::uint32_t floor = top_k_floor(a, false);
  CutTies ties{0, 0};
  if (top_p && cut.key != 0) {
    ties.weight = weight_of(a, cut.key);
    if (ties.weight != 0) ties.kept = (cut.remaining + ties.weight - 1) / ties.weight;
  }

  const int t = static_cast<int>(threadIdx.x);
  const Slice mine = t < slices ? a.slices[t] : Slice{0, 0, 0};
  const std::uint64_t ties_up_to = inclusive_scan(std::uint64_t{mine.at_cut});
  const std::uint64_t kept = ties.among(ties_up_to - mine.at_cut, mine.at_cut);
  const std::uint64_t weight = mine.weight + kept * ties.weight;
  const std::uint64_t weight_up_to = inclusive_scan(weight);
  const std::uint64_t count_up_to = inclusive_scan(mine.survivors + kept);
  if (t == kSlice - 1) {
    total_weight = weight_up_to;
    total_count = count_up_to;
  }
  __syncthreads();
  if (t == 0) {
    SampleState& state = *a.step.state;
    status = state.status;
    if (status != SampleStatus::kChosen) {
    } else if (a.totals->non_finite != 0) {
      status = SampleStatus::kNonFiniteLogits;
    } else if (a.totals->best == 0) {
      status = SampleStatus::kNoTokenAllowed;
    } else if (total_count > 1 && state.draws_used >= a.step.draws_made) {
      status = SampleStatus::kNoDrawLeft;
    } else {
      first_target =
          total_count > 1 ? draw_target(a.step.draws[state.draws_used++], total_weight) : 0;
    }
    state.status = status;
  }
  __syncthreads();
  if (status != SampleStatus::kChosen) return;
  const std::uint64_t before = weight_up_to - weight;
  if (before <= first_target && first_target < weight_up_to) {
    slice = t;
    target = first_target - before;
    ties_before = ties_up_to - mine.at_cut;
  }
  __syncthreads();

  const std::int64_t id = std::int64_t{slice} * kSlice + t;
  const Fate fate = fate_of(a, id, floor, cut.key);
  const std::uint64_t tie = inclusive_scan(std::uint64_t{fate.at_cut ? 1U : 0U}) + ties_before;
  const bool stays = fate.survives || (fate.at_cut && tie <= ties.kept);
  const std::uint64_t own = stays ? a.weights[id] : 0;
  const std::uint64_t up_to = inclusive_scan(own);
  if (up_to - own <= target && target < up_to) finish(a, static_cast<std::uint32_t>(id));
}

constexpr std::int64_t rounded_up(std::int64_t bytes) { return (bytes + 15) / 16 * 16; }
std::int64_t slices_of(std::int64_t vocab) { return (vocab + kSlice - 1) / kSlice; }

bool valid(const SampleRule& rule, const SampleStep& step) {
  return step.vocab >= 1 && step.vocab <= kSampleMaxVocab && rule.temperature >= 0 &&
         rule.top_k >= 0 && rule.top_p >= 0 && rule.top_p <= 1 && rule.min_p >= 0 &&
         rule.min_p <= 1 && rule.repetition_penalty > 0 && step.logits != nullptr &&
         step.state != nullptr && step.workspace != nullptr && step.draws_made >= 0 &&
         reinterpret_cast<std::uintptr_t>(step.workspace) % 16 == 0;
}

void launch_draw(const Args& args, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(slices_of(args.step.vocab));
  weigh_kernel<<<grid, kSlice, 0, stream>>>(args);
  for (const Limit limit : {kTopK, kTopP}) {
    if (limit == kTopK ? args.rule.top_k == 0 : args.rule.top_p >= 1) continue;
    for (int pass = 0; pass < kPasses; ++pass) {
      select_kernel<<<grid, kSlice, 0, stream>>>(args, limit, pass);
    }
  }
  tally_kernel<<<grid, kSlice, 0, stream>>>(args);
  draw_kernel<<<1, kSlice, 0, stream>>>(args, static_cast<int>(grid));
}

}  // namespace

std::int64_t sample_workspace_bytes(std::int64_t vocab) {
  return rounded_up(sizeof(Totals)) + rounded_up(sizeof(Cut) * 2 * (kPasses + 1)) +
         slices_of(vocab) * static_cast<std::int64_t>(sizeof(Slice)) + rounded_up(vocab * 8) +
         rounded_up(vocab * 4);
}

cudaError_t sample_token(const SampleRule& rule, const SampleStep& step, cudaStream_t stream) {
  if (!valid(rule, step)) return cudaErrorInvalidValue;
  Args args{rule, step, nullptr, nullptr, nullptr, nullptr, nullptr};
  auto* place = static_cast<std::uint8_t*>(step.workspace);
  const auto take = [&place](auto*& pointer, std::int64_t bytes) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(place);
    place += rounded_up(bytes);
  };
  take(args.totals, sizeof(Totals));
  take(args.cuts, sizeof(Cut) * 2 * (kPasses + 1));
  take(args.slices, slices_of(step.vocab) * static_cast<std::int64_t>(sizeof(Slice)));
  take(args.weights, step.vocab * 8);
  take(args.keys, step.vocab * 4);

  cudaError_t error = cudaMemsetAsync(args.totals, 0, sizeof(Totals), stream);
  if (error != cudaSuccess) return error;
  score_kernel<<<static_cast<unsigned>(slices_of(step.vocab)), kSlice, 0, stream>>>(args);
  if (rule.temperature == 0) {
    best_kernel<<<1, 1, 0, stream>>>(args);
  } else {
    launch_draw(args, stream);
  }
  error = cudaGetLastError();
  if (error != cudaSuccess || step.host_state == nullptr) return error;
  return cudaMemcpyAsync(step.host_state, step.state, sizeof(SampleState), cudaMemcpyDeviceToHost,
                         stream);
}

}  // namespace qf::cuda
