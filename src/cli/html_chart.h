#pragma once

#include <string_view>

namespace qf::cli {

// What the pages with curves share, to stand in their <style> and at the top of their <script>.
// The script defines:
//   $(id)                    the page's element
//   row(table, cells, head)  adds a line of texts and elements; what ends in a unit of bytes is
//                            aligned right; `head`: of headings
//   lines(svg, options, series)
//     draws curves into an <svg>, and returns {X, Y, line, label} to draw more on the same scales.
//     series: [[name, colour, [[x, y], ...]], ...], where y may be null: not seen.
//     options: {width, height, left, x: [from, to], y: [from, to], ticks, mark(y), xMark(x)}
//   key(parent, series)      names the curves in their colours
extern const std::string_view kChartStyle;
extern const std::string_view kChartScript;

}  // namespace qf::cli
