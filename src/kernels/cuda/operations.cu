#include <climits>
#include <cstdint>
#include <type_traits>

#include "narrow.cuh"
#include "qwen3fp4/kernels/cuda/operations.h"

namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

__device__ float squared(const float4& v, float sum) {
  return fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, sum))));
}
__device__ float4 scaled(const float4& v, float factor, const float4& weight) {
  return make_float4(v.x * factor * weight.x, v.y * factor * weight.y, v.z * factor * weight.z,
                     v.w * factor * weight.w);
}

__device__ float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, offset);
  }
  return value;
}

__device__ float block_sum(float value) {
  __shared__ float of_warp[kWarps];
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += of_warp[warp];
  return sum;
}

// A row a block; cols a multiple of 4.
template <class In, class Out>
__global__ void rms_norm_kernel(const In* x, const float* weight, float eps, std::int64_t cols,
                                Out* y) {
  const std::int64_t row = std::int64_t{blockIdx.x} * cols;
  float squares = 0;
  for (std::int64_t c = 4 * threadIdx.x; c < cols; c += 4 * kThreads) {
    squares = squared(load4(x + row + c), squares);
  }
  const float mean = block_sum(squares) / static_cast<float>(cols);
  const float factor = 1.0F / sqrtf(mean + eps);
  for (std::int64_t c = 4 * threadIdx.x; c < cols; c += 4 * kThreads) {
    store4(y + row + c, scaled(load4(x + row + c), factor, load4(weight + c)));
  }
}

__device__ float4 sum_of(const float4& a, const float4& b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

template <class In, class T>
__global__ void add_norm_kernel(AddedNorm<In, T> norm, int cols) {
  const std::int64_t row = std::int64_t{blockIdx.x} * cols;
  // A thread reads again what it has written itself.
  float squares = 0;
  for (int c = 4 * static_cast<int>(threadIdx.x); c < cols; c += 4 * kThreads) {
    float4 h = load4(norm.x + row + c);
    if (norm.added != nullptr) {
      h = sum_of(h, load4(norm.added + row + c));
      store4(norm.h + row + c, h);
    }
    squares = squared(h, squares);
  }
  const float factor = 1.0F / sqrtf(block_sum(squares) / static_cast<float>(cols) + norm.eps);
  if (threadIdx.x == 0) norm.rstd[blockIdx.x] = factor;
  for (int c = 4 * static_cast<int>(threadIdx.x); c < cols; c += 4 * kThreads) {
    const float4 h = norm.added != nullptr ? load4(norm.h + row + c) : load4(norm.x + row + c);
    store4(norm.y + row + c, scaled(h, factor, load4(norm.weight + c)));
  }
}

__device__ float4 product_of(const float4& a, const float4& b) {
  return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}

// With n = h rstd and g = dy weight: dx = residual + rstd (g - n mean(g n)), dweight = sum dy n.
// Rows of a block add up its part of dweight in shared memory, a column always in the same thread.
template <class In, class T>
__global__ void norm_backward_kernel(NormGradient<In, T> gradient, std::int64_t rows, int cols) {
  extern __shared__ float4 dweight[];
  const int first = static_cast<int>(threadIdx.x);
  const int quads = cols / 4;
  for (int i = first; i < quads; i += kThreads) dweight[i] = make_float4(0, 0, 0, 0);
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const std::int64_t at = row * cols;
    const float rstd = gradient.rstd[row];
    float products = 0;
    for (int i = first; i < quads; i += kThreads) {
      const float4 h = load4(gradient.h + at + 4 * i);
      const float4 dy = load4(gradient.dy + at + 4 * i);
      const float4 dyn = scaled(product_of(dy, h), rstd, make_float4(1, 1, 1, 1));
      dweight[i] = sum_of(dweight[i], dyn);
      const float4 gn = product_of(dyn, load4(gradient.weight + 4 * i));
      products += gn.x + gn.y + gn.z + gn.w;
    }
    const float mean = block_sum(products) / static_cast<float>(cols);
    for (int i = first; i < quads; i += kThreads) {
      const float4 h = load4(gradient.h + at + 4 * i);
      const float4 g = product_of(load4(gradient.dy + at + 4 * i), load4(gradient.weight + 4 * i));
      const float4 residual = load4(gradient.residual + at + 4 * i);
      const auto dx = [&](float g_i, float h_i, float residual_i) {
        return fmaf(rstd, fmaf(-h_i * rstd, mean, g_i), residual_i);
      };
      const float4 out = make_float4(dx(g.x, h.x, residual.x), dx(g.y, h.y, residual.y),
                                     dx(g.z, h.z, residual.z), dx(g.w, h.w, residual.w));
      store4(gradient.dx + at + 4 * i, out);
      store4(gradient.narrow + at + 4 * i, out);
    }
    __syncthreads();  // block_sum()'s memory is used again
  }
  float4* const parts =
      reinterpret_cast<float4*>(gradient.dweight_parts) + std::int64_t{blockIdx.x} * quads;
  for (int i = first; i < quads; i += kThreads) parts[i] = dweight[i];
}

