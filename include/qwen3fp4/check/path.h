#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/backend/emulated.h"

namespace qf {

// kWhole: the prompt in one piece. kToken: token by token on the KV cache. kHalf: half of it in one
// piece, the rest token by token, as generate runs a prompt and an answer. kReplay: without a
// cache, each token computed by running everything up to it.
enum class Schedule { kWhole, kToken, kHalf, kReplay };

// kNone: inference. kOn: training's forward pass, whose straight-through estimator reads the
// dequantised codes. kOff: the same pass without it, on the weights before they were quantised
// (AbSide::model is then one with its masters).
enum class Ste { kNone, kOn, kOff };

// One way to compute the same thing: what `ab-check` compares.
struct PathSpec {
  std::string backend{default_backend_name()};
  Schedule schedule = Schedule::kWhole;
  ComputeDtype dtype = ComputeDtype::kF32;
  LinearMode linear = LinearMode::kW4A16;
  Ste ste = Ste::kNone;
  [[nodiscard]] bool trains() const { return ste != Ste::kNone; }
  friend bool operator==(const PathSpec&, const PathSpec&) = default;
};

// "cpu", "reference,prefill=token", "cpu,cache=off,dtype=bf16,linear=w4a4",
// "cpu,ste=on,dtype=bf16". Throws (exit code 2), listing what there is; `flag` is what the error
// names.
[[nodiscard]] PathSpec parse_path(std::string_view text, std::string_view flag);
// The text that parse_path() takes.
[[nodiscard]] std::string path_text(const PathSpec& path);
// Every path that this build has on this machine; of training's those with ste=on.
[[nodiscard]] std::vector<PathSpec> shipped_paths();
// For tensors in main memory. Of a path of training: its device's own backend, in fp32.
[[nodiscard]] std::unique_ptr<Backend> make_backend(const PathSpec& path);

}  // namespace qf
