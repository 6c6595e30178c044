#include "train_html.h"

#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "html_data.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/json_text.h"

namespace qf::cli {
namespace {

constexpr std::string_view kBeforeData = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>qwen3fp4 train</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse; margin: .5em 0 2em }
th, td { text-align: left; padding: 2px 12px 2px 0; vertical-align: top; font-weight: normal }
th { color: #666 } td.number { text-align: right; font-variant-numeric: tabular-nums }
td pre { margin: 0; font: inherit; white-space: pre-wrap }
#charts { display: flex; flex-wrap: wrap; gap: 1em 2em }
figure { margin: 0 } figcaption { font-size: 13px } svg { background: #fafafa; display: block }
text { font: 11px system-ui, sans-serif; fill: #666 }
.bar { height: 10px; background: #36c; display: inline-block }
</style></head><body>
<h1>train</h1><p id="title"></p><table id="settings"></table><div id="charts"></div>
<h2>Memory</h2><p id="peak"></p><table id="memory"></table>
<h2>Samples</h2><table id="samples"></table>
<script type="application/json" id="data">)html";

constexpr std::string_view kAfterData = R"html(</script>
<script>
const run = JSON.parse(document.getElementById('data').textContent);
const $ = (id) => document.getElementById(id);
const short = (x) => x === null ? 'not finite' : Number(x.toPrecision(4)).toString();
const svg = (name, attributes) => {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const key in attributes) e.setAttribute(key, attributes[key]);
  return e;
};
const row = (table, cells) => {
  const line = table.insertRow();
  for (const cell of cells) line.insertCell().append(cell);
  return line;
};
$('title').textContent = run.title;
for (const [name, value] of run.settings) row($('settings'), [name, value]);
// series: [name, colour, [[x, y], ...]], where y may be null.
function chart(title, series) {
  series = series.filter((s) => s[2].some((p) => p[1] !== null));
  if (series.length === 0) return;
  const W = 460, H = 190, L = 58, R = 10, T = 10, B = 24;
  const points = series.flatMap((s) => s[2]).filter((p) => p[1] !== null);
  let [x0, x1] = [Math.min(...points.map((p) => p[0])), Math.max(...points.map((p) => p[0]))];
  let [y0, y1] = [Math.min(...points.map((p) => p[1])), Math.max(...points.map((p) => p[1]))];
  if (x1 === x0) x1 = x0 + 1;
  if (y1 === y0) { y1 += Math.abs(y1) * .05 + 1e-9; y0 -= Math.abs(y0) * .05 + 1e-9; }
  const X = (x) => L + (x - x0) / (x1 - x0) * (W - L - R);
  const Y = (y) => H - B - (y - y0) / (y1 - y0) * (H - T - B);
  const figure = document.createElement('figure'), caption = document.createElement('figcaption');
  const plot = svg('svg', {width: W, height: H});
  const label = (x, y, anchor, content) => {
    const t = svg('text', {x, y, 'text-anchor': anchor}); t.textContent = content; plot.append(t);
  };
  for (const y of [y0, (y0 + y1) / 2, y1]) {
    plot.append(svg('line', {x1: L, x2: W - R, y1: Y(y), y2: Y(y), stroke: '#ddd'}));
    label(L - 6, Y(y) + 4, 'end', short(y));
  }
  label(L, H - 8, 'start', x0); label(W - R, H - 8, 'end', x1);
  caption.append(title);
  for (const [name, colour, values] of series) {
    let path = '', pen = 'M';
    for (const [x, y] of values) {
      if (y === null) { pen = 'M'; continue; }
      path += `${pen}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`; pen = 'L';
    }
    plot.append(svg('path', {d: path, fill: 'none', stroke: colour, 'stroke-width': 1.5}));
    if (values.length < 60) for (const [x, y] of values) {
      if (y === null) continue;
      const dot = svg('circle', {cx: X(x), cy: Y(y), r: 2.5, fill: colour});
      const tip = svg('title', {}); tip.textContent = `step ${x}: ${short(y)}`; dot.append(tip);
      plot.append(dot);
    }
    const key = document.createElement('span');
    key.style.color = colour; key.textContent = ` — ${name}`; caption.append(key);
  }
  figure.append(caption, plot); $('charts').append(figure);
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
  row($('memory'), [kind, name, megabytes(bytes), bar]).cells[2].className = 'number';
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
  for (const auto& [name, bytes] : facts.memory.held) memory.push_back({"held", name, bytes});
  for (const auto& [name, bytes] : facts.memory.phases) memory.push_back({"phase", name, bytes});
  const Json page = {{"title", facts.title},
                     {"settings", facts.settings},
                     {"steps", values_of(found.steps)},
                     {"held_out", values_of(found.held_out)},
                     {"samples", samples_of(found.samples)},
                     {"memory", memory},
                     {"planned_peak", facts.memory.peak()},
                     {"measured_peak", facts.memory_peak_bytes}};
  return std::string(kBeforeData) + html_data(page) + std::string(kAfterData);
}

}  // namespace qf::cli
