#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>

#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/run/inspect.h"

namespace qf {

// Fills the span with a tensor's payload bytes from the given one on.
using PayloadReader = std::function<void(std::span<std::byte>, std::int64_t)>;

// A tensor as it is stored; reads it in pieces when it has floats.
[[nodiscard]] InspectedTensor inspect_raw(const TensorInfo& entry, const PayloadReader& read);

// A state dict, packed weights recognised by their entries' names. Totals are left at 0.
[[nodiscard]] InspectReport inspect_dat(const std::filesystem::path& path);

}  // namespace qf
