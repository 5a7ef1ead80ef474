//! Masks payment card numbers in text: runs of 13 to 19 digits (single spaces or hyphens between them allowed) that pass the Luhn check keep their last
//! four digits. The host writes text at `buffer()`, calls `redact(length)` and reads the text back from there: the length does not change.
#![no_std]

const CAPACITY: usize = 65_536;
static mut TEXT: [u8; CAPACITY] = [0; CAPACITY];

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

/// Address of the text.
#[no_mangle]
pub extern "C" fn buffer() -> *mut u8 {
    core::ptr::addr_of_mut!(TEXT) as *mut u8
}

/// How long a text may be, in bytes.
#[no_mangle]
pub extern "C" fn capacity() -> usize {
    CAPACITY
}

/// Masks what is there and returns how many numbers were masked; −1 when the text is too long.
#[no_mangle]
pub extern "C" fn redact(length: usize) -> i32 {
    if length > CAPACITY {
        return -1;
    }
    // The guest has one thread and this is the only reference.
    let text = unsafe { core::slice::from_raw_parts_mut(buffer(), length) };
    let mut masked = 0;
    let mut at = 0;
    while at < text.len() {
        if !text[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end = run_end(text, at);
        let digits = text[at..end].iter().filter(|c| c.is_ascii_digit()).count();
        if (13..=19).contains(&digits) && luhn(&text[at..end]) {
            let mut left = digits - 4;
            for c in text[at..end].iter_mut() {
                if left > 0 && c.is_ascii_digit() {
                    *c = b'*';
                    left -= 1;
                }
            }
            masked += 1;
        }
        at = end;
    }
    masked
}

/// End of the run of digits that begins at `at`, with single separators between them.
fn run_end(text: &[u8], mut at: usize) -> usize {
    loop {
        while at < text.len() && text[at].is_ascii_digit() {
            at += 1;
        }
        if at + 1 < text.len() && (text[at] == b' ' || text[at] == b'-') && text[at + 1].is_ascii_digit() {
            at += 1;
        } else {
            return at;
        }
    }
}

fn luhn(run: &[u8]) -> bool {
    let mut sum = 0u32;
    let mut double = false;
    for c in run.iter().rev().filter(|c| c.is_ascii_digit()) {
        let digit = u32::from(c - b'0');
        sum += match (double, digit) {
            (false, d) => d,
            (true, d) if d > 4 => 2 * d - 9,
            (true, d) => 2 * d,
        };
        double = !double;
    }
    sum % 10 == 0
}
