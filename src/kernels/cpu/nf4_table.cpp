#include "qwen3fp4/kernels/nf4_table.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace qf {
namespace {

// What is tried: the largest level's magnitude in coarse steps over an octave, so that it needs
// about all of a byte, and fine steps near enough to a coarse one that 128 of them, modulo it, lie
// everywhere.
constexpr int kSizes = 4096;
constexpr double kSmallestSize = 96;
constexpr int kSteps = 64;
constexpr double kSmallestStep = 0.25;
constexpr double kLargestStep = 1.9;

constexpr double kNever = std::numeric_limits<double>::infinity();

struct Fit {
  double error = kNever;  // in coarse steps
  int coarse = 0, fine = 0;
  [[nodiscard]] unsigned signs() const { return (coarse < 0 ? 2U : 0U) + (fine < 0 ? 1U : 0U); }
};
constexpr unsigned kSigns = 4;

Fit fit_of(double value, double step, int fine) {
  const double rest = value - step * fine;
  const int coarse = static_cast<int>(rest + 1024.5) - 1024;  // to nearest
  if (coarse < -128 || coarse > 127) return {};
  return {std::abs(rest - coarse), coarse, fine};
}

using Fits = std::array<Fit, 16>;

// Every level as a code from 8 on can hold it.
Fits upper_fits(const std::array<double, 16>& levels, double size, double step) {
  Fits fits;
  for (std::size_t l = 0; l < 16; ++l) {
    const Fit plain = fit_of(levels[l] * size, step, 0);
    const Fit less = fit_of(levels[l] * size, step, -1);
    fits[l] = less.error < plain.error ? less : plain;
  }
  return fits;
}

// A level as a code below 8 can hold it, for each pair of signs.
std::array<Fit, kSigns> lower_fits(double value, double step) {
  std::array<Fit, kSigns> best;
  if (value == 0) {
    best[0] = {0, 0, 0};
    return best;
  }
  for (int fine = -128; fine < 128; ++fine) {
    const Fit fit = fit_of(value, step, fine);
    Fit& other = best[fit.signs()];
    if (fit.error < other.error) other = fit;
  }
  return best;
}

// Which lower code goes with which upper one: a matching by signs, of errors below a limit.
class Matching {
 public:
  Matching(const std::array<std::array<Fit, kSigns>, 8>& lower, const std::array<Fit, 8>& upper,
           double limit)
      : lower_(lower), upper_(upper), limit_(limit) {
    upper_of_.fill(kFree);
  }
  [[nodiscard]] bool find() {
    for (std::size_t u = 0; u < 8; ++u) {
      tried_ = 0;
      if (!place(u)) return false;
    }
    return true;
  }
  [[nodiscard]] std::size_t upper_of(std::size_t lower) const { return upper_of_[lower]; }

 private:
  static constexpr std::size_t kFree = 8;

  bool place(std::size_t upper) {
    for (std::size_t l = 0; l < 8; ++l) {
      const bool fits = lower_[l][upper_[upper].signs()].error < limit_;
      if (!fits || (tried_ >> l & 1U) != 0) continue;
      tried_ |= 1U << l;
      if (upper_of_[l] == kFree || place(upper_of_[l])) {
        upper_of_[l] = upper;
        return true;
      }
    }
    return false;
  }

