#pragma once

#include <cstdint>

namespace qf {

// What Backend::measure_read_bandwidth() holds meanwhile. On a CPU four times the last-level cache,
// of which little then survives a pass.
[[nodiscard]] std::int64_t bandwidth_buffer_bytes(bool on_device);

}  // namespace qf
