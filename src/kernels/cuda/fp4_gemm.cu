#include <climits>

#include "qwen3fp4/kernels/cuda/fp4_gemm.h"

#if QF_HAVE_CUBLASLT
#include <cublasLt.h>

#include <map>
#include <tuple>
#endif

namespace qf::cuda {
namespace {

using Kind = Fp4GemmStatus::Kind;

constexpr int kThreads = 256;

__device__ void store(float value, float* y) { *y = value; }
__device__ void store(float value, __half* y) { *y = __float2half_rn(value); }
__device__ void store(float value, __nv_bfloat16* y) { *y = __float2bfloat16_rn(value); }

template <class T>
__global__ void scale_rows_kernel(RowScaling s, std::int64_t count, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) store(s.x[i] * s.row_scales[i / s.cols], y + i);
}

template <class T>
cudaError_t launch_scale_rows(const RowScaling& s, T* y, cudaStream_t stream) {
  const std::int64_t count = s.rows * s.cols;
  const std::int64_t grid = (count + kThreads - 1) / kThreads;
  if (s.rows <= 0 || s.cols <= 0 || grid > INT_MAX) return cudaErrorInvalidValue;
  scale_rows_kernel<<<static_cast<unsigned>(grid), kThreads, 0, stream>>>(s, count, y);
  return cudaGetLastError();
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

}  // namespace

cudaError_t scale_rows(const RowScaling& scaling, float* y, cudaStream_t stream) {
  return launch_scale_rows(scaling, y, stream);
}
cudaError_t scale_rows(const RowScaling& scaling, __half* y, cudaStream_t stream) {
  return launch_scale_rows(scaling, y, stream);
}
cudaError_t scale_rows(const RowScaling& scaling, __nv_bfloat16* y, cudaStream_t stream) {
  return launch_scale_rows(scaling, y, stream);
}

std::string message(const Fp4GemmStatus& status) {
  const std::string found = std::to_string(status.found);
  switch (status.kind) {
    case Kind::kDone:
      return "done";
    case Kind::kDeviceTooOld:
      return "w4a4 needs compute capability 10.0 or newer (FP4 tensor cores), found " +
             std::to_string(status.found / 10) + "." + std::to_string(status.found % 10);
    case Kind::kNotBuilt:
      return "w4a4 needs cuBLASLt, which this build did not find (cublasLt.h and its library)";
    case Kind::kShape:
      return "w4a4 needs in_features to be a multiple of 32 and out_features one of 8, found " +
             found;
    case Kind::kAlignment:
      return "w4a4 needs codes, scale tiles and results aligned to 16 bytes, found a pointer that "
             "is not";
    case Kind::kNoAlgorithm:
      return "cuBLASLt has no algorithm for this w4a4 product and workspace";
    case Kind::kCublas:
      return "cuBLASLt failed in a w4a4 product with cublasStatus_t " + found;
    case Kind::kCuda:
      return std::string("CUDA failed in a w4a4 product: ") +
             cudaGetErrorString(static_cast<cudaError_t>(status.found));
  }
  return "unknown";
}

Fp4GemmStatus fp4_gemm_supported(int major, int minor) {
  if (major < 10) return {Kind::kDeviceTooOld, 10 * major + minor};
#if QF_HAVE_CUBLASLT
  return {};
#else
  return {Kind::kNotBuilt, 0};
#endif
}

Fp4GemmStatus fp4_gemm_takes(const Fp4Product& p) {
  if (p.x.rows <= 0) return {Kind::kShape, p.x.rows};
  if (p.x.cols != p.w.cols || p.x.cols <= 0 || p.x.cols % 32 != 0) {
    return {Kind::kShape, p.x.cols};
  }
  if (p.w.rows <= 0 || p.w.rows % 8 != 0) return {Kind::kShape, p.w.rows};
  for (const auto* pointer : {p.x.codes, p.x.scale_tiles, p.w.codes, p.w.scale_tiles}) {
    if (!aligned(pointer)) return {Kind::kAlignment, 0};
  }
  return {};
}

#if QF_HAVE_CUBLASLT

namespace {

// What cuBLASLt hands out, destroyed when dropped.
template <class T, cublasStatus_t (*kDestroy)(T)>
struct Destroy {
  using pointer = T;
  void operator()(T handle) const { kDestroy(handle); }
};
template <class T, cublasStatus_t (*kDestroy)(T)>
using Owned = std::unique_ptr<T, Destroy<T, kDestroy>>;
using Handle = Owned<cublasLtHandle_t, cublasLtDestroy>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

// The first failure of a row of calls.
class Calls {
 public:
  void operator()(cublasStatus_t status) {
    if (status_.done() && status != CUBLAS_STATUS_SUCCESS) status_ = {Kind::kCublas, status};
  }
  const Fp4GemmStatus& status() const { return status_; }

 private:
  Fp4GemmStatus status_;
};

// cuBLASLt's matrices are column-major: row-major y [tokens, out] = x w^T is its m = out, n =
// tokens, k = in, with A = w (transposed) and B = x as they lie. Only this arrangement (TN) takes
// FP4.
struct Plan {
  Operation operation;
  Layout a, b, d;
  cublasLtMatmulAlgo_t algorithm{};

  template <class Value>
  cublasStatus_t set(cublasLtMatmulDescAttributes_t attribute, const Value& value) const {
    return cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof(value));
  }
  void set_scales(const Fp4Product& p, Calls& calls) const {
    const void* const a_scales = p.w.scale_tiles;
    const void* const b_scales = p.x.scale_tiles;
    calls(set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, a_scales));
    calls(set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, b_scales));
  }
};