  const std::array<std::array<Fit, kSigns>, 8>& lower_;
  const std::array<Fit, 8>& upper_;
  double limit_;
  std::array<std::size_t, 8> upper_of_{};
  unsigned tried_ = 0;
};

struct Choice {
  double error = kNf4TableError;  // relative to the largest level: any choice must be better
  double size = 0, step = 0;
  Fits fits;                            // by level
  std::array<std::size_t, 16> level{};  // by code
};

// The eight levels that fit best with a fine byte of 0 or -1 go to the upper codes.
void try_choice(const std::array<double, 16>& levels, double size, double step, Choice& best) {
  const Fits upper = upper_fits(levels, size, step);
  const double limit = best.error * size;
  const auto fitting = std::count_if(upper.begin(), upper.end(),
                                     [limit](const Fit& fit) { return fit.error < limit; });
  if (fitting < 8) return;
  std::array<std::size_t, 16> order{};
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return upper[a].error < upper[b].error; });
  std::array<Fit, 8> uppers;
  std::array<std::array<Fit, kSigns>, 8> lowers;
  for (std::size_t i = 0; i < 8; ++i) {
    uppers[i] = upper[order[i]];
    lowers[i] = lower_fits(levels[order[8 + i]] * size, step);
  }
  Matching matching(lowers, uppers, limit);
  if (!matching.find()) return;
  best.size = size;
  best.step = step;
  double worst = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    const std::size_t u = matching.upper_of(i);
    best.level[i] = order[8 + i];
    best.level[8 + i] = order[u];
    best.fits[order[8 + i]] = lowers[i][uppers[u].signs()];
    best.fits[order[u]] = uppers[u];
    worst = std::max({worst, uppers[u].error, best.fits[order[8 + i]].error});
  }
  best.error = worst / size;
}

void set_byte(std::uint32_t (&words)[2], std::size_t index, int value) {
  words[index / 4] |= (static_cast<std::uint32_t>(value) & 0xFFU) << (8 * (index % 4));
}

Nf4Table table_of(const Choice& choice, double largest) {
  Nf4Table table{};
  table.fine_step = static_cast<float>(choice.step);
  table.factor = static_cast<float>(largest / choice.size);
  for (std::size_t i = 0; i < 8; ++i) {
    const Fit& lower = choice.fits[choice.level[i]];
    const int upper = choice.fits[choice.level[8 + i]].coarse;
    set_byte(table.lower, i, lower.coarse);
    set_byte(table.upper, 7 - i, upper < 0 ? ~upper : upper);
    set_byte(table.fine, i, lower.fine);
  }
  for (std::size_t code = 0; code < 16; ++code) {
    table.code_of |= std::uint64_t{code} << (4 * choice.level[code]);
  }
  return table;
}

}  // namespace

bool make_nf4_table(const std::array<float, 16>& code_book, Nf4Table& table) {
  double largest = 0;
  for (const float level : code_book) {
    if (!std::isfinite(level)) return false;
    largest = std::max(largest, std::abs(double{level}));
  }
  if (!(largest >= 0x1p-100 && largest <= 0x1p100)) return false;
  std::array<double, 16> levels{};
  for (std::size_t l = 0; l < 16; ++l) levels[l] = code_book[l] / largest;
  Choice best;
  for (int s = 0; s < kSteps; ++s) {
    // What the kernel multiplies with is the rounded step.
    const auto step = static_cast<float>(
        kSmallestStep * std::pow(kLargestStep / kSmallestStep, (s + 0.5) / kSteps));
    for (int i = 0; i < kSizes; ++i) {
      try_choice(levels, kSmallestSize * std::exp2((i + 0.5) / kSizes), step, best);
    }
  }
  if (best.size == 0) return false;
  table = table_of(best, largest);
  return true;
}

std::array<float, 16> papers_nf4_book() {
  std::array<float, 16> book{};
  for (unsigned i = 0; i < 16; ++i) book[i] = nf4_to_float(i);
  return book;
}

const Nf4Table& papers_nf4_table() {
  static const Nf4Table kTable = [] {
    Nf4Table made{};
    if (!make_nf4_table(papers_nf4_book(), made)) {
      throw std::logic_error("the search found no table for NF4's usual code book");
    }
    return made;
  }();
  return kTable;
}

std::array<float, 16> levels_by_code(const std::array<float, 16>& code_book,
                                     const Nf4Table& table) {
  std::array<float, 16> levels{};
  for (std::uint32_t l = 0; l < 16; ++l) levels[nf4_code_of(table.code_of, l)] = code_book[l];
  return levels;
}

}  // namespace qf
