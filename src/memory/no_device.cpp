#include "qwen3fp4/memory/gauges.h"

namespace qf {

std::unique_ptr<DeviceMemory> make_device_memory() { return nullptr; }

}  // namespace qf
