#include "qwen3fp4/run/convert.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "convert_plan.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/memory/host_cap.h"
#include "qwen3fp4/model/packed_entries.h"
#include "qwen3fp4/quant/parallel.h"
#include "qwen3fp4/quant/quantize.h"

namespace qf {
namespace {

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

DType dense_dtype(WeightFormat format) {
  return format == WeightFormat::kBF16  ? DType::kBF16
         : format == WeightFormat::kF16 ? DType::kF16
                                        : DType::kF32;
}

at::ScalarType dense_scalar_type(WeightFormat format) {
  return format == WeightFormat::kBF16  ? at::kBFloat16
         : format == WeightFormat::kF16 ? at::kHalf
                                        : at::kFloat;
}

// NaN and infinities survive minimum and maximum; no copy of the tensor is made.
bool all_finite(const at::Tensor& values) {
  const auto [low, high] = at::aminmax(values);
  return std::isfinite(low.item<float>()) && std::isfinite(high.item<float>());
}

// Values compared or rounded at a time: beside the tensor at hand no second copy of it is held.
constexpr std::int64_t kPiece = std::int64_t{1} << 20;

// Calls use(piece) for consecutive pieces of the flattened, contiguous tensor.
template <class Use>
void for_each_piece(const at::Tensor& values, const Use& use) {
  const auto flat = values.view({-1});
  for (std::int64_t first = 0; first < flat.numel(); first += kPiece) {
    check_stop_request();
    use(flat.narrow(0, first, std::min(kPiece, flat.numel() - first)));
  }
}

double sum_of_squares(const at::Tensor& values) {
  double sum = 0;
  for_each_piece(values, [&sum](const at::Tensor& piece) {
    sum += piece.to(at::kDouble).square_().sum().item<double>();
  });
  return sum;
}

double sum_of_squares(const WeightMatrix& weight) {
  const auto step = std::max<std::int64_t>(1, kPiece / weight.in_features());
  double sum = 0;
  for (std::int64_t first = 0; first < weight.out_features(); first += step) {
    sum += sum_of_squares(
        weight.dequantize_rows(first, std::min(step, weight.out_features() - first)));
  }
  return sum;
}

// Writes one planned tensor after another and keeps the account of errors and bytes.
class Converter {
 public:
  Converter(const CheckpointSource& source, const ConvertOptions& options, DatWriter& out)
      : source_(source), options_(options), out_(out) {}

  void convert(const PlannedTensor& planned) {
    const StoppableLoops loops;
    const std::int64_t bytes_before = bytes_;
    squares_ = errors_ = 0;
    switch (planned.format) {
      case WeightFormat::kNvfp4:
      case WeightFormat::kNf4:
        write_packed(planned);
        break;
      case WeightFormat::kF32:
      case WeightFormat::kF16:
      case WeightFormat::kBF16:
        write_dense(planned);
        break;
    }
    account(planned, bytes_ - bytes_before);
    give_back_free_pages();
  }

  [[nodiscard]] ConvertReport finish() {
    ConvertReport report;
    for (auto& [family, sums] : families_) {
      family.relative_rms_error = sums.squares > 0 ? std::sqrt(sums.errors / sums.squares) : 0.0;
      report.families.push_back(family);
    }
    report.bytes = bytes_;
    return report;
  }

 private:
  struct Sums {
    double squares = 0, errors = 0;
  };

  [[nodiscard]] at::Tensor read(const PlannedTensor& planned) const {
    auto values = source_.read_f32(*planned.source);
    QF_CHECK(all_finite(values), "{}: {}: expected finite values, found NaN or infinity",
             source_.name(), planned.source->name_in_file);
    return values;
  }

  void write_dense(const PlannedTensor& planned) {
    const auto values = read(planned);
    out_.begin(planned.spec.name, dense_dtype(planned.format), planned.spec.shape);
    for_each_piece(values, [&](const at::Tensor& piece) {
      const auto stored = piece.to(dense_scalar_type(planned.format));
      QF_CHECK(all_finite(stored), "{}: {}: holds values too large for {} (--format f32)",
               source_.name(), planned.source->name_in_file, weight_format_name(planned.format));
      squares_ += sum_of_squares(piece);
      if (stored.scalar_type() != at::kFloat) {
        errors_ += sum_of_squares(stored.to(at::kFloat).sub_(piece));
      }
      out_.append(bytes_of(stored));
      bytes_ += static_cast<std::int64_t>(stored.nbytes());
    });
  }

  void write_packed(const PlannedTensor& planned) {
    if (const auto copied = copyable(planned)) {
      QF_CHECK(
          options_.column_weights.empty(),
          "{}: {}: expected a weight to quantise, found {} already (--calibrate needs the model "
          "before that)",
          source_.name(), planned.source->name_in_file, planned.source->stored_type);
      squares_ = sum_of_squares(*copied);
      write_weight(planned.spec.name, *copied);
      return;
    }
    const auto values = read(planned);
    squares_ = sum_of_squares(values);
    const auto weight = planned.format == WeightFormat::kNvfp4
                            ? quantize_nvfp4(values, {.search = options_.search_scales,
                                                      .two_level = !options_.compat,
                                                      .column_weights = column_weights(planned)})
                            : quantize_nf4(values);
    errors_ = std::pow(relative_rms_error(weight, values), 2) * squares_;
    write_weight(planned.spec.name, weight);
  }

