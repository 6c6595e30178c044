#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/dat.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const qf::MemorySource source(std::as_bytes(std::span(data, size)));
  try {
    const qf::DatReader file(source);
    for (const qf::TensorInfo& entry : file.entries()) {
      std::vector<std::byte> payload(static_cast<std::size_t>(entry.bytes));
      file.read(entry, payload);
      if (file.find(entry.name) != &entry) __builtin_trap();
    }
  } catch (const qf::Error&) {
  }
  return 0;
}
