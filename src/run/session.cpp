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

DType dtype_of(at::ScalarType type) {
  if (type == at::kFloat8_e4m3fn) return DType::kF8E4M3;
  return static_cast<DType>(static_cast<int>(type));
}
static_assert(static_cast<int>(at::kFloat) == static_cast<int>(DType::kF32) &&
                  static_cast<int>(at::kHalf) == static_cast<int>(DType::kF16) &&
                  static_cast<int>(at::kBFloat16) == static_cast<int>(DType::kBF16),
              "our types have libtorch's numbers");

// As --kv-cache spells it.
std::string_view cache_name(DType type) {
  for (const auto known : {at::kFloat, at::kHalf, at::kBFloat16, at::kFloat8_e4m3fn}) {
    if (dtype_of(known) == type) return kv_type_name(known);
  }
  return dtype_name(type);
}

// What a session holds of a layer, in order.
std::vector<const char*> layer_parts(DType type) {
  if (type == DType::kF8E4M3) return {"keys", "key_scales", "values", "value_scales"};
  return {"keys", "values"};
}
// The same of a cache.
std::vector<at::Tensor> layer_tensors(const KvCache& cache, std::int64_t layer) {
  std::vector<at::Tensor> parts;
  for (const at::Tensor* all :
       {&cache.keys(), &cache.key_scales(), &cache.values(), &cache.value_scales()}) {
    if (all->defined()) parts.push_back(all->select(0, layer));
  }
  return parts;
}

// "tokens", then the parts of each layer: what a session of `tokens` tokens holds.
std::vector<SafetensorsWriter::Tensor> session_tensors(std::int64_t tokens,
                                                       const ModelConfig& config, DType type) {
  const std::int64_t heads = config.num_key_value_heads;
  std::vector<SafetensorsWriter::Tensor> all{{"tokens", DType::kI64, {tokens}}};
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    for (const std::string part : layer_parts(type)) {
      const std::string name = fmt::format("{}.{}", part, layer);
      if (part.ends_with("scales")) {
        all.push_back({name, DType::kF32, {heads, tokens}});
      } else {
        all.push_back({name, type, {heads, tokens, config.head_dim}});
      }
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
  // The other modes differ in roundings, as backends do. Older files say nothing of it.
  const auto linear = file_.metadata().find("linear");
  const std::string found = linear == file_.metadata().end() ? "w4a16" : linear->second;
  QF_CHECK((found == linear_mode_name(LinearMode::kW4A4)) == (model.linear == LinearMode::kW4A4),
           "{}: expected keys and values computed with --linear {}, as in this run, found {} "
           "(--session)",
           name_, linear_mode_name(model.linear), found);
  const auto& entries = file_.entries();
  const bool has_tokens = !entries.empty() && entries.front().name == "tokens" &&
                          entries.front().type == DType::kI64 && entries.front().shape.size() == 1;
  tokens_ = has_tokens ? entries.front().shape.front() : 0;
  QF_CHECK(tokens_ > 0, "{}: expected a session that begins with its tokens, found none", name_);
  const DType type = dtype_of(model.type);
  // The first of the keys names the type of the cache.
  QF_CHECK(entries.size() < 2 || entries[1].name != "keys.0" || entries[1].type == type,
           "{}: expected keys and values in {}, as this run caches them, found {} (--kv-cache)",
           name_, cache_name(type), cache_name(entries[1].type));
  const auto expected = session_tensors(tokens_, model.config, type);
  QF_CHECK(entries.size() == expected.size(), "{}: expected {} tensors of a session, found {}",
           name_, expected.size(), entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    QF_CHECK(entries[i].name == expected[i].name && entries[i].shape == expected[i].shape,
             "{}: expected {} {}, found {} {}", name_, expected[i].name,
             shape_text(expected[i].shape), entries[i].name, shape_text(entries[i].shape));
    QF_CHECK(entries[i].type == expected[i].type, "{}: {}: expected {}, found {}", name_,
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
  auto entry = file_.entries().begin() + 1;
  for (std::int64_t layer = 0; layer < cache.keys().size(0); ++layer) {
    for (const at::Tensor& part : layer_tensors(cache, layer)) read_heads(*entry++, part, count);
  }
  cache.advance(count);
  return count;
}

void SavedSession::read_heads(const TensorInfo& entry, const at::Tensor& out_KS,
                              std::int64_t count) const {
  const std::int64_t head_bytes = entry.bytes / out_KS.size(0);
  for (std::int64_t head = 0; head < out_KS.size(0); ++head) {
    const auto out_S = out_KS.select(0, head).narrow(0, 0, count);
    const bool on_host = out_S.device().is_cpu();
    const auto host_S =
        on_host ? out_S : at::empty(out_S.sizes(), out_S.options().device(at::kCPU));
    file_.read(entry, {static_cast<std::byte*>(host_S.mutable_data_ptr()), host_S.nbytes()},
               head * head_bytes);
    // What is not a number is named when it has been computed with; a sign would pass for an
    // answer.
    QF_CHECK(entry.name.find("_scales.") == std::string::npos || !host_S.lt(0).any().item<bool>(),
             "{}: {}: expected scales of at least 0, found a negative one (--session)", name_,
             entry.name);
    if (!on_host) out_S.copy_(host_S);
  }
}

void save_session(const std::filesystem::path& path, const SessionModel& model,
                  std::span<const std::int64_t> tokens, const KvCache& cache) {
  const std::int64_t count = cache.length();
  SafetensorsWriter out(path, session_tensors(count, model.config, dtype_of(model.type)),
                        {{"format", kFormat},
                         {"version", kVersion},
                         {"model", model.fingerprint},
                         {"linear", std::string(linear_mode_name(model.linear))}});
  out.append(std::as_bytes(tokens));
  for (std::int64_t layer = 0; layer < cache.keys().size(0); ++layer) {
    for (const at::Tensor& part : layer_tensors(cache, layer)) {
      for (std::int64_t head = 0; head < part.size(0); ++head) {
        // Contiguous: on the CPU it is written from where it lies.
        const auto head_S = part.select(0, head).narrow(0, 0, count).to(at::kCPU);
        out.append({static_cast<const std::byte*>(head_S.const_data_ptr()), head_S.nbytes()});
      }
    }
  }
  out.finish();
}

}  // namespace qf