Layout make_layout(cudaDataType_t type, std::int64_t rows, std::int64_t cols, Calls& calls) {
  cublasLtMatrixLayout_t layout = nullptr;
  calls(cublasLtMatrixLayoutCreate(&layout, type, static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(cols), rows));
  return Layout(layout);
}

void pick_algorithm(cublasLtHandle_t handle, Plan& plan, std::int64_t workspace_size,
                    Fp4GemmStatus& status) {
  Calls calls;
  cublasLtMatmulPreference_t created = nullptr;
  calls(cublasLtMatmulPreferenceCreate(&created));
  const Preference preference(created);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    calls(cublasLtMatmulPreferenceSetAttribute(created, attribute, &value, sizeof(value)));
  };
  if (calls.status().done()) {
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace_size));
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      set(attribute, std::uint32_t{16});
    }
  }
  status = calls.status();
  if (!status.done()) return;
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t answer =
      cublasLtMatmulAlgoGetHeuristic(handle, plan.operation.get(), plan.a.get(), plan.b.get(),
                                     plan.d.get(), plan.d.get(), created, 1, &result, &found);
  if (answer == CUBLAS_STATUS_NOT_SUPPORTED || (answer == CUBLAS_STATUS_SUCCESS && found == 0)) {
    status = {Kind::kNoAlgorithm, 0};
  } else if (answer != CUBLAS_STATUS_SUCCESS) {
    status = {Kind::kCublas, answer};
  }
  plan.algorithm = result.algo;
}

Plan make_plan(cublasLtHandle_t handle, const Fp4Product& p, cudaDataType_t y_type,
               std::int64_t workspace_size, Fp4GemmStatus& status) {
  Plan plan;
  Calls calls;
  cublasLtMatmulDesc_t operation = nullptr;
  calls(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  plan.operation.reset(operation);
  if (calls.status().done()) {
    calls(plan.set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T));
    calls(plan.set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N));
    calls(plan.set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_VEC16_UE4M3));
    calls(plan.set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_VEC16_UE4M3));
    plan.set_scales(p, calls);
  }
  plan.a = make_layout(CUDA_R_4F_E2M1, p.w.cols, p.w.rows, calls);
  plan.b = make_layout(CUDA_R_4F_E2M1, p.x.cols, p.x.rows, calls);
  plan.d = make_layout(y_type, p.w.rows, p.x.rows, calls);
  status = calls.status();
  if (status.done()) pick_algorithm(handle, plan, workspace_size, status);
  return plan;
}

}  // namespace

struct Fp4Gemm::Plans {
  // tokens, out_features, in_features, type of y, bytes of workspace
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, cudaDataType_t, std::int64_t>;
  Handle handle;
  std::map<Key, Plan> of_shape;

  Fp4GemmStatus run(const Fp4Product& p, void* y, cudaDataType_t y_type, const Workspace& workspace,
                    cudaStream_t stream) {
    Fp4GemmStatus status = fp4_gemm_takes(p);
    if (!status.done()) return status;
    if (!aligned(y)) return {Kind::kAlignment, 0};
    const Key key{p.x.rows, p.w.rows, p.w.cols, y_type, workspace.size};
    auto found = of_shape.find(key);
    if (found == of_shape.end()) {
      Plan plan = make_plan(handle.get(), p, y_type, workspace.size, status);
      if (!status.done()) return status;
      found = of_shape.emplace(key, std::move(plan)).first;
    }
    const Plan& plan = found->second;
    Calls calls;
    plan.set_scales(p, calls);
    if (!calls.status().done()) return calls.status();
    const float beta = 0;
    calls(cublasLtMatmul(handle.get(), plan.operation.get(), &p.alpha, p.w.codes, plan.a.get(),
                         p.x.codes, plan.b.get(), &beta, y, plan.d.get(), y, plan.d.get(),
                         &plan.algorithm, workspace.bytes, static_cast<std::size_t>(workspace.size),
                         stream));
    return calls.status();
  }
};

#else

struct Fp4Gemm::Plans {
  Fp4GemmStatus run(const Fp4Product&, void*, cudaDataType_t, const Workspace&, cudaStream_t) {
    return {Kind::kNotBuilt, 0};
  }
};

#endif

Fp4Gemm::Fp4Gemm() = default;
Fp4Gemm::~Fp4Gemm() = default;

Fp4GemmStatus Fp4Gemm::open() {
  if (plans_ != nullptr) return {};
  int device = 0, major = 0, minor = 0;
  for (const cudaError_t error :
       {cudaGetDevice(&device),
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device)}) {
    if (error != cudaSuccess) return {Kind::kCuda, error};
  }
  const Fp4GemmStatus status = fp4_gemm_supported(major, minor);
#if QF_HAVE_CUBLASLT
  if (status.done()) {
    cublasLtHandle_t handle = nullptr;
    Calls calls;
    calls(cublasLtCreate(&handle));
    if (!calls.status().done()) return calls.status();
    plans_ = std::make_unique<Plans>();
    plans_->handle.reset(handle);
  }
#endif
  return status;
}

Fp4GemmStatus Fp4Gemm::run(const Fp4Product& product, __nv_bfloat16* y, const Workspace& workspace,
                           cudaStream_t stream) {
  const Fp4GemmStatus status = open();
  return status.done() ? plans_->run(product, y, CUDA_R_16BF, workspace, stream) : status;
}
Fp4GemmStatus Fp4Gemm::run(const Fp4Product& product, float* y, const Workspace& workspace,
                           cudaStream_t stream) {
  const Fp4GemmStatus status = open();
  return status.done() ? plans_->run(product, y, CUDA_R_32F, workspace, stream) : status;
}

}  // namespace qf::cuda
