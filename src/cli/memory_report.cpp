#include "memory_report.h"

#include <string_view>
#include <utility>

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

constexpr std::string_view kBeforeData = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>qwen3fp4 memory</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse; margin: .5em 0 2em }
th, td { text-align: left; padding: 2px 14px 2px 0; vertical-align: top; font-weight: normal }
th { color: #666 } td.number { text-align: right; font-variant-numeric: tabular-nums }
svg { background: #fafafa; display: block } text { font: 11px system-ui, sans-serif; fill: #666 }
.key { margin-right: 1.2em } .error { color: #b00 }
</style></head><body>
<h1 id="title"></h1><p id="error" class="error"></p>
<div id="keys"></div><svg id="plot" width="960" height="360"></svg>
<h2>Limits</h2><table id="pools"></table>
<h2>Phases</h2><table id="phases"></table>
<h2>Tensors</h2><table id="tensors"></table>
<h2>Sources</h2><table id="sources"></table>
<script type="application/json" id="data">)html";

constexpr std::string_view kAfterData = R"html(</script>
<script>
const report = JSON.parse(document.getElementById('data').textContent);
const $ = (id) => document.getElementById(id);
const gb = (b) => b === undefined || b === null ? 'not seen' : `${(b / 1e9).toFixed(3)} GB`;
const svg = (name, attributes, parent) => {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const key in attributes) e.setAttribute(key, attributes[key]);
  parent.append(e); return e;
};
const row = (table, cells, head) => {
  const line = table.insertRow();
  for (const cell of cells) {
    const c = head ? document.createElement('th') : document.createElement('td');
    c.textContent = cell; line.append(c);
    if (/ GB$/.test(cell)) c.className = 'number';
  }
};
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
const limits = report.pools.filter((p) => p.limit < 3 * highest);
const top_ = Math.max(highest, ...limits.map((p) => p.limit)) * 1.05;
const end = Math.max(report.seconds, 1e-3);
const W = 960, H = 360, L = 70, R = 10, T = 16, B = 26;
const X = (s) => L + s / end * (W - L - R), Y = (b) => H - B - b / top_ * (H - T - B);
const plot = $('plot');
const label = (x, y, anchor, content) => {
  svg('text', {x, y, 'text-anchor': anchor}, plot).textContent = content;
};
for (let i = 0; i <= 4; ++i) {
  const b = top_ * i / 4;
  svg('line', {x1: L, x2: W - R, y1: Y(b), y2: Y(b), stroke: '#ddd'}, plot);
  label(L - 6, Y(b) + 4, 'end', gb(b));
}
label(L, H - 8, 'start', '0 s'); label(W - R, H - 8, 'end', `${end.toFixed(1)} s`);
for (const phase of report.phases) {
  svg('line', {x1: X(phase.begin), x2: X(phase.begin), y1: T, y2: H - B, stroke: '#bbb', 'stroke-dasharray': '2 3'}, plot);
  label(X(phase.begin) + 3, T - 4, 'start', phase.name);
}
for (const pool of limits) {
  svg('line', {x1: L, x2: W - R, y1: Y(pool.limit), y2: Y(pool.limit), stroke: '#b00', 'stroke-dasharray': '6 4'}, plot);
  label(W - R - 4, Y(pool.limit) - 4, 'end', `limit: ${pool.name}`);
}
for (const [name, colour, points] of series) {
  let path = '', pen = 'M';
  for (const [x, y] of points) {
    if (y === null) { pen = 'M'; continue; }
    path += `${pen}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`; pen = 'L';
  }
  svg('path', {d: path, fill: 'none', stroke: colour, 'stroke-width': 1.5}, plot);
  const key = document.createElement('span');
  key.className = 'key'; key.style.color = colour; key.textContent = `— ${name}`; $('keys').append(key);
}
row($('pools'), ['memory', 'used at the end', 'at most'], true);
for (const p of report.pools) row($('pools'), [p.name, gb(p.used), gb(p.limit)]);
row($('phases'), ['phase', 'from', 'process', 'most, process', 'most, GPU tensors'], true);
for (const p of report.phases) {
  row($('phases'), [p.name, `${p.begin.toFixed(2)} s`, gb(p.at_begin.process_resident), gb(p.largest.process_resident), gb(p.largest.device_allocated)]);
}
row($('tensors'), ['kind', 'device', 'type', 'bytes'], true);
for (const t of report.tensors) row($('tensors'), [t.kind, t.device, t.dtype, gb(t.bytes)]);
row($('sources'), ['gauge', 'from', 'seen'], true);
for (const s of report.sources) row($('sources'), [s.name, s.source, s.observed ? 'yes' : `no: ${s.why}`]);
</script></body></html>
)html";

}  // namespace

std::string memory_html(const Json& report) {
  return std::string(kBeforeData) + html_data(report) + std::string(kAfterData);
}

}  // namespace qf::cli