// Heads: kHeads rows of up to 128 columns a warp, all read before the first is written.
constexpr int kHeads = 4;
template <class In, class Out>
__global__ void rms_norm_heads_kernel(const In* x, const float* weight, float eps,
                                      std::int64_t rows, int cols, Out* y) {
  const std::int64_t first = (std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32) * kHeads;
  const int column = 4 * static_cast<int>(threadIdx.x % 32);
  const bool mine = column < cols;
  const float4 zero = make_float4(0, 0, 0, 0);
  const float4 w = mine ? load4(weight + column) : zero;
  float4 values[kHeads];
#pragma unroll
  for (int i = 0; i < kHeads; ++i) {
    const bool there = mine && first + i < rows;
    values[i] = there ? load4(x + (first + i) * cols + column) : zero;
  }
#pragma unroll
  for (int i = 0; i < kHeads; ++i) {
    const float mean = warp_sum(squared(values[i], 0)) / static_cast<float>(cols);
    const float factor = 1.0F / sqrtf(mean + eps);
    if (mine && first + i < rows) {
      store4(y + (first + i) * cols + column, scaled(values[i], factor, w));
    }
  }
}

// A row a warp, a value at a time: for columns that are no multiple of 4.
template <class In, class Out>
__global__ void rms_norm_odd_kernel(const In* x, const float* weight, float eps, std::int64_t rows,
                                    std::int64_t cols, Out* y) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= rows) return;
  x += row * cols;
  y += row * cols;
  float squares = 0;
  for (std::int64_t c = threadIdx.x % 32; c < cols; c += 32) {
    squares = fmaf(load(x + c), load(x + c), squares);
  }
  const float factor = 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(cols) + eps);
  for (std::int64_t c = threadIdx.x % 32; c < cols; c += 32) {
    store(y + c, load(x + c) * factor * weight[c]);
  }
}

// A pair of features a thread; a block of the grid a token.
template <class T>
__global__ void rope_kernel(const T* x, const float* cos, const float* sin, int heads, int half,
                            T* y) {
  const std::int64_t token = blockIdx.x;
  const float* const c = cos + token * 2 * half;
  const float* const s = sin + token * 2 * half;
  for (int pair = static_cast<int>(threadIdx.x); pair < heads * half; pair += kThreads) {
    const int feature = pair % half;
    const std::int64_t at = (token * heads + pair / half) * 2 * half + feature;
    const float first = load(x + at);
    const float second = load(x + at + half);
    store(y + at, first * c[feature] + -second * s[feature]);
    store(y + at + half, second * c[feature + half] + first * s[feature + half]);
  }
}

__device__ float4 turned(const float4& x, const float4& other, const float4& c, const float4& s) {
  return make_float4(x.x * c.x + other.x * s.x, x.y * c.y + other.y * s.y,
                     x.z * c.z + other.z * s.z, x.w * c.w + other.w * s.w);
}

// The same, four pairs a thread; half a multiple of 4.
template <class T>
__global__ void rope_quads_kernel(const T* x, const float* cos, const float* sin, int heads,
                                  int half, T* y) {
  const std::int64_t token = blockIdx.x;
  const float* const c = cos + token * 2 * half;
  const float* const s = sin + token * 2 * half;
  const int quads = half / 4;
  for (int quad = static_cast<int>(threadIdx.x); quad < heads * quads; quad += kThreads) {
    const int feature = quad % quads * 4;
    const std::int64_t at = (token * heads + quad / quads) * 2 * half + feature;
    const float4 first = load4(x + at);
    const float4 second = load4(x + at + half);
    const float4 minus = make_float4(-second.x, -second.y, -second.z, -second.w);
    store4(y + at, turned(first, minus, load4(c + feature), load4(s + feature)));
    store4(y + at + half,
           turned(second, first, load4(c + feature + half), load4(s + feature + half)));
  }
}

