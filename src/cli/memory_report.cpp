#include "memory_report.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "html_chart.h"
#include "html_data.h"

namespace qf::cli {
namespace {

using Json = nlohmann::ordered_json;

Json bytes_json(const MemorySample& sample) {
  Json json = Json::object();
  for (std::size_t i = 0; i < kMemoryGauges; ++i) {
    const auto& bytes = sample.bytes[i];
    if (bytes) json[gauge_name(static_cast<MemoryGauge>(i))] = *bytes;
  }
  return json;
}

Json pool_json(const MemoryPool& pool) {
  return {{"name", pool.name()}, {"used", pool.used}, {"limit", pool.limit}};
}

Json sources_json(const MemoryGuard& guard, const MemorySample& sample) {
  Json sources = Json::array();
  for (std::size_t i = 0; i < kMemoryGauges; ++i) {
    const auto gauge = static_cast<MemoryGauge>(i);
    Json source{{"name", gauge_name(gauge)}, {"source", gauge_source(gauge)}};
    if (sample.bytes[i]) {
      source["observed"] = true;
    } else {
      source["observed"] = false;
      source["why"] = guard.why_empty(gauge);
    }
    sources.push_back(std::move(source));
  }
  return sources;
}

// Columns once, not with every sample.
Json samples_json(const MemoryLog& log) {
  Json columns = {"seconds", "phase"};
  for (std::size_t i = 0; i < kMemoryGauges; ++i) {
    columns.push_back(gauge_name(static_cast<MemoryGauge>(i)));
  }
  Json rows = Json::array();
  for (const LoggedSample& logged : log.samples()) {
    Json row = {logged.seconds, logged.phase};
    for (const auto& bytes : logged.sample.bytes) row.push_back(bytes ? Json(*bytes) : Json());
    rows.push_back(std::move(row));
  }
  return {{"columns", columns}, {"rows", rows}};
}

}  // namespace

Json memory_report(const MemoryGuard& guard, const RunEnd& end) {
  const MemoryLog log = guard.log();
  const auto& settings = guard.settings();
  Json json{{"command", end.command}, {"exit_code", end.exit_code}};
  if (!end.sentence.empty()) json["error"] = end.sentence;
  json["seconds"] = log.seconds();
  json["guard"] = {{"on", settings.on},
                   {"unified", guard.layout() == MemoryLayout::kShared},
                   {"poll_seconds", settings.poll_seconds},
                   {"over_seconds", settings.over_seconds}};
  if (settings.limit) json["guard"]["limit_given"] = *settings.limit;
  json["pools"] = Json::array();
  for (const MemoryPool& pool : guard.pools()) json["pools"].push_back(pool_json(pool));
  if (const auto breach = guard.breach()) {
    json["breach"] = pool_json(breach->pool);
    json["breach"]["phase"] = breach->phase;
    json["breach"]["last_within"] = breach->last_within;
    json["breach"]["first_over"] = breach->first_over;
    json["breach"]["requested"] = breach->requested;
    if (breach->seen) json["breach"]["seen"] = *breach->seen;
  }
  json["sources"] = sources_json(guard, guard.read());
  json["largest"] = bytes_json(log.largest());
  json["phases"] = Json::array();
  for (const LoggedPhase& phase : log.phases()) {
    json["phases"].push_back({{"name", phase.name},
                              {"begin", phase.begin},
                              {"at_begin", bytes_json(phase.at_begin)},
                              {"largest", bytes_json(phase.largest)}});
  }
  json["tensors"] = Json::array();
  for (const TensorBytes& t : log.tensors()) {
    json["tensors"].push_back(
        {{"kind", t.kind}, {"device", t.device}, {"dtype", t.dtype}, {"bytes", t.bytes}});
  }
  json["samples"] = samples_json(log);
  return json;
}

namespace {

constexpr std::string_view kHead = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>qwen3fp4 memory</title>
<style>)html";

constexpr std::string_view kBody = R"html(.error { color: #b00 }
</style></head><body>
<h1 id="title"></h1><p id="error" class="error"></p>
<div id="keys"></div><svg id="plot"></svg>
<h2>Limits</h2><table id="pools"></table>
<h2>Phases</h2><table id="phases"></table>
<h2>Tensors</h2><table id="tensors"></table>
<h2>Sources</h2><table id="sources"></table>
<script type="application/json" id="data">)html";

