#include "bench_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "app.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf::cli {
namespace {

using Json = nlohmann::ordered_json;
using Table = std::vector<std::vector<std::string>>;  // the first row holds the headings

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double bytes_per_second(std::int64_t bytes, const std::vector<double>& seconds) {
  return rate_of(bytes, seconds).mean;
}

double percent(double bytes_per_second, const BenchDevice& device) {
  return 100 * bytes_per_second / device.read_bandwidth;
}

std::string markdown(const Table& table) {
  std::vector<std::size_t> widths(table[0].size(), 3);
  for (const auto& row : table) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (std::size_t line = 0; line < table.size(); ++line) {
    for (std::size_t i = 0; i < widths.size(); ++i) {
      text += fmt::format("| {:<{}} ", table[line][i], widths[i]);
    }
    text += "|\n";
    if (line > 0) continue;
    for (const std::size_t width : widths) text.append("|").append(width + 2, '-');
    text += "|\n";
  }
  return text;
}

std::string markdown_cell(std::string text) {
  text = printable(std::move(text));
  std::ranges::replace(text, '|', '/');
  return text;
}

std::string csv_cell(const Json& value) {
  if (!value.is_string()) return value.dump();
  auto text = printable(value.get<std::string>());
  if (text.find_first_of(",\"") == std::string::npos) return text;
  for (std::size_t at = text.find('"'); at != std::string::npos; at = text.find('"', at + 2)) {
    text.insert(at, 1, '"');
  }
  return '"' + text + '"';
}

// What is true of every row of a device.
void add(Json& json, const BenchDevice& device) {
  json["read_bandwidth_gb_per_second"] = device.read_bandwidth / 1e9;
  json["memory_peak_bytes"] = device.memory_peak;
}

std::string device_line(const BenchDevice& device) {
  return fmt::format("read bandwidth {:.2f} GB/s; memory peak {:.0f} MB\n",
                     device.read_bandwidth / 1e9, static_cast<double>(device.memory_peak) / 1e6);
}

}  // namespace

BenchSubject subject_of(const Qwen3Model& model, const std::string& name) {
  std::vector<std::string_view> formats;
  for (const DecoderLayer& layer : model.layers()) {
    for (const std::string_view module : kLayerLinears) {
      const auto format = weight_format_name(weight_of(layer, module).format());
      if (std::ranges::find(formats, format) == formats.end()) formats.push_back(format);
    }
  }
  std::int64_t parameters = 0;
  for_each_weight(model.config(), !model.config().tie_word_embeddings,
                  [&](const WeightSpec& spec) { parameters += element_count(spec.shape); });
  return {.model = name,
          .format = fmt::format("{}", fmt::join(formats, "+")),
          .backend = std::string(model.backend().name()),
          .description = model.backend().description(),
          .threads = parallel_threads(),
          .parameters = parameters,
          .weight_bytes = model.weight_bytes(),
          .decode_bytes = model.decode_bytes(),
          .linear = std::string(linear_mode_name(model.backend().linear_mode()))};
}

Json to_json(const BenchSubject& subject, const BenchReport& report) {
  Json json{{"model", subject.model},
            {"format", subject.format},
            {"backend", subject.backend},
            {"description", subject.description},
            {"threads", subject.threads},
            {"parameters", subject.parameters},
            {"weight_bytes", subject.weight_bytes},
            {"decode_bytes", subject.decode_bytes},
            {"linear", subject.linear},
            {"kv_cache", report.kv_cache},
            {"decode", report.decode}};
  add(json, report.device);
  json["rows"] = Json::array();
  for (const BenchRow& row : report.rows) {
    const Rate tokens = rate_of(row.tokens, row.seconds);
    const double bytes = bytes_per_second(row.bytes, row.seconds);
    json["rows"].push_back(
        {{"test", row.test},
         {"tokens", row.tokens},
         {"depth", row.depth},
         {"repetitions", row.seconds.size()},
         {"tokens_per_second", tokens.mean},
         {"tokens_per_second_stddev", tokens.stddev},
         {"mean_seconds", mean(row.seconds)},
         {"seconds", row.seconds},
         {"bytes_per_token", static_cast<double>(row.bytes) / static_cast<double>(row.tokens)},
         {"gb_per_second", bytes / 1e9},
         {"percent_of_bandwidth", percent(bytes, report.device)},
         {"gflop_per_second", rate_of(row.flops, row.seconds).mean / 1e9}});
  }
  return json;
}