// Four values a thread where whole quads lie there, the rest by the last threads.
template <class A, class B, class Out, class Operation>
__global__ void elementwise_kernel(const A* a, const B* b, std::int64_t count, Out* y,
                                   Operation operation) {
  const std::int64_t quads = count / 4;
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < quads) {
    const float4 u = load4(a + 4 * i);
    const float4 v = load4(b + 4 * i);
    store4(y + 4 * i, make_float4(operation(u.x, v.x), operation(u.y, v.y), operation(u.z, v.z),
                                  operation(u.w, v.w)));
  } else if (i < quads + count % 4) {
    const std::int64_t at = 4 * quads + (i - quads);
    store(y + at, operation(load(a + at), load(b + at)));
  }
}

struct Gated {
  __device__ float operator()(float gate, float up) const {
    return gate / (1.0F + expf(-gate)) * up;
  }
};
struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

template <class T>
__global__ void swiglu_backward_kernel(SwigluOperands<T> in, std::int64_t count, T* dgate, T* dup) {
  const auto of_gate = [](float gate, float up, float dy) {
    const float sigmoid = 1.0F / (1.0F + expf(-gate));
    return dy * up * sigmoid * (1.0F + gate * (1.0F - sigmoid));
  };
  const auto of_up = [](float gate, float dy) { return dy * (gate / (1.0F + expf(-gate))); };
  const std::int64_t quads = count / 4;
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < quads) {
    const float4 g = load4(in.gate + 4 * i);
    const float4 u = load4(in.up + 4 * i);
    const float4 d = load4(in.dy + 4 * i);
    store4(dgate + 4 * i, make_float4(of_gate(g.x, u.x, d.x), of_gate(g.y, u.y, d.y),
                                      of_gate(g.z, u.z, d.z), of_gate(g.w, u.w, d.w)));
    store4(dup + 4 * i,
           make_float4(of_up(g.x, d.x), of_up(g.y, d.y), of_up(g.z, d.z), of_up(g.w, d.w)));
  } else if (i < quads + count % 4) {
    const std::int64_t at = 4 * quads + (i - quads);
    const float gate = load(in.gate + at);
    const float dy = load(in.dy + at);
    store(dgate + at, of_gate(gate, load(in.up + at), dy));
    store(dup + at, of_up(gate, dy));
  }
}

// ---- Heads with their norm and RoPE: a warp a head; a lane has kEach neighbours of its first half
// and those that they turn with ----

template <int kEach>
__device__ void load_each(const float* x, float (&v)[kEach]) {
#pragma unroll
  for (int i = 0; i < kEach; ++i) v[i] = x[i];
}
template <int kEach>
__device__ void load_each(const __nv_bfloat16* x, float (&v)[kEach]) {
  if constexpr (kEach == 1) {
    v[0] = load(x);
  } else {
#pragma unroll
    for (int i = 0; i < kEach; i += 2) {
      const unsigned word = *reinterpret_cast<const unsigned*>(x + i);
      v[i] = __uint_as_float(word << 16);
      v[i + 1] = __uint_as_float(word & 0xFFFF0000U);
    }
  }
}
template <int kEach>
__device__ void store_each(const float (&v)[kEach], __nv_bfloat16* y) {
  if constexpr (kEach == 1) {
    store(y, v[0]);
  } else {
#pragma unroll
    for (int i = 0; i < kEach; i += 2) {
      *reinterpret_cast<__nv_bfloat162*>(y + i) = __floats2bfloat162_rn(v[i], v[i + 1]);
    }
  }
}

// Both halves of a lane's part of a row.
template <int kEach>
struct Halves {
  float low[kEach], high[kEach];
  template <class T>
  __device__ void load(const T* row) {
    const int first = static_cast<int>(threadIdx.x % 32) * kEach;
    load_each(row + first, low);
    load_each(row + 32 * kEach + first, high);
  }
  template <class T>
  __device__ void store(T* row) const {
    const int first = static_cast<int>(threadIdx.x % 32) * kEach;
    store_each(low, row + first);
    store_each(high, row + 32 * kEach + first);
  }
};

