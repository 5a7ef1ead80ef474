#!/bin/sh
# Builds the benchmark's kernels: kernels.wasm (kept in the repository) and, with a directory as argument, libkernels.so there for the native column.
# Needs clang with the wasm32 target and lld (Debian: apt-get install clang lld).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
clang --target=wasm32 -O2 -fno-vectorize -fno-slp-vectorize -nostdlib -Wl,--no-entry -mbulk-memory -o "$here/kernels.wasm" "$here/kernels.c"
chmod 644 "$here/kernels.wasm"
if [ $# -gt 0 ]; then
  clang -O2 -fno-vectorize -fno-slp-vectorize -fPIC -shared -o "$1/libkernels.so" "$here/kernels.c"
fi
