#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

#include "inspect_dat.h"
#include "value_scan.h"

namespace qf {
namespace {

std::optional<at::ScalarType> float_scalar_type(DType type) {
  switch (type) {
    case DType::kF16:
      return at::kHalf;
    case DType::kF32:
      return at::kFloat;
    case DType::kF64:
      return at::kDouble;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF8E4M3:
      return at::kFloat8_e4m3fn;
    case DType::kU8:
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
    case DType::kC64:
    case DType::kC128:
    case DType::kBool:
    case DType::kF4E2M1x2:
      break;
  }
  return std::nullopt;
}

}  // namespace

InspectedTensor inspect_raw(const TensorInfo& entry, const PayloadReader& read) {
  InspectedTensor tensor{.name = entry.name,
                         .type = std::string(dtype_name(entry.type)),
                         .shape = entry.shape,
                         .bytes = entry.bytes,
                         .entries = {},
                         .flags = {}};
  const auto scalar_type = float_scalar_type(entry.type);
  if (!scalar_type) return tensor;
  constexpr std::int64_t kChunk = std::int64_t{1} << 20;  // values
  const auto total = element_count(entry.shape);
  const auto buffer = at::empty({std::min(total, kChunk)}, *scalar_type);
  ValueScan scan;
  for (std::int64_t first = 0; first < total; first += kChunk) {
    const auto piece = buffer.narrow(0, 0, std::min(kChunk, total - first));
    read({static_cast<std::byte*>(piece.data_ptr()), piece.nbytes()},
         first * element_size(entry.type));
    scan.add(piece);
  }
  tensor.amax = scan.amax();
  tensor.flags = scan.flags();
  return tensor;
}

}  // namespace qf
