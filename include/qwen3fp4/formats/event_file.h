#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qf {

// CRC-32C (Castagnoli), as TFRecord files have it before they mask it.
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes);

// A TensorBoard event file, written as it comes: TFRecord frames (u64 length, its masked CRC-32C,
// the bytes, theirs) around tensorflow.Event messages. Throws when the disk does not take them.
class EventFile {
 public:
  // Begins "events.out.tfevents.SECONDS.qwen3fp4.N" in `folder`, which is made where it is missing.
  // What an earlier file there has from `first_step` on is not shown any more (a run that goes on).
  EventFile(const std::filesystem::path& folder, std::int64_t first_step);

  using Scalars = std::vector<std::pair<std::string, double>>;  // tag, value
  void scalars(std::int64_t step, const Scalars& values);
  // Markdown.
  void text(std::int64_t step, std::string_view tag, std::string_view text);

 private:
  void event(std::int64_t step, std::string_view field);
  void record(std::string_view bytes);

  std::string name_;
  std::ofstream out_;
};

}  // namespace qf
