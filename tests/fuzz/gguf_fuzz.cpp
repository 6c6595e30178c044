#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/gguf.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const qf::MemorySource source(std::as_bytes(std::span(data, size)));
  try {
    const qf::GgufFile file(source);
    for (const qf::GgufTensor& tensor : file.tensors()) {
      std::vector<float> values(static_cast<std::size_t>(qf::element_count(tensor.shape)));
      file.read_f32(tensor, values);
    }
    (void)qf::tokenizer_config_json_from_gguf(file);
    (void)qf::Tokenizer::from_json(qf::tokenizer_json_from_gguf(file), "fuzz");
  } catch (const qf::Error&) {
  }
  return 0;
}
