#include "ab_check_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string_view>
#include <vector>

#include "app.h"

namespace qf::cli {
namespace {

constexpr int kNameWidth = 42;

nlohmann::json to_json(const TapResult& tap) {
  const TapStatistics& s = tap.statistics;
  return {{"module", tap.module},         {"layer", tap.layer},   {"shape", tap.shape},
          {"max_ref", s.max_ref},         {"max_got", s.max_got}, {"max_diff", s.max_diff},
          {"relative_l2", s.relative_l2}, {"cosine", s.cosine},   {"scale", s.scale},
          {"nan_ref", s.nan_ref},         {"nan_got", s.nan_got}, {"inf_ref", s.inf_ref},
          {"inf_got", s.inf_got},         {"bound", tap.bound},   {"misfit", tap.misfit},
          {"within", tap.within()}};
}

nlohmann::json to_json(const std::vector<TapResult>& taps) {
  auto rows = nlohmann::json::array();
  for (const TapResult& tap : taps) rows.push_back(to_json(tap));
  return rows;
}

std::string non_finite(const TapStatistics& s) {
  if (s.nan_ref + s.nan_got + s.inf_ref + s.inf_got == 0) return "";
  return fmt::format("  NaN {} -> {}, Inf {} -> {}", s.nan_ref, s.nan_got, s.inf_ref, s.inf_got);
}

std::string row(const TapResult& tap) {
  const TapStatistics& s = tap.statistics;
  return fmt::format(
      "{:{}} {:>14} {:9.3g} {:9.3g} {:9.2e} {:9.2e} {:9.2e} {:9.2e} {:10.7f} {:12.6g}{}{}\n",
      tap.module, kNameWidth, fmt::format("{}", fmt::join(tap.shape, "x")), s.max_ref, s.max_got,
      s.max_diff, s.relative_l2, tap.bound, tap.misfit, s.cosine, s.scale, non_finite(s),
      tap.within() ? "" : "  <-- out of bounds");
}

bool worst_of_its_layer(const std::vector<TapResult>& taps, std::size_t index) {
  for (std::size_t i = 0; i < taps.size(); ++i) {
    if (taps[i].layer != taps[index].layer) continue;
    if (taps[i].misfit > taps[index].misfit) return false;
    // Of equals the last: the layer's output.
    if (taps[i].misfit == taps[index].misfit && i > index) return false;
  }
  return true;
}

std::string table(std::string_view title, const std::vector<TapResult>& taps, bool all_taps) {
  if (taps.empty()) return "";
  std::string text = fmt::format("\n{}\n", title);
  text += fmt::format("{:{}} {:>14} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>12}\n", "module",
                      kNameWidth, "shape", "max|ref|", "max|got|", "max|diff|", "rel. L2", "bound",
                      "misfit", "cosine", "got = s*ref");
  for (std::size_t i = 0; i < taps.size(); ++i) {
    if (all_taps || !taps[i].within() || worst_of_its_layer(taps, i)) text += row(taps[i]);
  }
  return text;
}

// Empty, or a sentence about why there are fewer chained taps than isolated ones.
std::string why_ended(const AbReport& report) {
  if (!report.exploded) return "";
  const TapResult& last = report.chained.back();
  return fmt::format("; the chained comparison ended at {}, {}", last.module,
                     last.statistics.non_finite_agree
                         ? "whose relative L2 exceeds --explosion-rel"
                         : "which is NaN or infinite on one side only");
}

}  // namespace

nlohmann::json to_json(const AbReport& report) {
  nlohmann::json json{{"ref", report.ref},
                      {"got", report.got},
                      {"tokens", report.tokens},
                      {"layers", report.layers},
                      {"stopped_early", report.stopped_early},
                      {"exploded", report.exploded},
                      {"isolated", to_json(report.isolated)},
                      {"chained", to_json(report.chained)},
                      {"weights", report.weights},
                      {"differing_weights", nlohmann::json::array()},
                      {"notices", report.notices},
                      {"within", !report.finding},
                      {"finding", nullptr}};
  for (const WeightDifference& weight : report.differing_weights) {
    json["differing_weights"].push_back({{"module", weight.module},
                                         {"layer", weight.layer},
                                         {"how", weight.how},
                                         {"allowed", weight.allowed}});
  }
  if (report.finding) {
    json["finding"] = {{"module", report.finding->module},
                       {"layer", report.finding->layer},
                       {"class", fault_class_name(report.finding->fault_class)},
                       {"evidence", report.finding->evidence}};
  }
  return json;
}

std::string verdict(const AbReport& report) {
  if (report.finding) {
    return fmt::format("first layer out of bounds: {}; likely {}: {}{}", report.finding->module,
                       fault_class_name(report.finding->fault_class), report.finding->evidence,
                       why_ended(report));
  }
  return fmt::format("within bounds: {} taps isolated, {} chained{}{}", report.isolated.size(),
                     report.chained.size(),
                     report.stopped_early ? ", stopped by --ab-max-calls" : "", why_ended(report));
}

std::string to_text(const AbReport& report, bool all_taps) {
  std::string text =
      fmt::format("ref: {}\ngot: {}\n{} tokens, {} layers; {}\n", printable(report.ref),
                  printable(report.got), report.tokens, report.layers,
                  all_taps ? "every tap" : "of each layer the tap with the largest misfit");
  text += table("isolated: every operation of got on ref's values", report.isolated, all_taps);
  text += table("chained: each path on its own", report.chained, all_taps);
  text += "\n";
  for (const std::string& notice : report.notices) {
    text += fmt::format("notice: {}\n", printable(notice));
  }
  return text + verdict(report) + "\n";
}

}  // namespace qf::cli
