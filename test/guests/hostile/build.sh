#!/bin/sh
# Builds the hostile guests into the .wasm files that are kept here. Needs clang with the wasm32 target, lld and wabt (Debian: clang lld wabt).
set -eu
cd "$(dirname "$0")"
for source in *.c; do
  clang --target=wasm32 -O1 -fno-builtin -nostdlib -mbulk-memory -Wno-infinite-recursion -Wno-unused-function \
    -Wl,--no-entry -Wl,-z,stack-size=32768 -Wl,--initial-memory=131072 -o "${source%.c}.wasm" "$source"
done
for source in *.wat; do
  wat2wasm --debug-names -o "${source%.wat}.wasm" "$source"
done
chmod 644 ./*.wasm
