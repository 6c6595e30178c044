#include "qwen3fp4/check/path.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include "qwen3fp4/backend/hosted.h"
#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

constexpr std::string_view kGrammar =
    "BACKEND[,prefill=whole|token|half][,cache=on|off][,dtype=fp32|fp16|bf16][,linear=w4a16|w4a4]"
    " or BACKEND,ste=on|off[,dtype=fp32|bf16]";

bool apply_setting(PathSpec& path, std::string_view setting) {
  if (setting == "prefill=whole") {
    path.schedule = Schedule::kWhole;
  } else if (setting == "prefill=token") {
    path.schedule = Schedule::kToken;
  } else if (setting == "prefill=half") {
    path.schedule = Schedule::kHalf;
  } else if (setting == "cache=off") {
    path.schedule = Schedule::kReplay;
  } else if (setting == "dtype=fp32") {
    path.dtype = ComputeDtype::kF32;
  } else if (setting == "dtype=fp16") {
    path.dtype = ComputeDtype::kF16;
  } else if (setting == "dtype=bf16") {
    path.dtype = ComputeDtype::kBF16;
  } else if (setting == "linear=w4a16") {
    path.linear = LinearMode::kW4A16;
  } else if (setting == "linear=w4a4") {
    path.linear = LinearMode::kW4A4;
  } else if (setting == "ste=on") {
    path.ste = Ste::kOn;
  } else if (setting == "ste=off") {
    path.ste = Ste::kOff;
  } else {
    return setting == "cache=on";
  }
  return true;
}

// Training takes whole sequences, without a cache, in fp32 or bf16.
void check_training(const PathSpec& path, const std::set<std::string_view>& given,
                    std::string_view flag) {
  for (const std::string_view key : {"prefill", "cache", "linear"}) {
    if (given.contains(key)) {
      fail(ExitCode::kUsage, "{}: a path with ste= is training's, expected no {}= in it ({})", flag,
           key, kGrammar);
    }
  }
  if (path.dtype == ComputeDtype::kF16) {
    fail(ExitCode::kUsage,
         "{}: a path with ste= is training's, expected dtype=fp32 or bf16, found fp16", flag);
  }
}

}  // namespace

PathSpec parse_path(std::string_view text, std::string_view flag) {
  PathSpec path;
  std::vector<std::string_view> words;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  path.backend = words.front();
  if (std::ranges::find(backend_names(), path.backend) == backend_names().end()) {
    fail(ExitCode::kUsage, "{}: unknown backend '{}': this build has {}; a path is {}", flag,
         path.backend, fmt::join(backend_names(), ", "), kGrammar);
  }
  bool replay = false;
  std::set<std::string_view> given;  // "prefill", "dtype", ...
  for (const std::string_view setting : std::span(words).subspan(1)) {
    if (!apply_setting(path, setting)) {
      fail(ExitCode::kUsage, "{}: expected a path {}, found '{}' in it", flag, kGrammar, setting);
    }
    const std::string_view key = setting.substr(0, setting.find('='));
    if (!given.insert(key).second) {
      fail(ExitCode::kUsage, "{}: expected {} once in a path, found it twice", flag, key);
    }
    replay = replay || setting == "cache=off";
  }
  if (replay) path.schedule = Schedule::kReplay;  // in whatever order they were given
  if (path.trains()) check_training(path, given, flag);
  return path;
}

std::string path_text(const PathSpec& path) {
  std::string text = path.backend;
  if (path.ste == Ste::kOn) text += ",ste=on";
  if (path.ste == Ste::kOff) text += ",ste=off";
  if (path.schedule == Schedule::kToken) text += ",prefill=token";
  if (path.schedule == Schedule::kHalf) text += ",prefill=half";
  if (path.schedule == Schedule::kReplay) text += ",cache=off";
  if (path.dtype != ComputeDtype::kF32) text += fmt::format(",dtype={}", dtype_name(path.dtype));
  if (path.linear == LinearMode::kW4A4) text += ",linear=w4a4";
  return text;
}

std::vector<PathSpec> shipped_paths() {
  std::vector<PathSpec> paths;
  for (const std::string_view backend : backend_names()) {
    std::vector<ComputeDtype> dtypes{ComputeDtype::kF32, ComputeDtype::kBF16};
    if (backend == "cuda") dtypes.push_back(ComputeDtype::kF16);
    for (const Schedule schedule :
         {Schedule::kWhole, Schedule::kToken, Schedule::kHalf, Schedule::kReplay}) {
      for (const ComputeDtype dtype : dtypes) {
        for (const LinearMode linear : {LinearMode::kW4A16, LinearMode::kW4A4}) {
          paths.push_back({std::string(backend), schedule, dtype, linear});
        }
      }
    }
    for (const ComputeDtype dtype : {ComputeDtype::kF32, ComputeDtype::kBF16}) {
      paths.push_back({.backend = std::string(backend), .dtype = dtype, .ste = Ste::kOn});
    }
  }
  return paths;
}

std::unique_ptr<Backend> make_backend(const PathSpec& path) {
  if (path.trains()) return make_backend(path.backend, ComputeDtype::kF32);
  // On a GPU a dtype is the hardware's; in main memory it is emulated, as w4a4 is everywhere.
  const bool hosted = path.backend == "cuda";
  auto backend = make_backend(path.backend, hosted ? path.dtype : ComputeDtype::kF32);
  if (hosted) backend = std::make_unique<HostedBackend>(std::move(backend));
  const ComputeDtype rounded = hosted ? ComputeDtype::kF32 : path.dtype;
  if (rounded == ComputeDtype::kF32 && path.linear == LinearMode::kW4A16) return backend;
  return std::make_unique<EmulatedBackend>(std::move(backend), rounded, path.linear);
}

}  // namespace qf