template <int kEach, class T>
__global__ void __launch_bounds__(kThreads)
    rotate_heads_kernel(const T* x, RotationTables tables, float eps, int heads, std::int64_t rows,
                        T* y, float* rstd) {
  constexpr int kWidth = 64 * kEach;
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= rows) return;
  const std::int64_t token = row / heads;
  Halves<kEach> v, weight, cos, sin;
  v.load(x + row * kWidth);
  cos.load(tables.cos + token * kWidth);
  sin.load(tables.sin + token * kWidth);
  if (tables.weight != nullptr) {
    weight.load(tables.weight);
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      squares = fmaf(v.low[i], v.low[i], fmaf(v.high[i], v.high[i], squares));
    }
    const float factor = 1.0F / sqrtf(warp_sum(squares) / kWidth + eps);
    if (threadIdx.x % 32 == 0) rstd[row] = factor;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      v.low[i] *= factor * weight.low[i];
      v.high[i] *= factor * weight.high[i];
    }
  }
  Halves<kEach> turned;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    turned.low[i] = fmaf(v.low[i], cos.low[i], -(v.high[i] * sin.low[i]));
    turned.high[i] = fmaf(v.high[i], cos.high[i], v.low[i] * sin.high[i]);
  }
  turned.store(y + row * kWidth);
}

template <int kEach, class T>
__global__ void __launch_bounds__(kThreads)
    rotate_heads_backward_kernel(RotationGradient<T> gradient, RotationTables tables, int heads,
                                 std::int64_t rows) {
  constexpr int kWidth = 64 * kEach;
  __shared__ float of_warp[kWarps][kWidth];
  const int warp = static_cast<int>(threadIdx.x / 32);
  const bool normed = tables.weight != nullptr;
  Halves<kEach> weight, dweight{};
  if (normed) weight.load(tables.weight);
  for (std::int64_t row = std::int64_t{blockIdx.x} * kWarps + warp; row < rows;
       row += std::int64_t{gridDim.x} * kWarps) {
    const std::int64_t token = row / heads;
    Halves<kEach> dy, cos, sin, d;
    dy.load(gradient.dy + row * kWidth);
    cos.load(tables.cos + token * kWidth);
    sin.load(tables.sin + token * kWidth);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      d.low[i] = fmaf(dy.low[i], cos.low[i], dy.high[i] * sin.high[i]);
      d.high[i] = fmaf(dy.high[i], cos.high[i], -(dy.low[i] * sin.low[i]));
    }
    if (normed) {
      // With n = x rstd and g = d weight: dx = rstd (g - n mean(g n)), dweight = sum d n.
      Halves<kEach> n;
      n.load(gradient.x + row * kWidth);
      const float rstd = gradient.rstd[row];
      float products = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        n.low[i] *= rstd;
        n.high[i] *= rstd;
        dweight.low[i] = fmaf(d.low[i], n.low[i], dweight.low[i]);
        dweight.high[i] = fmaf(d.high[i], n.high[i], dweight.high[i]);
        d.low[i] *= weight.low[i];
        d.high[i] *= weight.high[i];
        products = fmaf(d.low[i], n.low[i], fmaf(d.high[i], n.high[i], products));
      }
      const float mean = warp_sum(products) / kWidth;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        d.low[i] = rstd * fmaf(-n.low[i], mean, d.low[i]);
        d.high[i] = rstd * fmaf(-n.high[i], mean, d.high[i]);
      }
    }
    d.store(gradient.dx + row * kWidth);
  }
  if (!normed) return;
  const int first = static_cast<int>(threadIdx.x % 32) * kEach;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    of_warp[warp][first + i] = dweight.low[i];
    of_warp[warp][32 * kEach + first + i] = dweight.high[i];
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kWidth; i += kThreads) {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += of_warp[w][i];
    gradient.dweight_parts[blockIdx.x * kWidth + i] = sum;
  }
}

// run(the number of neighbours a lane has, as a constant); refuses other widths.
template <class Run>
cudaError_t by_width(std::int64_t width, const Run& run) {
  if (width == 64) return run(std::integral_constant<int, 1>());
  if (width == 128) return run(std::integral_constant<int, 2>());
  if (width == 256) return run(std::integral_constant<int, 4>());
  return cudaErrorInvalidValue;
}

bool misaligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0; }

// Thread blocks for `count` threads, or 0 when they do not fit into a grid.
unsigned grid_for(std::int64_t count) {
  const std::int64_t grid = (count + kThreads - 1) / kThreads;
  return count <= 0 || grid > INT_MAX ? 0 : static_cast<unsigned>(grid);
}

}  // namespace

