#include "qwen3fp4/run/checkpoint_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "checkpoint_sources.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"

namespace qf {
namespace {

constexpr std::array<std::string_view, 5> kSideFiles = {
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja",
    "generation_config.json"};

bool starts_with_gguf_magic(const std::filesystem::path& path) {
  const FileSource file(path);
  std::array<std::byte, 4> magic{};
  if (file.size() < std::ssize(magic)) return false;
  file.read_at(0, magic);
  return std::memcmp(magic.data(), "GGUF", magic.size()) == 0;
}

}  // namespace

const CheckpointTensor* CheckpointSource::find(std::string_view tensor_name) const {
  const auto found =
      std::find_if(tensors_.begin(), tensors_.end(),
                   [&](const CheckpointTensor& tensor) { return tensor.name == tensor_name; });
  return found == tensors_.end() ? nullptr : &*found;
}

const SideFile* CheckpointSource::find_side_file(std::string_view file_name) const {
  const auto found = std::ranges::find(side_files_, file_name, &SideFile::name);
  return found == side_files_.end() ? nullptr : &*found;
}

Tokenizer CheckpointSource::tokenizer() const {
  if (const SideFile* json = find_side_file("tokenizer.json")) {
    return Tokenizer::from_json(json->text, name_ + ": " + json->name);
  }
  const SideFile* model = find_side_file("tokenizer.model");
  QF_CHECK(model != nullptr, "{}: expected a tokenizer, found none", name_);
  return Tokenizer::from_sentencepiece(model->text, name_ + ": " + model->name);
}

std::optional<ChatTemplate> CheckpointSource::chat_template() const {
  try {
    if (const SideFile* jinja = find_side_file("chat_template.jinja")) {
      return ChatTemplate::from_jinja(jinja->text);
    }
    const SideFile* config = find_side_file("tokenizer_config.json");
    if (config == nullptr) return std::nullopt;
    return ChatTemplate::from_config_json(config->text, name_ + ": " + config->name);
  } catch (const Error&) {
    return std::nullopt;  // who needs one says so
  }
}

std::optional<WeightMatrix> CheckpointSource::read_packed(const CheckpointTensor&) const {
  return std::nullopt;
}

void CheckpointSource::set_config(std::string json, const std::string& json_name) {
  config_ = ModelConfig::from_json(json, json_name);
  config_json_ = std::move(json);
}

void CheckpointSource::read_side_files(const std::filesystem::path& folder) {
  bool has_tokenizer = false;
  for (const std::string_view name : kSideFiles) {
    const auto path = folder / name;
    if (!std::filesystem::exists(path)) continue;
    side_files_.push_back({std::string(name), read_text_file(path)});
    has_tokenizer = has_tokenizer || name == "tokenizer.json" || name == "tokenizer.model";
  }
  if (!has_tokenizer) {
    notes_.push_back(fmt::format(
        "{}: no tokenizer.json or tokenizer.model, so the converted model takes token ids only",
        name_));
  }
}

std::unique_ptr<CheckpointSource> open_checkpoint(const std::filesystem::path& path) {
  QF_CHECK(std::filesystem::exists(path), "{}: no such file or folder", path.string());
  if (std::filesystem::is_directory(path)) {
    if (std::filesystem::exists(path / "model.dat")) return open_dat(path, path / "model.dat");
    if (std::filesystem::exists(path / "model.safetensors") ||
        std::filesystem::exists(path / "model.safetensors.index.json")) {
      return open_safetensors(path);
    }
    fail(ExitCode::kUnreadable,
         "{}: expected model.safetensors, model.safetensors.index.json or model.dat beside "
         "config.json, found none (a GGUF is named by its own path)",
         path.string());
  }
  if (starts_with_gguf_magic(path)) return open_gguf(path);
  if (path.extension() == ".dat") return open_dat(path.parent_path(), path);
  fail(ExitCode::kUnreadable,
       "{}: expected a GGUF file, a .dat file beside its config.json, or a folder with "
       "config.json and model.safetensors or model.dat",
       path.string());
}

}  // namespace qf