Json to_json(const KernelBenchOptions& options, const KernelBenchReport& report) {
  Json json{{"backend", report.backend},
            {"description", report.description},
            {"threads", parallel_threads()}};
  if (report.backend == "cpu") {
    json["out_features"] = options.out_features;
    json["in_features"] = options.in_features;
  }
  add(json, report.device);
  json["rows"] = Json::array();
  for (const KernelRow& row : report.rows) {
    const double seconds = median(row.seconds);
    const double bytes = static_cast<double>(row.bytes) / seconds;
    json["rows"].push_back({{"kernel", row.kernel},
                            {"shape", row.shape},
                            {"isa", row.isa},
                            {"tokens", row.tokens},
                            {"repetitions", row.seconds.size()},
                            {"median_seconds", seconds},
                            {"mean_seconds", mean(row.seconds)},
                            {"seconds", row.seconds},
                            {"bytes", row.bytes},
                            {"gb_per_second", bytes / 1e9},
                            {"percent_of_bandwidth", percent(bytes, report.device)},
                            {"tflop_per_second", static_cast<double>(row.flops) / seconds / 1e12}});
  }
  return json;
}

std::string to_csv(const Json& report) {
  std::string text;
  for (const Json& row : report["rows"]) {
    std::vector<std::string> names, values;
    for (const Json* object : {&report, &row}) {
      for (const auto& [name, value] : object->items()) {
        if (value.is_array()) continue;
        names.push_back(name);
        values.push_back(csv_cell(value));
      }
    }
    if (text.empty()) text = fmt::format("{}\n", fmt::join(names, ","));
    text += fmt::format("{}\n", fmt::join(values, ","));
  }
  return text;
}

std::string to_markdown(const BenchSubject& subject, const BenchReport& report) {
  Table table{{"model", "format", "backend", "threads", "test", "tok/s", "MB/token", "GB/s",
               "% of read bandwidth", "GFLOP/s"}};
  for (const BenchRow& row : report.rows) {
    const Rate tokens = rate_of(row.tokens, row.seconds);
    const double bytes = bytes_per_second(row.bytes, row.seconds);
    table.push_back({markdown_cell(subject.model), subject.format, subject.backend,
                     fmt::format("{}", subject.threads), row.test,
                     fmt::format("{:.2f} ± {:.2f}", tokens.mean, tokens.stddev),
                     fmt::format("{:.2f}", static_cast<double>(row.bytes) /
                                               static_cast<double>(row.tokens) / 1e6),
                     fmt::format("{:.2f}", bytes / 1e9),
                     fmt::format("{:.1f}", percent(bytes, report.device)),
                     fmt::format("{:.1f}", rate_of(row.flops, row.seconds).mean / 1e9)});
  }
  return markdown(table) +
         fmt::format("\n{:.3f} billion parameters, {:.1f} MB of weights; ",
                     static_cast<double>(subject.parameters) / 1e9,
                     static_cast<double>(subject.weight_bytes) / 1e6) +
         (subject.linear.empty() ? "" : fmt::format("linears {}; ", subject.linear)) +
         (report.kv_cache.empty() ? "" : fmt::format("keys and values in {}; ", report.kv_cache)) +
         device_line(report.device);
}

std::string to_markdown(const KernelBenchOptions& options, const KernelBenchReport& report) {
  Table table{
      {"kernel", "shape", "isa", "tokens", "us", "MB", "GB/s", "% of read bandwidth", "TFLOP/s"}};
  for (const KernelRow& row : report.rows) {
    const double seconds = median(row.seconds);
    const double bytes = static_cast<double>(row.bytes) / seconds;
    const double flops = static_cast<double>(row.flops) / seconds;
    table.push_back(
        {row.kernel, row.shape, row.isa, row.tokens > 0 ? fmt::format("{}", row.tokens) : "",
         fmt::format("{:.1f}", seconds * 1e6),
         fmt::format("{:.2f}", static_cast<double>(row.bytes) / 1e6),
         fmt::format("{:.2f}", bytes / 1e9), fmt::format("{:.1f}", percent(bytes, report.device)),
         row.flops > 0 ? fmt::format("{:.2f}", flops / 1e12) : ""});
  }
  const std::string what =
      report.backend == "cpu"
          ? fmt::format("linear [{}, {}], {} threads", options.out_features, options.in_features,
                        parallel_threads())
          : fmt::format("{}; shapes of Qwen3-4B, each call on a cold L2 cache", report.description);
  return markdown(table) + fmt::format("\n{}; ", what) + device_line(report.device);
}

}  // namespace qf::cli
