#!/bin/sh
# Builds the guests that are kept here (docs/guests.md): those whose toolchain is installed, the others are named and left as they are.
#   C               Debian: apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32
#   hostile         also wabt, for wat2wasm
#   AssemblyScript  npm install assemblyscript in a folder of its own; ASC=…/node_modules/.bin/asc
#   Rust            rustup target add wasm32-wasip1 wasm32-unknown-unknown
#   Go              with a directory as argument: group-sum.wasm is built there, it is too large to keep
set -eu
cd "$(dirname "$0")"
ASC=${ASC:-asc}

have() {
  command -v "$1" >/dev/null 2>&1 || { echo "not built: $2 ($1 is not installed)" >&2; return 1; }
}

if have clang C; then
  clang --target=wasm32-wasi -Oz -Wl,--strip-debug -o c/word-frequency.wasm c/word-frequency.c
  if have wat2wasm hostile; then hostile/build.sh; fi
fi
if have "$ASC" AssemblyScript; then
  # The kept source ends in .as, since .ts here is for the TypeScript of the tests.
  work=$(mktemp -d)
  cp assemblyscript/rolling-deviation.as "$work/rolling-deviation.ts"
  "$ASC" "$work/rolling-deviation.ts" --baseDir "$work" -O --runtime stub -o rolling-deviation.wasm
  mv "$work/rolling-deviation.wasm" assemblyscript/
  rm -r "$work"
fi
if have rustc Rust; then
  rustc --edition 2021 --target wasm32-unknown-unknown --crate-type cdylib -C opt-level=z -C lto -C panic=abort -C strip=debuginfo \
    -C link-arg=-zstack-size=16384 -o rust/redact.wasm rust/redact.rs
  rustc --edition 2021 --target wasm32-wasip1 -C opt-level=z -C lto -C panic=abort -C strip=debuginfo -C codegen-units=1 \
    -o rust/list-files.wasm rust/list-files.rs
fi
if [ $# -gt 0 ] && have go Go; then
  GOOS=wasip1 GOARCH=wasm go build -ldflags=-s -o "$1/group-sum.wasm" go/group-sum.go
fi
chmod 644 ./*/*.wasm
