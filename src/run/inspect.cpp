#include "qwen3fp4/run/inspect.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <functional>
#include <span>
#include <utility>

#include "gguf_names.h"
#include "inspect_dat.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/gguf.h"
#include "qwen3fp4/formats/safetensors.h"
#include "value_scan.h"

namespace qf {
namespace {

namespace fs = std::filesystem;

void count(InspectReport& report) {
  for (const auto& tensor : report.tensors) {
    report.bytes += tensor.bytes;
    report.flagged += tensor.flags.empty() ? 0 : 1;
  }
}

template <class File>
InspectReport inspect_safetensors(const fs::path& path) {
  const File file(path);
  InspectReport report{.path = path.string(), .format = "safetensors", .tensors = {}};
  for (const auto& entry : file.entries()) {
    report.tensors.push_back(inspect_raw(entry, [&](std::span<std::byte> out, std::int64_t first) {
      file.read(entry, out, first);
    }));
  }
  report.entries = std::ssize(file.entries());
  count(report);
  return report;
}

// Of an NVFP4 weight; 1 where the file has none.
float tensor_scale(const GgufFile& file, const GgufTensor& weight) {
  const auto* scale = file.find(scale_name(weight.name));
  if (scale == nullptr || scale->type != GgmlType::kF32 || element_count(scale->shape) != 1)
    return 1;
  float value = 1;
  file.read_f32(*scale, {&value, 1});
  return value;
}

InspectReport inspect_gguf(const fs::path& path) {
  const GgufFile file(path);
  InspectReport report{.path = path.string(), .format = "gguf", .tensors = {}};
  // A multiple of every block size.
  constexpr std::int64_t kChunk = std::int64_t{1} << 20;
  for (const auto& tensor : file.tensors()) {
    ValueScan scan;
    const auto total = element_count(tensor.shape);
    const auto values = at::empty({std::min(total, kChunk)}, at::kFloat);
    const float scale = tensor.type == GgmlType::kNvfp4 ? tensor_scale(file, tensor) : 1.0F;
    for (std::int64_t first = 0; first < total; first += kChunk) {
      const auto size = std::min(kChunk, total - first);
      file.read_f32(tensor, {values.data_ptr<float>(), static_cast<std::size_t>(size)}, first);
      scan.add(values.narrow(0, 0, size).mul_(scale));
    }
    report.tensors.push_back({.name = tensor.name,
                              .type = std::string(ggml_type_name(tensor.type)),
                              .shape = tensor.shape,
                              .bytes = tensor.bytes,
                              .entries = {},
                              .amax = scan.amax(),
                              .flags = scan.flags()});
  }
  report.entries = std::ssize(file.tensors());
  count(report);
  return report;
}

InspectReport inspect_state_dict(const fs::path& path) {
  InspectReport report = inspect_dat(path);
  count(report);
  return report;
}

enum class FileKind { kDat, kSafetensors, kGguf };

// By suffix; files of another suffix by content. A .dat has no magic: it is what remains.
FileKind kind_of(const fs::path& path) {
  const auto suffix = path.extension();
  if (suffix == ".dat") return FileKind::kDat;
  if (suffix == ".safetensors") return FileKind::kSafetensors;
  if (suffix == ".gguf") return FileKind::kGguf;
  const FileSource file(path);
  std::array<char, 9> head{};
  if (file.size() < std::ssize(head)) return FileKind::kDat;
  file.read_at(0, std::as_writable_bytes(std::span(head)));
  if (std::string_view(head.data(), 4) == "GGUF") return FileKind::kGguf;
  // The JSON header of a safetensors file follows its 8-byte length.
  return head[8] == '{' ? FileKind::kSafetensors : FileKind::kDat;
}

InspectReport inspect_file(const fs::path& path) {
  switch (kind_of(path)) {
    case FileKind::kSafetensors:
      return inspect_safetensors<SafetensorsFile>(path);
    case FileKind::kGguf:
      return inspect_gguf(path);
    case FileKind::kDat:
      break;
  }
  if (path.extension() == ".dat") return inspect_state_dict(path);
  try {
    return inspect_state_dict(path);
  } catch (const Error& error) {
    fail(error.code(), "{}: no GGUF, no safetensors and no .dat file; read as the last: {}",
         path.string(), error.what());
  }
}

std::vector<InspectReport> inspect_folder(const fs::path& folder) {
  std::vector<fs::path> files;
  const bool sharded = fs::exists(folder / "model.safetensors.index.json");
  for (const auto& item : fs::directory_iterator(folder)) {
    const auto suffix = item.path().extension();
    if (suffix == ".dat" || suffix == ".gguf" || (suffix == ".safetensors" && !sharded)) {
      files.push_back(item.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<InspectReport> reports;
  if (sharded) reports.push_back(inspect_safetensors<SafetensorsCheckpoint>(folder));
  for (const auto& file : files) reports.push_back(inspect_file(file));
  QF_CHECK(!reports.empty(),
           "{}: expected a .dat, .safetensors or .gguf file in the folder, found none",
           folder.string());
  return reports;
}

}  // namespace

std::vector<InspectReport> inspect(const fs::path& path) {
  QF_CHECK(fs::exists(path), "{}: no such file or folder", path.string());
  if (fs::is_directory(path)) return inspect_folder(path);
  return {inspect_file(path)};
}

}  // namespace qf
