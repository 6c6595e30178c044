#include "weight_difference.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "error_scale.h"

namespace qf {
namespace {

bool same_stored(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() == b.defined() &&
         (!a.defined() ||
          (a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && at::equal(a, b)));
}

// A NaN differs from a number, not from a NaN.
at::Tensor differing(const at::Tensor& a, const at::Tensor& b) {
  auto unlike = a.ne(b);
  if (at::isFloatingType(a.scalar_type())) {
    unlike.logical_and_((at::isnan(a) & at::isnan(b)).logical_not());
  }
  return unlike;
}

std::string number(const at::Tensor& value) {
  return at::isFloatingType(value.scalar_type()) ? fmt::format("{:.6g}", value.item<double>())
                                                 : fmt::format("{}", value.item<std::int64_t>());
}

// "3 of 5184 block scales (first at [2, 7]: 107, in b 126)"; empty where they are alike.
std::string changed(std::string_view what, const at::Tensor& a, const at::Tensor& b) {
  // NF4's codes may be stored in any shape.
  if (a.sizes() != b.sizes()) return changed(what, a.flatten(), b.flatten());
  const auto places = differing(a, b).nonzero();
  if (places.size(0) == 0) return "";
  std::vector<std::int64_t> place;
  at::Tensor from = a;
  at::Tensor to = b;
  for (std::int64_t d = 0; d < places.size(1); ++d) {
    place.push_back(places[0][d].item<std::int64_t>());
    from = from.select(0, place.back());
    to = to.select(0, place.back());
  }
  return fmt::format("{} of {} {} (first at [{}]: {}, in b {})", places.size(0), a.numel(), what,
                     fmt::join(place, ", "), number(from), number(to));
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) {
    if (!part.empty()) text += (text.empty() ? "" : ", ") + part;
  }
  return text;
}

bool has_block_scales(WeightFormat format) {
  return format == WeightFormat::kNvfp4 || format == WeightFormat::kNf4;
}

std::string_view rope_type_name(RopeType type) {
  switch (type) {
    case RopeType::kDefault:
      return "default";
    case RopeType::kLinear:
      return "linear";
    case RopeType::kYarn:
      return "yarn";
  }
  return "";
}

}  // namespace

bool same_values(const at::Tensor& a, const at::Tensor& b) {
  return same_stored(a, b) || !differing(a, b).any().item<bool>();
}

bool same_values(const WeightMatrix& a, const WeightMatrix& b) {
  if (a.format() == b.format() && a.global_scale() == b.global_scale() &&
      same_stored(a.codes(), b.codes()) && same_stored(a.scales(), b.scales()) &&
      same_stored(a.code_book(), b.code_book())) {
    return true;
  }
  constexpr std::int64_t kTileRows = 2048;
  for (std::int64_t first = 0; first < a.out_features(); first += kTileRows) {
    const std::int64_t count = std::min(kTileRows, a.out_features() - first);
    if (!same_values(a.dequantize_rows(first, count), b.dequantize_rows(first, count))) {
      return false;
    }
  }
  return true;
}

bool of_unlike_formats(const at::Tensor& a_norm, const at::Tensor& b_norm) {
  return stored_unit(a_norm) != stored_unit(b_norm);
}

bool of_unlike_formats(const WeightMatrix& a, const WeightMatrix& b) {
  if (a.format() != b.format()) return true;
  if (a.format() == WeightFormat::kNf4) return a.nf4_view().block != b.nf4_view().block;
  return a.format() == WeightFormat::kNvfp4 && a.scales().scalar_type() != b.scales().scalar_type();
}

std::string describe_difference(const at::Tensor& a_norm, const at::Tensor& b_norm) {
  return changed("values", a_norm, b_norm);
}

std::string describe_difference(const WeightMatrix& a, const WeightMatrix& b) {
  if (a.format() != b.format()) {
    return fmt::format("{}, in b {}", weight_format_name(a.format()),
                       weight_format_name(b.format()));
  }
  if (!has_block_scales(a.format())) {
    return changed("values", a.dense_values(), b.dense_values());
  }
  if (of_unlike_formats(a, b)) return "other blocks or another type of block scales";
  std::vector<std::string> parts;
  if (a.global_scale() != b.global_scale()) {
    parts.push_back(fmt::format("tensor scale {:.6g} times ({:.6g}, in b {:.6g})",
                                b.global_scale() / a.global_scale(), a.global_scale(),
                                b.global_scale()));
  }
  parts.push_back(changed("block scales", a.scales(), b.scales()));
  if (b.scales().ne(0).any().item<bool>() != a.scales().ne(0).any().item<bool>()) {
    parts.push_back(
        fmt::format("all of {}'s are 0", b.scales().ne(0).any().item<bool>() ? "a" : "b"));
  }
  parts.push_back(changed("bytes of codes", a.codes(), b.codes()));
  if (a.code_book().defined()) {
    parts.push_back(changed("values of the code book", a.code_book(), b.code_book()));
  }
  return joined(parts);
}

std::string describe_difference(const ModelConfig& a, const ModelConfig& b) {
  std::vector<std::string> parts;
  const auto compare = [&](std::string_view field, const auto& x, const auto& y) {
    if (x != y) parts.push_back(fmt::format("{} {} and {}", field, x, y));
  };
  compare("rms_norm_eps", a.rms_norm_eps, b.rms_norm_eps);
  compare("rope_theta", a.rope.theta, b.rope.theta);
  compare("rope type", rope_type_name(a.rope.type), rope_type_name(b.rope.type));
  if (a.rope.type != RopeType::kDefault || b.rope.type != RopeType::kDefault) {
    compare("rope factor", a.rope.factor, b.rope.factor);
  }
  if (a.rope.type == RopeType::kYarn && b.rope.type == RopeType::kYarn) {
    compare("rope original_max_position_embeddings", a.rope.original_max_position_embeddings,
            b.rope.original_max_position_embeddings);
    compare("rope beta_fast", a.rope.beta_fast, b.rope.beta_fast);
    compare("rope beta_slow", a.rope.beta_slow, b.rope.beta_slow);
    compare("rope attention_factor", a.rope.attention_factor, b.rope.attention_factor);
    compare("rope truncate", a.rope.truncate, b.rope.truncate);
  }
  return joined(parts);
}

}  // namespace qf