template <class In, class T>
cudaError_t rms_norm(const In* x, const float* weight, float eps, const NormShape& shape, T* y,
                     cudaStream_t stream) {
  const auto [rows, cols] = shape;
  if (rows <= 0 || rows > INT_MAX || cols <= 0) return cudaErrorInvalidValue;
  constexpr std::int64_t kHeadCols = 128;
  if (cols % 4 != 0 || misaligned(x) || misaligned(y) || misaligned(weight)) {
    const auto grid = static_cast<unsigned>((rows + kWarps - 1) / kWarps);
    rms_norm_odd_kernel<<<grid, kThreads, 0, stream>>>(x, weight, eps, rows, cols, y);
  } else if (cols <= kHeadCols) {
    constexpr int kBlockRows = kWarps * kHeads;
    const auto grid = static_cast<unsigned>((rows + kBlockRows - 1) / kBlockRows);
    rms_norm_heads_kernel<<<grid, kThreads, 0, stream>>>(x, weight, eps, rows,
                                                         static_cast<int>(cols), y);
  } else {
    rms_norm_kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(x, weight, eps, cols, y);
  }
  return cudaGetLastError();
}

template <class In, class T>
cudaError_t add_norm(const AddedNorm<In, T>& norm, const NormShape& shape, cudaStream_t stream) {
  const auto [rows, cols] = shape;
  if (rows <= 0 || rows > INT_MAX || cols <= 0 || cols % 4 != 0 || cols > kMostNormCols ||
      misaligned(norm.x) || misaligned(norm.added) || misaligned(norm.weight) ||
      misaligned(norm.y) || (norm.added != nullptr && (norm.h == nullptr || misaligned(norm.h)))) {
    return cudaErrorInvalidValue;
  }
  add_norm_kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(norm,
                                                                        static_cast<int>(cols));
  return cudaGetLastError();
}

template <class In, class T>
cudaError_t norm_backward(const NormGradient<In, T>& gradient, const NormShape& shape,
                          cudaStream_t stream) {
  const auto [rows, cols] = shape;
  if (rows <= 0 || cols <= 0 || cols % 4 != 0 || cols > kMostNormCols || misaligned(gradient.dy) ||
      misaligned(gradient.h) || misaligned(gradient.weight) || misaligned(gradient.residual) ||
      misaligned(gradient.dx) || misaligned(gradient.narrow) ||
      misaligned(gradient.dweight_parts)) {
    return cudaErrorInvalidValue;
  }
  // What every block may have without asking for more.
  static_assert(kMostNormCols * sizeof(float) <= 48 * 1024 - 64);
  norm_backward_kernel<<<kNormParts, kThreads, static_cast<std::size_t>(cols) * sizeof(float),
                         stream>>>(gradient, rows, static_cast<int>(cols));
  return cudaGetLastError();
}

template <class T>
cudaError_t apply_rope(const T* x, const float* cos, const float* sin, const RopeShape& shape, T* y,
                       cudaStream_t stream) {
  if (shape.tokens <= 0 || shape.tokens > INT_MAX || shape.heads <= 0 || shape.head_dim <= 0 ||
      shape.head_dim % 2 != 0 || shape.heads > INT_MAX / shape.head_dim) {
    return cudaErrorInvalidValue;
  }
  const auto grid = static_cast<unsigned>(shape.tokens);
  const auto heads = static_cast<int>(shape.heads);
  const auto half = static_cast<int>(shape.head_dim / 2);
  if (half % 4 != 0 || misaligned(x) || misaligned(y) || misaligned(cos) || misaligned(sin)) {
    rope_kernel<<<grid, kThreads, 0, stream>>>(x, cos, sin, heads, half, y);
  } else {
    rope_quads_kernel<<<grid, kThreads, 0, stream>>>(x, cos, sin, heads, half, y);
  }
  return cudaGetLastError();
}

template <class T>
cudaError_t swiglu(const T* gate, const T* up, std::int64_t count, T* y, cudaStream_t stream) {
  const unsigned grid = grid_for(count / 4 + count % 4);
  if (grid == 0 || misaligned(gate) || misaligned(up) || misaligned(y)) {
    return cudaErrorInvalidValue;
  }
  elementwise_kernel<<<grid, kThreads, 0, stream>>>(gate, up, count, y, Gated{});
  return cudaGetLastError();
}

