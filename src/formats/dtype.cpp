#include "qwen3fp4/formats/dtype.h"

namespace qf {
namespace {

struct DTypeFacts {
  DType type;
  std::int64_t bytes;
  std::string_view name;
};

constexpr DTypeFacts kFacts[] = {
    {DType::kU8, 1, "u8"},
    {DType::kI8, 1, "i8"},
    {DType::kI16, 2, "i16"},
    {DType::kI32, 4, "i32"},
    {DType::kI64, 8, "i64"},
    {DType::kF16, 2, "f16"},
    {DType::kF32, 4, "f32"},
    {DType::kF64, 8, "f64"},
    {DType::kC64, 8, "c64"},
    {DType::kC128, 16, "c128"},
    {DType::kBool, 1, "bool"},
    {DType::kBF16, 2, "bf16"},
    {DType::kF4E2M1x2, 1, "f4_e2m1x2"},
    {DType::kF8E4M3, 1, "f8_e4m3"},
};

constexpr const DTypeFacts* facts(std::uint64_t code) {
  for (const DTypeFacts& entry : kFacts) {
    if (static_cast<std::uint64_t>(entry.type) == code) return &entry;
  }
  return nullptr;
}

static_assert(facts(4711) == nullptr, "TorchSharp's 'unknown'");
static_assert(facts(8) == nullptr, "libtorch's complex of halves, which TorchSharp lacks");
static_assert(facts(9)->bytes == 8 && facts(10)->bytes == 16 && facts(11)->bytes == 1);
static_assert(facts(15)->bytes == 2 && facts(101)->bytes == 1);

}  // namespace

bool is_known_dtype(std::uint64_t code) { return facts(code) != nullptr; }

std::int64_t element_size(DType type) { return facts(static_cast<std::uint64_t>(type))->bytes; }

std::string_view dtype_name(DType type) { return facts(static_cast<std::uint64_t>(type))->name; }

}  // namespace qf
