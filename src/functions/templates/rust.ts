import { type Template, wasmDefinition } from './template.js';

export const rust: Template = {
  files: {
    'NAME.yaml': wasmDefinition,
    'NAME.rs': `//! Greets: answers {"greeting": "Hello, …"} to an event whose "name" says who. Each call gets the event as JSON and answers with bytes.
use std::alloc::{alloc, dealloc, Layout};

extern "C" {
    fn iguana_log(text: *const u8, length: usize);
}

fn log(text: &str) {
    unsafe { iguana_log(text.as_ptr(), text.len()) }
}

fn layout(length: usize) -> Layout {
    Layout::from_size_align(length.max(1), 1).unwrap()
}

/// Room for the event.
#[no_mangle]
pub extern "C" fn iguana_alloc(length: usize) -> *mut u8 {
    unsafe { alloc(layout(length)) }
}

/// Takes back an answer that was read.
#[no_mangle]
pub extern "C" fn iguana_free(at: *mut u8, length: usize) {
    unsafe { dealloc(at, layout(length)) }
}

fn greet(event: &str) -> Result<String, String> {
    let name = event.split_once("\\"name\\":\\"").and_then(|(_, rest)| rest.split_once('"')).map_or("world", |(name, _)| name);
    if name.len() > 256 {
        return Err("a name has at most 256 bytes".into());
    }
    log(&format!("greeting {name}"));
    Ok(format!("{{\\"greeting\\":\\"Hello, {name}\\"}}"))
}

#[no_mangle]
pub extern "C" fn handle(event: *mut u8, length: usize) -> u64 {
    let event = unsafe { Vec::from_raw_parts(event, length, length.max(1)) };
    let (text, failed) = match greet(&String::from_utf8_lossy(&event)) {
        Ok(answer) => (answer, 0),
        Err(why) => (why, 1u64 << 31),
    };
    let bytes = text.into_bytes().into_boxed_slice();
    let length = bytes.len() as u64;
    (Box::into_raw(bytes) as *mut u8 as u64) << 32 | failed | length
}
`,
  },
  build: {
    commands: [
      [
        'rustc',
        '--edition=2021',
        '--target=wasm32-unknown-unknown',
        '--crate-type=cdylib',
        '-Copt-level=s',
        '-Cpanic=abort',
        '-Cstrip=debuginfo',
        '-o',
        'NAME.wasm',
        'NAME.rs',
      ],
    ],
    tools: 'rustc with its WebAssembly target: rustup target add wasm32-unknown-unknown',
  },
};