template <class T>
cudaError_t swiglu_backward(const SwigluOperands<T>& in, std::int64_t count, T* dgate, T* dup,
                            cudaStream_t stream) {
  const unsigned grid = grid_for(count / 4 + count % 4);
  if (grid == 0 || misaligned(in.gate) || misaligned(in.up) || misaligned(in.dy) ||
      misaligned(dgate) || misaligned(dup)) {
    return cudaErrorInvalidValue;
  }
  swiglu_backward_kernel<<<grid, kThreads, 0, stream>>>(in, count, dgate, dup);
  return cudaGetLastError();
}

template <class T>
cudaError_t rotate_heads(const T* x, const RotationTables& tables, float eps,
                         const RopeShape& shape, T* y, float* rstd, cudaStream_t stream) {
  const std::int64_t rows = shape.tokens * shape.heads;
  const unsigned grid = grid_for(rows * 32);
  if (grid == 0 || shape.heads > INT_MAX || misaligned(x) || misaligned(y)) {
    return cudaErrorInvalidValue;
  }
  return by_width(shape.head_dim, [&](auto each) {
    rotate_heads_kernel<each.value><<<grid, kThreads, 0, stream>>>(
        x, tables, eps, static_cast<int>(shape.heads), rows, y, rstd);
    return cudaGetLastError();
  });
}

template <class T>
cudaError_t rotate_heads_backward(const RotationGradient<T>& gradient, const RotationTables& tables,
                                  const RopeShape& shape, cudaStream_t stream) {
  const std::int64_t rows = shape.tokens * shape.heads;
  if (rows <= 0 || shape.heads > INT_MAX || misaligned(gradient.dy) || misaligned(gradient.x) ||
      misaligned(gradient.dx)) {
    return cudaErrorInvalidValue;
  }
  return by_width(shape.head_dim, [&](auto each) {
    rotate_heads_backward_kernel<each.value><<<kRotationParts, kThreads, 0, stream>>>(
        gradient, tables, static_cast<int>(shape.heads), rows);
    return cudaGetLastError();
  });
}

template <class T>
cudaError_t add(const float* a, const T* b, std::int64_t count, float* y, cudaStream_t stream) {
  const unsigned grid = grid_for(count / 4 + count % 4);
  if (grid == 0 || misaligned(a) || misaligned(b) || misaligned(y)) return cudaErrorInvalidValue;
  elementwise_kernel<<<grid, kThreads, 0, stream>>>(a, b, count, y, Sum{});
  return cudaGetLastError();
}

#define QF_INSTANTIATE_NORM(In, T) \
  template cudaError_t rms_norm(const In*, const float*, float, const NormShape&, T*, cudaStream_t)
#define QF_INSTANTIATE(T)                                                                     \
  template cudaError_t apply_rope(const T*, const float*, const float*, const RopeShape&, T*, \
                                  cudaStream_t);                                              \
  template cudaError_t swiglu(const T*, const T*, std::int64_t, T*, cudaStream_t);            \
  template cudaError_t swiglu_backward(const SwigluOperands<T>&, std::int64_t, T*, T*,        \
                                       cudaStream_t);                                         \
  template cudaError_t add(const float*, const T*, std::int64_t, float*, cudaStream_t)
QF_INSTANTIATE_NORM(float, float);
QF_INSTANTIATE_NORM(float, __half);
QF_INSTANTIATE_NORM(float, __nv_bfloat16);
QF_INSTANTIATE_NORM(__half, __half);
QF_INSTANTIATE_NORM(__nv_bfloat16, __nv_bfloat16);
QF_INSTANTIATE(float);
QF_INSTANTIATE(__half);
QF_INSTANTIATE(__nv_bfloat16);
#define QF_INSTANTIATE_TRAINING_NORM(In)                                                       \
  template cudaError_t add_norm(const AddedNorm<In, __nv_bfloat16>&, const NormShape&,         \
                                cudaStream_t);                                                 \
  template cudaError_t norm_backward(const NormGradient<In, __nv_bfloat16>&, const NormShape&, \
                                     cudaStream_t)
QF_INSTANTIATE_TRAINING_NORM(float);
QF_INSTANTIATE_TRAINING_NORM(__nv_bfloat16);
template cudaError_t rotate_heads(const __nv_bfloat16*, const RotationTables&, float,
                                  const RopeShape&, __nv_bfloat16*, float*, cudaStream_t);
template cudaError_t rotate_heads_backward(const RotationGradient<__nv_bfloat16>&,
                                           const RotationTables&, const RopeShape&, cudaStream_t);
#undef QF_INSTANTIATE_NORM
#undef QF_INSTANTIATE_TRAINING_NORM
#undef QF_INSTANTIATE

}  // namespace qf::cuda
