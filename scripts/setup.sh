#!/usr/bin/env bash
# Installs what building needs and is missing: Debian packages (root or sudo), and, into .deps/venv,
# the wheels that carry libtorch and the tests' Python packages. Safe to repeat; a second run does
# nothing. `--cuda` adds nvcc from PyPI when none is on PATH and, where there is a GPU, the libraries
# that libtorch's CUDA half loads (4 GB); `--lint` the clang tools of CI.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

packages=(
  g++ cmake ninja-build ccache pkg-config ca-certificates python3 python3-venv
  libcli11-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libsentencepiece-dev libpcre2-dev
  libicu-dev libtbb-dev libgtest-dev libgmock-dev libbenchmark-dev
)
if [[ ${1:-} == --lint ]]; then
  packages+=(git clang-format clang-tidy clang-16 libclang-rt-16-dev shellcheck)
fi
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

install_wheels() {
  local stamp=.deps/$1.txt wanted
  shift
  wanted=$(printf '%s\n' "$@")
  [[ -f $stamp && $(cat "$stamp") == "$wanted" ]] && return
  say "installing from PyPI into .deps/venv: $*"
  [[ -x .deps/venv/bin/pip ]] || /usr/bin/python3 -m venv .deps/venv
  .deps/venv/bin/pip install -q --disable-pip-version-check --no-deps "$@"
  printf '%s\n' "$wanted" >"$stamp"
}
install_wheels installed "${wheels[@]}"
if [[ ${1:-} == --cuda ]] && ! command -v nvcc >/dev/null; then
  # Pinned together: a newer nvvm writes PTX that this ptxas refuses.
  install_wheels installed_cuda nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85
fi
if [[ ${1:-} == --cuda ]] && command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
  stamp=.deps/installed_gpu.txt
  if [[ ! -f $stamp ]]; then
    say "installing from PyPI into .deps/venv: what libtorch needs on a GPU"
    .deps/venv/bin/pip install -q --disable-pip-version-check torch==2.11.0
    touch "$stamp"
  fi
fi
