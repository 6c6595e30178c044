#include "qwen3fp4/check/three_path.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/train/forward.h"
#include "tap_comparison.h"
#include "train_runner.h"

// Shapes in this file: T tokens of the prompt, D hidden_size, V vocab_size.
namespace qf {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

at::Tensor in_main_memory(const at::Tensor& logits_1V) {
  return logits_1V.to(at::kCPU, at::kFloat).view({-1});
}

// f32 [V], behind the last token.
at::Tensor inference_logits(const AbSide& side, std::span<const std::int64_t> ids) {
  // What ab-check's emulations need in main memory stays there; else as generate has it.
  const bool resident = side.path.backend == "cuda" && side.path.linear == LinearMode::kW4A16;
  const auto backend =
      resident ? make_backend(side.path.backend, side.path.dtype) : make_backend(side.path);
  const Qwen3Model model = side.model->with_backend(*backend);
  KvCache cache(model.config(), static_cast<std::int64_t>(ids.size()), backend->cache_options());
  const std::size_t whole = side.path.schedule == Schedule::kToken  ? 0
                            : side.path.schedule == Schedule::kHalf ? ids.size() / 2
                                                                    : ids.size();
  at::Tensor hidden_TD;
  if (whole > 0) hidden_TD = model.forward(ids.first(whole), cache);
  for (std::size_t i = whole; i < ids.size(); ++i) {
    hidden_TD = model.forward(ids.subspan(i, 1), cache);
  }
  return in_main_memory(model.logits(hidden_TD.narrow(0, hidden_TD.size(0) - 1, 1)));
}

at::Tensor training_logits(const AbSide& side, std::span<const std::int64_t> ids) {
  const auto backend = make_backend(side.path);
  const ModelWeights weights = frozen_weights(*side.model, *backend);
  const std::span<const std::int64_t> sequences[] = {ids};
  const PackedRows rows = RowPacker(weights.config(), backend->device()).pack(sequences);
  const auto type = scalar_type(side.path.dtype);
  const auto x_TD = run_blocks(weights, rows, type);
  const TrainingPass pass(weights, rows, type);
  return in_main_memory(pass.logits(pass.final_norm(x_TD.narrow(0, rows.count() - 1, 1))));
}

FirstToken first_token(std::string_view route, const AbSide& side, const at::Tensor& logits_V,
                       const std::vector<bool>& allowed) {
  FirstToken token{.route = route,
                   .name = side.name,
                   .finite = at::isfinite(logits_V).all().item<bool>(),
                   .top = {}};
  if (!token.finite) return token;
  const auto [sorted, order] = logits_V.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  const auto probabilities = at::softmax(sorted.to(at::kDouble), 0);
  const std::int64_t vocab = logits_V.size(0);
  for (std::int64_t i = 0; i < std::min(kTopTokens, vocab); ++i) {
    token.top.push_back({.id = order[i].item<std::int64_t>(),
                         .logit = sorted[i].item<double>(),
                         .probability = probabilities[i].item<double>()});
  }
  for (std::int64_t i = 0; i < vocab && token.chosen < 0; ++i) {
    const auto id = order[i].item<std::int64_t>();
    if (allowed.empty() || allowed.at(static_cast<std::size_t>(id))) token.chosen = id;
  }
  return token;
}

// In nats.
double divergence(const at::Tensor& from_V, const at::Tensor& to_V) {
  const auto log_p = at::log_softmax(from_V.to(at::kDouble), 0);
  const auto log_q = at::log_softmax(to_V.to(at::kDouble), 0);
  // Rounding can leave a sum that is 0 in truth just below it.
  return std::max((log_p.exp() * (log_p - log_q)).sum().item<double>(), 0.0);
}

struct Route {
  FirstToken token;
  at::Tensor logits_V;
};

FirstTokenPair pair_of(const std::vector<Route>& routes, std::size_t first, std::size_t second) {
  const Route& a = routes[first];
  const Route& b = routes[second];
  FirstTokenPair pair{.first = first, .second = second};
  for (const RankedToken& token : a.token.top) {
    pair.overlap += std::ranges::count(b.token.top, token.id, &RankedToken::id);
  }
  const bool finite = a.token.finite && b.token.finite;
  pair.kl = finite ? divergence(a.logits_V, b.logits_V) : kNan;
  pair.kl_back = finite ? divergence(b.logits_V, a.logits_V) : kNan;
  pair.relative_l2 = finite ? tap_statistics(b.logits_V, a.logits_V).relative_l2 : kNan;
  return pair;
}

void judge(const ThreePaths& paths, const std::vector<Route>& routes, const AbReport& drift,
           ThreePathReport& report) {
  const Route& inference = routes[0];
  const Route& ste = routes[1];
  if (!inference.token.finite && !ste.token.finite && !drift.finding) {
    fail(ExitCode::kNonFinite,
         "the logits behind the prompt are not finite, by {} and by {} (qwen3fp4 inspect flags "
         "wrong scales)",
         paths.inference.name, paths.ste.name);
  }
  report.finding = drift.finding;
  report.misfit = kInfinity;
  // Else it ended before, where values are finite on one side only.
  if (drift.chained.back().module == "lm_head") report.bound = drift.chained.back().bound;
  if (report.bound > 0 && inference.token.finite && ste.token.finite) {
    const auto statistics = tap_statistics(ste.logits_V, inference.logits_V);
    report.misfit = judge_chained(statistics, report.bound).misfit;
  }
}

}  // namespace

ThreePathReport three_path(const ThreePaths& paths, std::span<const std::int64_t> ids,
                           const std::vector<bool>& allowed, std::uint64_t seed,
                           const AbProgress& progress) {
  const c10::InferenceMode no_autograd;
  // First, for it checks the ids.
  const AbReport apart = ab_check(paths.ste, paths.inference, ids,
                                  {.mode = AbMode::kIsolated, .seed = seed}, progress);
  AbReport drift = ab_check(
      paths.ste, paths.inference, ids,
      {.mode = AbMode::kChained, .explosion_rel = kInfinity, .seed = seed, .last_token = true},
      progress);
  if (apart.finding) drift.finding = apart.finding;
  std::vector<Route> routes;
  const auto add = [&](std::string_view route, const AbSide& side, const at::Tensor& logits_V) {
    routes.push_back({first_token(route, side, logits_V, allowed), logits_V});
  };
  add("inference", paths.inference, inference_logits(paths.inference, ids));
  add("STE", paths.ste, training_logits(paths.ste, ids));
  if (paths.no_ste) add("no STE", *paths.no_ste, training_logits(*paths.no_ste, ids));

  ThreePathReport report{.tokens = static_cast<std::int64_t>(ids.size())};
  judge(paths, routes, drift, report);
  for (std::size_t second = 1; second < routes.size(); ++second) {
    for (std::size_t first = 0; first < second; ++first) {
      report.pairs.push_back(pair_of(routes, first, second));
    }
  }
  for (Route& route : routes) report.paths.push_back(std::move(route.token));
  return report;
}

}  // namespace qf
