#include "three_path_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "app.h"

namespace qf::cli {
namespace {

// The token's text in quotation marks, as JSON writes it; empty without a tokenizer or a token.
std::string quoted(const Tokenizer* tokenizer, std::int64_t id) {
  if (tokenizer == nullptr || !tokenizer->has_token(id)) return "";
  return nlohmann::json(tokenizer->token_bytes(id))
      .dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

nlohmann::json text_of(const Tokenizer* tokenizer, std::int64_t id) {
  if (tokenizer == nullptr || !tokenizer->has_token(id)) return nullptr;
  return tokenizer->token_bytes(id);
}

std::string cell(const FirstToken& path, std::size_t rank, const Tokenizer* tokenizer) {
  if (rank >= path.top.size()) return "";
  const RankedToken& token = path.top[rank];
  return fmt::format("{:>7} {:>8.4f} {:>7.3f} % {}", token.id, token.logit, 100 * token.probability,
                     quoted(tokenizer, token.id));
}

// Code points, which terminals mostly show in a column each.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string rankings(const ThreePathReport& report, const Tokenizer* tokenizer) {
  constexpr std::size_t kColumn = 42;
  const auto padded = [](std::string text) {
    const std::size_t width = width_of(text);
    if (width < kColumn) text.append(kColumn - width, ' ');
    return text + " ";
  };
  const auto line = [](std::string text) {
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  };
  std::string head(4, ' ');
  std::string units(4, ' ');
  for (const FirstToken& path : report.paths) {
    head += padded(std::string(path.route) + (path.finite ? "" : ": not finite"));
    units += padded(fmt::format("{:>7} {:>8} {:>9} {}", "id", "logit", "share", "text"));
  }
  std::string text = line(head) + line(units);
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(kTopTokens); ++rank) {
    std::string row = fmt::format("{:>3} ", rank + 1);
    for (const FirstToken& path : report.paths) row += padded(cell(path, rank, tokenizer));
    text += line(row);
  }
  return text;
}

}  // namespace

nlohmann::json to_json(const ThreePathReport& report, const Tokenizer* tokenizer,
                       const WhyNot& why_not) {
  auto paths = nlohmann::json::array();
  for (const FirstToken& path : report.paths) {
    auto top = nlohmann::json::array();
    for (const RankedToken& token : path.top) {
      top.push_back({{"id", token.id},
                     {"logit", token.logit},
                     {"probability", token.probability},
                     {"text", text_of(tokenizer, token.id)}});
    }
    nlohmann::json chosen = nullptr;
    if (path.chosen >= 0) {
      chosen = {{"id", path.chosen}, {"text", text_of(tokenizer, path.chosen)}};
    }
    paths.push_back({{"route", path.route},
                     {"path", path.name},
                     {"finite", path.finite},
                     {"chosen", chosen},
                     {"top", top}});
  }
  auto pairs = nlohmann::json::array();
  for (const FirstTokenPair& pair : report.pairs) {
    pairs.push_back({{"first", report.paths[pair.first].route},
                     {"second", report.paths[pair.second].route},
                     {"overlap", pair.overlap},
                     {"kl", pair.kl},
                     {"kl_back", pair.kl_back},
                     {"relative_l2", pair.relative_l2}});
  }
  nlohmann::json json{{"tokens", report.tokens}, {"paths", paths},
                      {"pairs", pairs},          {"bound", report.bound},
                      {"misfit", report.misfit}, {"within", report.within()},
                      {"finding", nullptr},      {"no_ste_missing", nullptr}};
  if (report.finding) json["finding"] = report.finding->module;
  if (!why_not.empty()) json["no_ste_missing"] = why_not;
  return json;
}

std::string to_text(const ThreePathReport& report, const Tokenizer* tokenizer,
                    const WhyNot& why_not) {
  std::string text = fmt::format("the token behind a prompt of {} tokens\n", report.tokens);
  for (const FirstToken& path : report.paths) {
    text += fmt::format("{:9} {}\n", path.route, printable(path.name));
  }
  if (!why_not.empty()) text += fmt::format("{:9} did not run: {}\n", "no STE", why_not);
  text += "\n" + rankings(report, tokenizer) + "\n";
  for (const FirstTokenPair& pair : report.pairs) {
    text += fmt::format(
        "{:22} {:2} of the likeliest {} in common, KL {:.3g} and back {:.3g}, relative L2 of the "
        "logits {:.3g}\n",
        fmt::format("{}, {}:", report.paths[pair.first].route, report.paths[pair.second].route),
        pair.overlap, kTopTokens, pair.kl, pair.kl_back, pair.relative_l2);
  }
  text += "chosen:";
  for (const FirstToken& path : report.paths) {
    text += fmt::format("{} {} {} {}", &path == report.paths.data() ? "" : ",", path.route,
                        path.chosen, quoted(tokenizer, path.chosen));
  }
  return text + "\n\n" + verdict(report) + "\n";
}

std::string verdict(const ThreePathReport& report) {
  const std::string figures = fmt::format("relative L2 of the logits {:.3g}, bound {:.3g}",
                                          report.pairs.front().relative_l2, report.bound);
  if (report.within()) return "inference and STE agree: " + figures;
  return fmt::format(
      "inference and STE disagree beyond the bound: {}{}", figures,
      report.finding ? fmt::format("; first out of bounds: {}", report.finding->module) : "");
}

}  // namespace qf::cli
