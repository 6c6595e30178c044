#include "train_html.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "html_chart.h"
#include "html_data.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/json_text.h"

namespace qf::cli {
namespace {

constexpr std::string_view kHead = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>qwen3fp4 train</title>
<style>)html";

constexpr std::string_view kBody = R"html(td pre { margin: 0; font: inherit; white-space: pre-wrap }
#charts { display: flex; flex-wrap: wrap; gap: 1em 2em }
figure { margin: 0 } figcaption { font-size: 13px }
.bar { height: 10px; background: #36c; display: inline-block }
</style></head><body>
<h1>train</h1><p id="title"></p><table id="settings"></table><div id="charts"></div>
<h2>Memory</h2><p id="peak"></p><table id="memory"></table>
<h2>Samples</h2><table id="samples"></table>
<script type="application/json" id="data">)html";

constexpr std::string_view kScript = R"html(
const run = JSON.parse($('data').textContent);
const short = (x) => x === null ? 'not finite'
    : x !== 0 && Math.abs(x) < 1e-3 ? x.toExponential(2) : Number(x.toPrecision(4)).toString();
$('title').textContent = run.title;
for (const [name, value] of run.settings) row($('settings'), [name, value]);
function chart(title, series) {
  series = series.filter((s) => s[2].some((p) => p[1] !== null));
  if (series.length === 0) return;
  const points = series.flatMap((s) => s[2]).filter((p) => p[1] !== null);
  let [x0, x1] = [Math.min(...points.map((p) => p[0])), Math.max(...points.map((p) => p[0]))];
  let [y0, y1] = [Math.min(...points.map((p) => p[1])), Math.max(...points.map((p) => p[1]))];
  if (x1 === x0) x1 = x0 + 1;
  if (y1 === y0) { y1 += Math.abs(y1) * .05 + 1e-9; y0 -= Math.abs(y0) * .05 + 1e-9; }
  const figure = document.createElement('figure'), caption = document.createElement('figcaption');
  caption.append(`${title} `); key(caption, series);
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  figure.append(caption, svg); $('charts').append(figure);
  const plot = lines(svg, {width: 460, height: 190, left: 58, x: [x0, x1], y: [y0, y1], ticks: 2,
                           mark: short, xMark: (x) => `step ${x}`}, series);
  for (const [, colour, values] of series) {
    if (values.length >= 60) continue;
    for (const [x, y] of values) {
      if (y === null) continue;
      const dot = element('circle', {cx: plot.X(x), cy: plot.Y(y), r: 2.5, fill: colour}, svg);
      element('title', {}, dot).textContent = `step ${x}: ${short(y)}`;
    }
  }
}
const of = (list, key) => list.map((s) => [s.step, s[key] ?? null]);
chart('loss', [['training', '#36c', of(run.steps, 'loss')], ['held out', '#c52', of(run.held_out, 'loss')]]);
chart('KL', [['training', '#36c', of(run.steps, 'kl')], ['held out', '#c52', of(run.held_out, 'kl')]]);
chart('learning rate', [['lr', '#36c', of(run.steps, 'lr')]]);
chart('gradient norm', [['before clipping', '#36c', of(run.steps, 'gradient_norm')]]);
chart('tokens a second', [['tok/s', '#36c', of(run.steps, 'tokens_per_second')]]);
chart('memory peak, GB', [['measured', '#36c', run.steps.map((s) => [s.step, s.memory_peak_bytes / 1e9])]]);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
$('peak').textContent = `planned peak ${megabytes(run.planned_peak)}` +
    (run.measured_peak > 0 ? `, measured ${megabytes(run.measured_peak)}` : '');
for (const [kind, name, bytes] of run.memory) {
  const bar = document.createElement('span');
  bar.className = 'bar'; bar.style.width = `${Math.round(bytes / run.planned_peak * 300)}px`;
  row($('memory'), [kind, name, megabytes(bytes), bar]);
}
if (run.samples.length === 0) $('samples').previousElementSibling.remove();
for (const {step, prompt, answer} of run.samples) {
  const shown = document.createElement('pre'); shown.textContent = answer;
  row($('samples'), [`step ${step}`, prompt, shown]);
}
</script></body></html>
)html";

using Json = nlohmann::json;

// By step; later lines replace earlier ones.
struct Log {
  std::map<std::int64_t, Json> steps, held_out, samples;
};

Log read_log(const std::filesystem::path& path) {
  Log log;
  const std::string text = read_text_file(path);
  std::int64_t number = 0;
  for (std::size_t first = 0; first < text.size();) {
    const auto end = std::min(text.find('\n', first), text.size());
    const auto what = fmt::format("{}:{}", path.string(), ++number);
    auto line = parse_json(std::string_view(text).substr(first, end - first), what);
    first = end + 1;
    QF_CHECK(line.is_object() && line.contains("step") && line["step"].is_number_integer(),
             "{}: expected an object with a step (--log)", what);
    const auto step = line["step"].get<std::int64_t>();
    if (line.contains("held_out") && line["held_out"].is_object()) {
      log.held_out[step] = line["held_out"];
      log.held_out[step]["step"] = step;
    } else if (line.contains("samples")) {
      log.samples[step] = line["samples"];
    } else {
      log.steps[step] = std::move(line);
    }
  }
  return log;
}

Json values_of(const std::map<std::int64_t, Json>& by_step) {
  auto list = Json::array();
  for (const auto& [step, value] : by_step) {
    list.push_back(value);
    // A mean over no target is no point of a curve.
    if (list.back().value("teacher_targets", 1) == 0) list.back()["kl"] = nullptr;
  }
  return list;
}

Json samples_of(const std::map<std::int64_t, Json>& by_step) {
  auto list = Json::array();
  for (const auto& [step, samples] : by_step) {
    for (Json sample : samples) {
      sample["step"] = step;
      list.push_back(std::move(sample));
    }
  }
  return list;
}

}  // namespace

std::string train_html(const std::filesystem::path& log, const TrainFacts& facts) {
  const Log found = read_log(log);
  auto memory = Json::array();
  // What is measured is the whole process in main memory, and on a GPU its tensors.
  const bool of_process = facts.memory.libraries > 0;
  const std::int64_t planned_peak = of_process ? facts.memory.process_peak() : facts.memory.peak();
  if (of_process) {
    memory.push_back({"held", "program and libraries", planned_peak - facts.memory.peak()});
  }
  for (const auto& [name, bytes] : facts.memory.held) memory.push_back({"held", name, bytes});
  for (const auto& [name, bytes] : facts.memory.phases) memory.push_back({"phase", name, bytes});
  const Json page = {{"title", facts.title},
                     {"settings", facts.settings},
                     {"steps", values_of(found.steps)},
                     {"held_out", values_of(found.held_out)},
                     {"samples", samples_of(found.samples)},
                     {"memory", memory},
                     {"planned_peak", planned_peak},
                     {"measured_peak", facts.memory_peak_bytes}};
  return fmt::format("{}{}{}{}</script>\n<script>{}{}", kHead, kChartStyle, kBody, html_data(page),
                     kChartScript, kScript);
}

}  // namespace qf::cli
