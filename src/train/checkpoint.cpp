#include "qwen3fp4/train/checkpoint.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/dat.h"

namespace qf {
namespace {

constexpr std::string_view kPapers = "train.json";
// Bytes of a state that pass through main memory at a time.
constexpr std::int64_t kPieceBytes = std::int64_t{64} << 20;

using Json = nlohmann::ordered_json;

void for_each_state(const ModelWeights& model,
                    const std::function<void(const std::string&, at::Tensor&)>& visit) {
  model.for_each([&](const ModelWeight& weight) {
    if (weight.trained() == nullptr) return;
    weight.trained()->visit_states([&](const std::string& state, at::Tensor& tensor) {
      QF_CHECK(tensor.is_contiguous(), "{}: a state that is not contiguous", state);
      visit(fmt::format("{}/{}", weight.spec().name, state), tensor);
    });
  });
}

// libtorch's numbers of types are those of the file format.
DType stored_type(const std::string& name, const at::Tensor& tensor) {
  const auto code = static_cast<std::uint64_t>(tensor.scalar_type());
  QF_CHECK(is_known_dtype(code), "{}: a state of type {} has no place in a .dat file", name,
           at::toString(tensor.scalar_type()));
  return static_cast<DType>(code);
}

// use(piece in main memory, first byte) over a tensor's bytes.
void for_each_piece(const at::Tensor& tensor,
                    const std::function<void(const at::Tensor&, std::int64_t)>& use) {
  if (tensor.numel() == 0) return;
  const auto flat = tensor.view({-1}).view(at::kByte);
  for (std::int64_t first = 0; first < flat.numel(); first += kPieceBytes) {
    use(flat.narrow(0, first, std::min(kPieceBytes, flat.numel() - first)), first);
  }
}

std::span<const std::byte> bytes_of(const at::Tensor& piece) {
  return {static_cast<const std::byte*>(piece.const_data_ptr()), piece.nbytes()};
}

Json read_papers(const DatReader& file) {
  const TensorInfo* const entry = file.find(kPapers);
  QF_CHECK(entry != nullptr, "{}: expected a training checkpoint, found no entry '{}'",
           file.source().name(), kPapers);
  std::string text(static_cast<std::size_t>(entry->bytes), ' ');
  file.read(*entry, std::as_writable_bytes(std::span(text)));
  auto papers = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  QF_CHECK(papers.is_object() && papers.contains("steps_done") && papers.contains("last_norm") &&
               papers.contains("settings") && papers["settings"].is_object(),
           "{}: entry '{}': expected steps_done, last_norm and settings, found {}",
           file.source().name(), kPapers, text.substr(0, 100));
  return papers;
}

void check_settings(const std::string& file, const Json& stored, const Json& wanted) {
  const auto check = [&](const std::string& key) {
    const auto value = [&](const Json& from) {
      return from.contains(key) ? from[key].dump() : std::string("nothing");
    };
    if (value(stored) == value(wanted)) return;
    fail(ExitCode::kUsage, "{}: the checkpoint was written with {} = {}, this run has {}", file,
         key, value(stored), value(wanted));
  };
  for (const auto& [key, value] : stored.items()) check(key);
  for (const auto& [key, value] : wanted.items()) check(key);
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const ModelWeights& model,
                     const TrainProgress& progress, std::string_view settings) {
  const c10::InferenceMode no_autograd;
  std::int64_t entries = 1;
  for_each_state(model, [&](const std::string&, at::Tensor&) { ++entries; });
  DatWriter out(path, entries);
  const Json papers = {{"steps_done", progress.steps_done},   {"last_norm", progress.last_norm},
                       {"best_step", progress.best.step},     {"best_loss", progress.best.loss},
                       {"best_waited", progress.best.waited}, {"settings", Json::parse(settings)}};
  const auto text = papers.dump();
  out.write(kPapers, DType::kU8, {std::ssize(text)}, std::as_bytes(std::span(text)));
  for_each_state(model, [&](const std::string& name, at::Tensor& tensor) {
    out.begin(name, stored_type(name, tensor), tensor.sizes().vec());
    for_each_piece(tensor, [&](const at::Tensor& piece, std::int64_t) {
      out.append(bytes_of(piece.to(at::kCPU)));
    });
  });
  out.finish();
}

void check_checkpoint(const std::filesystem::path& path, std::string_view settings,
                      std::string_view later) {
  const DatReader file(path);
  auto stored = read_papers(file)["settings"];
  auto wanted = Json::parse(settings);
  for (Json* const json : {&stored, &wanted}) json->erase(std::string(later));
  check_settings(file.source().name(), stored, wanted);
}

TrainProgress load_checkpoint(const std::filesystem::path& path, const ModelWeights& model,
                              std::string_view settings) {
  const c10::InferenceMode no_autograd;
  const DatReader file(path);
  const std::string& source = file.source().name();
  const Json papers = read_papers(file);
  check_settings(source, papers["settings"], Json::parse(settings));
  // Everything is checked before anything is changed.
  std::int64_t entries = 1;
  for_each_state(model, [&](const std::string& name, at::Tensor& tensor) {
    const TensorInfo* const entry = file.find(name);
    QF_CHECK(entry != nullptr, "{}: expected the state '{}', found none", source, name);
    QF_CHECK(entry->type == stored_type(name, tensor) && entry->shape == tensor.sizes().vec(),
             "{}: '{}': expected {} {}, found {} {}", source, name,
             dtype_name(stored_type(name, tensor)), shape_text(tensor.sizes().vec()),
             dtype_name(entry->type), shape_text(entry->shape));
    ++entries;
  });
  QF_CHECK(entries == std::ssize(file.entries()),
           "{}: expected {} entries for the weights that this run trains, found {}", source,
           entries, file.entries().size());
  for_each_state(model, [&](const std::string& name, at::Tensor& tensor) {
    for_each_piece(tensor, [&](const at::Tensor& piece, std::int64_t first_byte) {
      auto bytes = at::empty(piece.sizes(), at::kByte);
      file.read(*file.find(name), {static_cast<std::byte*>(bytes.data_ptr()), bytes.nbytes()},
                first_byte);
      piece.copy_(bytes);
    });
  });
  TrainProgress progress{.steps_done = papers["steps_done"].get<std::int64_t>(),
                         .last_norm = papers["last_norm"].get<double>()};
  // Checkpoints from before these were kept have no best evaluation.
  progress.best = {.step = papers.value("best_step", std::int64_t{0}),
                   .loss = papers.value("best_loss", 0.0),
                   .waited = papers.value("best_waited", std::int64_t{0})};
  return progress;
}

std::string state_hash(const ModelWeights& model) {
  const c10::InferenceMode no_autograd;
  std::uint64_t hash = 0xCBF29CE484222325U;
  for_each_state(model, [&](const std::string&, at::Tensor& tensor) {
    for_each_piece(tensor, [&](const at::Tensor& piece, std::int64_t) {
      const auto on_host = piece.to(at::kCPU);
      for (const std::byte byte : bytes_of(on_host)) {
        hash = (hash ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001B3U;
      }
    });
  });
  return fmt::format("{:016x}", hash);
}

}  // namespace qf
