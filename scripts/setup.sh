#!/usr/bin/env bash
# Installs what building needs and is missing: Debian packages (root or sudo), and, into .deps/venv,
# the wheels that carry libtorch and the tests' Python packages. Safe to repeat; a second run does
# nothing. `scripts/setup.sh --cuda` adds nvcc from PyPI when none is on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

packages=(
  g++ cmake ninja-build ccache pkg-config ca-certificates python3 python3-venv
  libcli11-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libsentencepiece-dev libpcre2-dev
  libicu-dev libgtest-dev libgmock-dev libbenchmark-dev
)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
  say "installing Debian packages: ${missing[*]}"
  as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || { echo "setup: run as root, or install sudo" >&2; exit 2; }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# libtorch is the one inside the wheel. libtorch_cpu.so needs two of its CUDA libraries to load, also
# on a machine without a GPU; the other 4 GB that pip would fetch are not needed.
wheels=(torch==2.11.0)
if [[ $(uname -m) == x86_64 || $(uname -m) == aarch64 ]]; then
  wheels+=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
fi
# What the tests compare with (tokenizers) and read fixtures with (numpy).
wheels+=(tokenizers==0.23.3 numpy==2.3.5)
if [[ ${1:-} == --cuda ]] && ! command -v nvcc >/dev/null; then
  wheels+=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
           nvidia-cuda-cccl==13.0.85)
fi
stamp=.deps/installed.txt
wanted=$(printf '%s\n' "${wheels[@]}")
if [[ ! -f $stamp || $(cat "$stamp") != "$wanted" ]]; then
  say "installing from PyPI into .deps/venv: ${wheels[*]}"
  [[ -x .deps/venv/bin/pip ]] || /usr/bin/python3 -m venv .deps/venv
  .deps/venv/bin/pip install -q --disable-pip-version-check --no-deps "${wheels[@]}"
  printf '%s\n' "$wanted" >"$stamp"
fi
