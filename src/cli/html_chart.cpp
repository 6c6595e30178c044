#include "html_chart.h"

namespace qf::cli {

constexpr std::string_view kChartStyle = R"css(
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse; margin: .5em 0 2em }
th, td { text-align: left; padding: 2px 14px 2px 0; vertical-align: top; font-weight: normal }
th { color: #666 } td.number { text-align: right; font-variant-numeric: tabular-nums }
svg { background: #fafafa; display: block } text { font: 11px system-ui, sans-serif; fill: #666 }
.key { margin-right: 1.2em; white-space: nowrap }
)css";

constexpr std::string_view kChartScript = R"js(
const $ = (id) => document.getElementById(id);
const row = (table, cells, head) => {
  const line = table.insertRow();
  for (const cell of cells) {
    const c = document.createElement(head ? 'th' : 'td');
    c.append(cell); line.append(c);
    if (!head && / [GM]B$/.test(cell)) c.className = 'number';
  }
};
const element = (name, attributes, parent) => {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const key in attributes) e.setAttribute(key, attributes[key]);
  parent.append(e); return e;
};
function lines(svg, options, series) {
  const {width: W, height: H, left: L, x: [x0, x1], y: [y0, y1], ticks, mark, xMark} = options;
  const R = 10, T = 18, B = 24;
  svg.setAttribute('width', W); svg.setAttribute('height', H);
  const X = (x) => L + (x - x0) / (x1 - x0) * (W - L - R);
  const Y = (y) => H - B - (y - y0) / (y1 - y0) * (H - T - B);
  const line = (from, to, look) =>
      element('line', {x1: from[0], y1: from[1], x2: to[0], y2: to[1], ...look}, svg);
  const label = (x, y, anchor, content) => {
    const t = element('text', {x, y, 'text-anchor': anchor}, svg); t.textContent = content; return t;
  };
  for (let i = 0; i <= ticks; ++i) {
    const y = y0 + (y1 - y0) * i / ticks;
    line([L, Y(y)], [W - R, Y(y)], {stroke: '#ddd'}); label(L - 6, Y(y) + 4, 'end', mark(y));
  }
  label(L, H - 8, 'start', xMark(x0)); label(W - R, H - 8, 'end', xMark(x1));
  for (const [, colour, points] of series) {
    let path = '', pen = 'M';
    for (const [x, y] of points) {
      if (y === null) { pen = 'M'; continue; }
      path += `${pen}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`; pen = 'L';
    }
    element('path', {d: path, fill: 'none', stroke: colour, 'stroke-width': 1.5}, svg);
  }
  return {X, Y, line, label, top: T, bottom: H - B, right: W - R};
}
const key = (parent, series) => {
  for (const [name, colour] of series) {
    const k = document.createElement('span');
    k.className = 'key'; k.style.color = colour; k.textContent = `— ${name}`; parent.append(k, ' ');
  }
};
)js";

}  // namespace qf::cli