constexpr std::string_view kScript = R"html(
const report = JSON.parse($('data').textContent);
const gb = (b) => b === undefined || b === null ? 'not seen' : `${(b / 1e9).toFixed(3)} GB`;
$('title').textContent = `qwen3fp4 ${report.command}: memory over ${report.seconds.toFixed(1)} s`;
$('error').textContent = report.error || '';
const {columns, rows} = report.samples;
const at = (name) => columns.indexOf(name);
const series = [
  ['this process, main memory', '#36c', (r) => r[at('process_resident')]],
  ['counted blocks', '#9bd', (r) => r[at('host_allocated')]],
  ['cgroup', '#a6a', (r) => r[at('cgroup_used')]],
  ['GPU, all of it', '#c52', (r) => r[at('device_total')] === null ? null : r[at('device_total')] - r[at('device_free')]],
  ['GPU, this process', '#e94', (r) => r[at('device_process')]],
  ['GPU, reserved for tensors', '#693', (r) => r[at('device_reserved')]],
  ['GPU, tensors', '#9c6', (r) => r[at('device_allocated')]],
].map(([name, colour, value]) => [name, colour, rows.map((r) => [r[0], value(r)])])
 .filter((s) => s[2].some((p) => p[1] !== null));
const highest = Math.max(1, ...series.flatMap((s) => s[2].map((p) => p[1] ?? 0)));
// A limit far above everything would press the curves to the ground; the table has it.
const limits = report.pools.filter((p) => p.limit < 3 * highest);
// Above everything is room for the phases' names.
const most = Math.max(highest, ...limits.map((p) => p.limit)) * (1.05 + .03 * report.phases.length);
const end = Math.max(report.seconds, 1e-3);
const plot = lines($('plot'), {width: 960, height: 380, left: 70, x: [0, end], y: [0, most], ticks: 4,
                               mark: gb, xMark: (s) => `${s.toFixed(1)} s`}, series);
key($('keys'), series);
// Names of phases that would lie on each other go to the next line.
const lineEnds = [];
for (const phase of report.phases) {
  const x = plot.X(phase.begin);
  plot.line([x, plot.top], [x, plot.bottom], {stroke: '#bbb', 'stroke-dasharray': '2 3'});
  const text = plot.label(x + 3, 0, 'start', phase.name), width = text.getBBox().width;
  if (x + 3 + width > plot.right) { text.setAttribute('text-anchor', 'end'); text.setAttribute('x', x - 3); }
  const from = x + 3 + width > plot.right ? x - 3 - width : x + 3;
  let line = lineEnds.findIndex((end) => end < from);
  if (line < 0) line = lineEnds.length;
  lineEnds[line] = from + width + 6;
  text.setAttribute('y', plot.top - 4 + 13 * line);
}
for (const pool of limits) {
  const y = plot.Y(pool.limit);
  plot.line([70, y], [plot.right, y], {stroke: '#b00', 'stroke-dasharray': '6 4'});
  plot.label(plot.right - 4, y + 13, 'end', `limit: ${pool.name}`);
}
row($('pools'), ['memory', 'used at the end', 'at most'], true);
for (const p of report.pools) row($('pools'), [p.name, gb(p.used), gb(p.limit)]);
row($('phases'), ['phase', 'from', 'process', 'most, process', 'most, GPU tensors'], true);
for (const p of report.phases) {
  row($('phases'), [p.name, `${p.begin.toFixed(2)} s`, gb(p.at_begin.process_resident), gb(p.largest.process_resident), gb(p.largest.device_allocated)]);
}
row($('tensors'), ['kind', 'device', 'type', 'bytes'], true);
for (const t of report.tensors) row($('tensors'), [t.kind, t.device, t.dtype, gb(t.bytes)]);
if (report.tensors.length === 0) { $('tensors').previousElementSibling.remove(); $('tensors').remove(); }
row($('sources'), ['gauge', 'from', 'seen'], true);
for (const s of report.sources) row($('sources'), [s.name, s.source, s.observed ? 'yes' : `no: ${s.why}`]);
</script></body></html>
)html";

}  // namespace

std::string memory_html(const Json& report) {
  return fmt::format("{}{}{}{}</script>\n<script>{}{}", kHead, kChartStyle, kBody,
                     html_data(report), kChartScript, kScript);
}

}  // namespace qf::cli
