#include "qwen3fp4/run/session.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/fnv.h"
#include "qwen3fp4/formats/dat.h"

// Shapes in this file: S cached tokens, K key/value heads, E head_dim.
namespace qf {
namespace {

constexpr const char* kFormat = "qwen3fp4 session";
constexpr const char* kVersion = "1";
constexpr std::int64_t kHashedBytes = 4096;  // of every tensor

DType dtype_of(at::ScalarType type) { return static_cast<DType>(static_cast<int>(type)); }
static_assert(static_cast<int>(at::kFloat) == static_cast<int>(DType::kF32) &&
                  static_cast<int>(at::kHalf) == static_cast<int>(DType::kF16) &&
                  static_cast<int>(at::kBFloat16) == static_cast<int>(DType::kBF16),
              "our types have libtorch's numbers");

std::string tensor_name(const char* what, std::int64_t layer) {
  return fmt::format("{}.{}", what, layer);
}

// "tokens", then keys and values of each layer: what a session of `tokens` tokens holds.
std::vector<SafetensorsWriter::Tensor> session_tensors(std::int64_t tokens, std::int64_t layers,
                                                       std::int64_t kv_heads, std::int64_t head_dim,
                                                       DType type) {
  const std::vector<std::int64_t> shape{kv_heads, tokens, head_dim};
  std::vector<SafetensorsWriter::Tensor> all{{"tokens", DType::kI64, {tokens}}};
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    for (const auto* const what : {"keys", "values"}) {
      all.push_back({tensor_name(what, layer), type, shape});
    }
  }
  return all;
}

std::string metadata_of(const SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? "nothing" : found->second;
}

}  // namespace

std::string model_fingerprint(const ModelFolder& folder) {
  std::uint64_t hash = kFnvBasis;
  const auto add = [&hash](const std::string& text) {
    hash = fnv1a(std::as_bytes(std::span(text)), hash);
  };
  add(read_text_file(folder.path / "config.json"));
  const DatReader weights(folder.path / "model.dat");
  std::vector<std::byte> bytes(kHashedBytes);
  for (const TensorInfo& entry : weights.entries()) {
    add(fmt::format("{} {} {};", entry.name, dtype_name(entry.type), shape_text(entry.shape)));
    const auto some =
        std::span(bytes).first(static_cast<std::size_t>(std::min(entry.bytes, kHashedBytes)));
    weights.read(entry, some);
    hash = fnv1a(some, hash);
  }
  return fmt::format("{:016x}", hash);
}

SavedSession::SavedSession(const std::filesystem::path& path, const SessionModel& model)
    : name_(path.string()), file_(path) {
  QF_CHECK(metadata_of(file_, "format") == kFormat && metadata_of(file_, "version") == kVersion,
           "{}: expected a session of version {}, found a safetensors file of format '{}', version "
           "'{}' (--session)",
           name_, kVersion, metadata_of(file_, "format"), metadata_of(file_, "version"));
  QF_CHECK(metadata_of(file_, "model") == model.fingerprint,
           "{}: expected a session of this model ({}), found one of another ({}) (--session)",
           name_, model.fingerprint, metadata_of(file_, "model"));
  const auto& entries = file_.entries();
  const bool has_tokens = !entries.empty() && entries.front().name == "tokens" &&
                          entries.front().type == DType::kI64 && entries.front().shape.size() == 1;
  tokens_ = has_tokens ? entries.front().shape.front() : 0;
  QF_CHECK(tokens_ > 0, "{}: expected a session that begins with its tokens, found none", name_);
  const auto expected =
      session_tensors(tokens_, model.config.num_hidden_layers, model.config.num_key_value_heads,
                      model.config.head_dim, dtype_of(model.type));
  QF_CHECK(entries.size() == expected.size(), "{}: expected {} tensors of a session, found {}",
           name_, expected.size(), entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    QF_CHECK(entries[i].name == expected[i].name && entries[i].shape == expected[i].shape,
             "{}: expected {} {}, found {} {}", name_, expected[i].name,
             shape_text(expected[i].shape), entries[i].name, shape_text(entries[i].shape));
    QF_CHECK(entries[i].type == expected[i].type,
             "{}: {}: expected {} as this run caches it, found {} (--backend)", name_,
             entries[i].name, dtype_name(expected[i].type), dtype_name(entries[i].type));
  }
}

std::int64_t SavedSession::common_prefix(std::span<const std::int64_t> ids) const {
  if (ids.empty()) return 0;
  std::vector<std::int64_t> known(std::min(static_cast<std::size_t>(tokens_), ids.size() - 1));
  file_.read(file_.entries().front(), std::as_writable_bytes(std::span(known)));
  return std::ranges::mismatch(known, ids).in1 - known.begin();
}

std::int64_t SavedSession::restore(std::span<const std::int64_t> ids, KvCache& cache) const {
  const std::int64_t count = common_prefix(ids);
  cache.check_room(count);
  if (count == 0) return 0;
  const auto& entries = file_.entries();
  for (std::int64_t layer = 0; layer < cache.keys().size(0); ++layer) {
    const auto at = static_cast<std::size_t>(1 + 2 * layer);
    read_heads(entries[at], cache.keys().select(0, layer), count);
    read_heads(entries[at + 1], cache.values().select(0, layer), count);
  }
  cache.advance(count);
  return count;
}

void SavedSession::read_heads(const TensorInfo& entry, const at::Tensor& out_KSE,
                              std::int64_t count) const {
  const std::int64_t head_bytes = entry.bytes / out_KSE.size(0);
  for (std::int64_t head = 0; head < out_KSE.size(0); ++head) {
    const auto out_SE = out_KSE.select(0, head).narrow(0, 0, count);
    const bool on_host = out_SE.device().is_cpu();
    const auto host_SE =
        on_host ? out_SE : at::empty(out_SE.sizes(), out_SE.options().device(at::kCPU));
    file_.read(entry, {static_cast<std::byte*>(host_SE.mutable_data_ptr()), host_SE.nbytes()},
               head * head_bytes);
    if (!on_host) out_SE.copy_(host_SE);
  }
}

void save_session(const std::filesystem::path& path, const std::string& fingerprint,
                  std::span<const std::int64_t> tokens, const KvCache& cache) {
  const at::Tensor& keys = cache.keys();
  const std::int64_t count = cache.length();
  SafetensorsWriter out(path,
                        session_tensors(count, keys.size(0), keys.size(1), keys.size(3),
                                        dtype_of(keys.scalar_type())),
                        {{"format", kFormat}, {"version", kVersion}, {"model", fingerprint}});
  out.append(std::as_bytes(tokens));
  for (std::int64_t layer = 0; layer < keys.size(0); ++layer) {
    for (const at::Tensor* all : {&keys, &cache.values()}) {
      for (std::int64_t head = 0; head < keys.size(1); ++head) {
        // Contiguous: on the CPU it is written from where it lies.
        const auto head_SE = all->select(0, layer).select(0, head).narrow(0, 0, count).to(at::kCPU);
        out.append({static_cast<const std::byte*>(head_SE.const_data_ptr()), head_SE.nbytes()});
      }
    }
  }
  out.finish();
}

}  // namespace qf