  [[nodiscard]] at::Tensor column_weights(const PlannedTensor& planned) const {
    if (options_.column_weights.empty()) return {};
    const auto found = options_.column_weights.find(planned.spec.name);
    QF_CHECK(found != options_.column_weights.end(), "{}: expected column weights, found none",
             planned.spec.name);
    return found->second;
  }

  // The source's own codes and scales, where the result can hold them as they are.
  [[nodiscard]] std::optional<WeightMatrix> copyable(const PlannedTensor& planned) const {
    auto packed = source_.read_packed(*planned.source);
    if (!packed || packed->format() != planned.format) return std::nullopt;
    if (planned.format == WeightFormat::kNvfp4) {
      if (packed->scales().scalar_type() != at::kByte) return std::nullopt;
      if (options_.compat && packed->global_scale() != 1.0F) return std::nullopt;
    }
    return packed;
  }

  void write_weight(const std::string& name, const WeightMatrix& weight) {
    bytes_ += qf::write_weight(out_, name, weight, /*tensor_scale=*/!options_.compat);
  }

  void account(const PlannedTensor& planned, std::int64_t bytes) {
    const auto stored_as = weight_format_name(planned.format);
    auto found = std::find_if(families_.begin(), families_.end(), [&](const auto& entry) {
      return entry.first.name == planned.family;
    });
    if (found == families_.end()) {
      families_.push_back({{.name = planned.family, .stored_as = std::string(stored_as)}, {}});
      found = std::prev(families_.end());
    }
    auto& [family, sums] = *found;
    if (family.stored_as != stored_as) family.stored_as = "mixed";
    family.tensors += 1;
    family.values += element_count(planned.spec.shape);
    family.bytes += bytes;
    sums.squares += squares_;
    sums.errors += errors_;
  }

  const CheckpointSource& source_;
  const ConvertOptions& options_;
  DatWriter& out_;
  std::vector<std::pair<ConvertedFamily, Sums>> families_;
  std::int64_t bytes_ = 0;
  double squares_ = 0, errors_ = 0;  // of the tensor at hand
};

void write_papers(const CheckpointSource& source, const ConvertPlan& plan,
                  const std::filesystem::path& folder) {
  if (plan.config_json_changed()) {
    auto config = nlohmann::ordered_json::parse(source.config_json());
    config["tie_word_embeddings"] = false;
    write_text_file(folder / "config.json", config.dump(2) + "\n");
  } else {
    write_text_file(folder / "config.json", source.config_json());
  }
  for (const auto& file : source.side_files()) write_text_file(folder / file.name, file.text);
}

// "models/x/" is the folder "models/x".
std::filesystem::path folder_path(const std::filesystem::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

// The largest tensor in f32, and beside it the most of what there is one after the other: the bytes
// as they are read; pieces that are rounded and compared, in double too; the packed weight, with
// the rows that are compared with it in double.
MemoryPlan plan_conversion_memory(const CheckpointSource& source) {
  constexpr std::int64_t kCompared = 3 * 8;
  std::int64_t most = 0;
  for (const CheckpointTensor& tensor : source.tensors()) {
    const std::int64_t values = element_count(tensor.shape);
    // f32 is read to where it stays, and rounded to nothing else.
    const bool rounds = tensor.stored_type != weight_format_name(WeightFormat::kF32);
    const std::int64_t piece_bytes = rounds ? 2 + 4 + 8 : 8;  // a value
    std::int64_t beside =
        std::max(rounds ? tensor.bytes : 0, std::min(values, kPiece) * piece_bytes);
    if (tensor.shape.size() == 2) {
      const std::int64_t rows = std::min(tensor.shape[0], kErrorChunkRows);
      beside = std::max(beside, values / 2 + values / 16 + rows * tensor.shape[1] * kCompared);
    }
    most = std::max(most, values * 4 + beside);
  }
  MemoryPlan plan;
  plan.libraries = kConversionLibraries;
  plan.phases = {{"a tensor: in f32, and as it is read, compared and written", most}};
  return plan;
}

void check_conversion(const CheckpointSource& source, const std::filesystem::path& destination,
                      const ConvertOptions& options) {
  const auto target = folder_path(destination);
  check_destination(source.name(), target, options.replace);
  (void)plan_conversion(source, options);
  const AtomicFolder unwritable_places_throw(target, options.replace);
}

ConvertReport convert_checkpoint(const CheckpointSource& source,
                                 const std::filesystem::path& destination,
                                 const ConvertOptions& options, const ConvertProgress& progress) {
  const auto target = folder_path(destination);
  check_destination(source.name(), target, options.replace);
  const auto plan = plan_conversion(source, options);
  AtomicFolder folder(target, options.replace);
  DatWriter out(folder.staging() / "model.dat", plan.entry_count);
  Converter converter(source, options, out);
  std::int64_t done = 0;
  for (const auto& planned : plan.tensors) {
    if (progress) progress(done, plan.values, planned.spec.name);
    converter.convert(planned);
    done += element_count(planned.spec.shape);
  }
  if (progress) progress(done, plan.values, {});
  out.finish();
  write_papers(source, plan, folder.staging());
  folder.commit();

  auto report = converter.finish();
  report.head_untied = plan.unties_head;
  report.notes = source.notes();
  return report;
}

}  // namespace qf
