#include <string>
#include <string_view>

#include "ab_check_report.h"
#include "html_data.h"

namespace qf::cli {
namespace {

constexpr std::string_view kBeforeData = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>qwen3fp4 ab-check</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse; margin: .5em 0 2em }
th { font-weight: normal; font-size: 12px; padding: 2px 4px; text-align: right }
thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; height: 13em }
td { width: 24px; height: 16px; border: 1px solid #fff; padding: 0 }
td.none { background: #f4f4f4 }
td.out { outline: 2px solid #000; outline-offset: -2px }
#verdict { font-size: 16px; padding: .6em 1em; border-left: 6px solid }
#verdict.good { border-color: #2a7 } #verdict.bad { border-color: #c22 }
#tip { position: fixed; background: #222; color: #fff; padding: .5em .8em; font: 12px monospace;
       white-space: pre; pointer-events: none; display: none; border-radius: 4px; z-index: 1 }
#scale span { display: inline-block; padding: 1px 8px; font-size: 12px }
</style></head><body>
<h1>ab-check</h1><p id="sides"></p><p id="verdict"></p><div id="notices"></div>
<p>Colour: misfit, the worst difference over its bound. Over 1 is out of bounds (framed).
<span id="scale"></span></p><div id="maps"></div><div id="tip"></div>
<script type="application/json" id="data">)html";

constexpr std::string_view kAfterData = R"html(</script>
<script>
const report = JSON.parse(document.getElementById('data').textContent);
const text = (id, value) => { document.getElementById(id).textContent = value; };
text('sides', `ref: ${report.ref} | got: ${report.got} | ${report.tokens} tokens, ${report.layers} layers`);
text('verdict', report.verdict);
document.getElementById('verdict').className = report.within ? 'good' : 'bad';
for (const notice of report.notices) {
  const line = document.createElement('p');
  line.textContent = `notice: ${notice}`; document.getElementById('notices').append(line);
}
// Misfit 1e-3 and less is white, 1 is orange, 1e3 and more or not finite is dark red.
function colour(misfit) {
  const x = misfit === null ? 1 : Math.min(1, Math.max(0, (Math.log10(misfit + 1e-9) + 3) / 6));
  const stops = [[255, 255, 229], [254, 153, 41], [102, 0, 17]];
  const i = x < .5 ? 0 : 1, f = x < .5 ? x * 2 : x * 2 - 1;
  return `rgb(${stops[i].map((c, k) => Math.round(c + f * (stops[i + 1][k] - c))).join()})`;
}
for (const m of [.001, .03, 1, 30, 1000]) {
  const sample = document.createElement('span');
  sample.textContent = m; sample.style.background = colour(m);
  if (m > 1) sample.style.color = '#fff';
  document.getElementById('scale').append(sample);
}
const tip = document.getElementById('tip');
const number = (x) => x === null ? 'not finite' : Number(x.toPrecision(6)).toString();
function describe(tap) {
  const keys = ['misfit', 'relative_l2', 'bound', 'cosine', 'scale', 'max_ref', 'max_got', 'max_diff',
                'nan_ref', 'nan_got', 'inf_ref', 'inf_got'];
  return `${tap.module} [${tap.shape}]\n` +
      keys.map((k) => `${k.padEnd(12)} ${number(tap[k])}`).join('\n');
}
function operation(tap) {
  const inner = tap.module.match(/^model\.layers\.\d+\.?(.*)$/);
  return inner ? inner[1] || 'output' : tap.module;
}
function map(title, taps) {
  if (taps.length === 0) return;
  const operations = [...new Set(taps.map(operation))], layers = [...new Set(taps.map((t) => t.layer))];
  const heading = document.createElement('h2'), table = document.createElement('table');
  heading.textContent = title;
  const head = table.createTHead().insertRow();
  head.append(document.createElement('th'));
  for (const name of operations) {
    const cell = document.createElement('th'); cell.textContent = name; head.append(cell);
  }
  const body = table.createTBody();
  for (const layer of layers) {
    const row = body.insertRow(), label = document.createElement('th');
    label.textContent = layer < 0 ? 'embedding' : layer >= report.layers ? 'head' : layer;
    row.append(label);
    for (const name of operations) {
      const cell = row.insertCell(), tap = taps.find((t) => t.layer === layer && operation(t) === name);
      if (!tap) { cell.className = 'none'; continue; }
      cell.style.background = colour(tap.misfit);
      if (!tap.within) cell.className = 'out';
      cell.onmousemove = (e) => {
        tip.style.display = 'block'; tip.textContent = describe(tap);
        tip.style.left = Math.min(e.clientX + 14, innerWidth - 380) + 'px';
        tip.style.top = Math.min(e.clientY + 14, innerHeight - 240) + 'px';
      };
      cell.onmouseleave = () => { tip.style.display = 'none'; };
    }
  }
  document.getElementById('maps').append(heading, table);
}
map("isolated: every operation of got on ref's values", report.isolated);
map('chained: each path on its own', report.chained);
</script></body></html>
)html";

}  // namespace

std::string to_html(const AbReport& report) {
  auto json = to_json(report);
  json["verdict"] = verdict(report);
  return std::string(kBeforeData) + html_data(json) + std::string(kAfterData);
}

}  // namespace qf::cli
