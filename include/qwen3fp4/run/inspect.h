#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace qf {

// One tensor of a file, or one packed weight made of several entries.
struct InspectedTensor {
  std::string name;
  std::string type;                  // "bf16", "Q4_1"; a packed weight: "nvfp4", "nf4"
  std::vector<std::int64_t> shape;   // of the values: [out, in] for a packed weight, where known
  std::int64_t bytes = 0;            // of all its entries
  std::vector<std::string> entries;  // a packed weight's entries in the file; else empty
  std::optional<double> amax =
      std::nullopt;  // largest finite |value| (dequantised); none: no floats, or empty
  std::vector<std::string> flags;  // what is wrong, in words; empty: nothing
};

struct InspectReport {
  std::string path;
  std::string format;  // "dat", "safetensors", "gguf"
  std::vector<InspectedTensor> tensors;
  std::int64_t entries = 0;  // in the file; packed weights have several
  std::int64_t bytes = 0;    // of all payloads
  std::int64_t flagged = 0;  // tensors with flags
};

// Any TorchSharp state dict (.dat), safetensors file or GGUF file, recognised by content; or a
// folder: its checkpoint (model.safetensors, whole or sharded) and each .dat and .gguf in it.
// Payloads are read one tensor at a time. Unreadable files are refused with one sentence.
[[nodiscard]] std::vector<InspectReport> inspect(const std::filesystem::path& path);

}  // namespace qf
