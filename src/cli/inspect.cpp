#include "qwen3fp4/run/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "app.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/tensor_info.h"

namespace qf::cli {
namespace {

struct InspectCommand {
  std::string path;
  bool json = false;
};

nlohmann::ordered_json to_json(const InspectReport& report) {
  auto tensors = nlohmann::ordered_json::array();
  for (const auto& tensor : report.tensors) {
    nlohmann::ordered_json row = {{"name", tensor.name},
                                  {"type", tensor.type},
                                  {"shape", tensor.shape},
                                  {"bytes", tensor.bytes}};
    if (!tensor.entries.empty()) row["entries"] = tensor.entries;
    row["amax"] = tensor.amax ? nlohmann::ordered_json(*tensor.amax) : nullptr;
    row["flags"] = tensor.flags;
    tensors.push_back(std::move(row));
  }
  return {{"path", report.path},   {"format", report.format},   {"entries", report.entries},
          {"bytes", report.bytes}, {"flagged", report.flagged}, {"tensors", tensors}};
}

std::string to_table(const InspectReport& report) {
  std::size_t name_width = 4;
  std::size_t shape_width = 5;
  for (const auto& tensor : report.tensors) {
    name_width = std::max(name_width, tensor.name.size());
    shape_width = std::max(shape_width, shape_text(tensor.shape).size());
  }
  std::string table =
      fmt::format("{} ({})\n{:<{}}  {:<9}  {:<{}}  {:>14}  {:>12}  flags\n", report.path,
                  report.format, "name", name_width, "type", "shape", shape_width, "bytes", "amax");
  for (const auto& tensor : report.tensors) {
    auto line = fmt::format("{:<{}}  {:<9}  {:<{}}  {:>14}  {:>12}", tensor.name, name_width,
                            tensor.type, shape_text(tensor.shape), shape_width, tensor.bytes,
                            tensor.amax ? fmt::format("{:.6g}", *tensor.amax) : "");
    if (!tensor.flags.empty()) line += fmt::format("  {}", fmt::join(tensor.flags, "; "));
    line.erase(line.find_last_not_of(' ') + 1);
    table += printable(line) + "\n";
  }
  return table + fmt::format("{} tensors in {} entries, {} bytes, {} flagged\n",
                             report.tensors.size(), report.entries, report.bytes, report.flagged);
}

void run_inspect(const InspectCommand& command) {
  const auto reports = inspect(command.path);
  auto json = nlohmann::ordered_json::array();
  std::int64_t flagged = 0;
  for (const auto& report : reports) {
    flagged += report.flagged;
    if (command.json) {
      json.push_back(to_json(report));
    } else {
      print(to_table(report));
    }
  }
  // Names in hostile files need not be UTF-8.
  constexpr auto kReplace = nlohmann::ordered_json::error_handler_t::replace;
  if (command.json) {
    print(nlohmann::ordered_json({{"files", json}}).dump(-1, ' ', false, kReplace) + "\n");
  }
  if (flagged > 0) {
    fail(ExitCode::kCheckFailed, "{}: {} tensor{} with error flags (listed above)", command.path,
         flagged, flagged == 1 ? "" : "s");
  }
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto* command = app.add_subcommand(
      "inspect", "List the tensors of a .dat, .safetensors or GGUF file, or of a folder");
  auto inspect = std::make_shared<InspectCommand>();
  command->add_option("PATH", inspect->path, "File or folder")->required();
  command->add_flag("--json", inspect->json, "Print one object instead of a table");
  command->callback([inspect] { run_inspect(*inspect); });
}

}  // namespace qf::cli
