import initWabt from 'wabt';

/** A guest of the bytes convention, by handler: what each does stands before it. Written as text so that the tests need no toolchain. */
const BYTES = `(module
  (import "env" "iguana_log" (func $log (param i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "hello from the guest")
  (data (i32.const 64) "it will not")
  (data (i32.const 96) "\\ff\\fe")
  (data (i32.const 128) "{\\22base64\\22:\\22AQID\\22}")
  (global $next (mut i32) (i32.const 1024))
  (global $calls (mut i32) (i32.const 0))
  (global $ready (mut i32) (i32.const 0))
  (func (export "_initialize") (global.set $ready (i32.add (global.get $ready) (i32.const 7))))
  (func (export "iguana_alloc") (param i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (global.get $next) (local.get 0)))
    (block $enough (loop $grow
      (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
      (unreachable)))
    (local.get $at))
  (func (export "iguana_free") (param i32 i32) (global.set $next (i32.const 1024)))
  (func $pack (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  (; the event itself ;)
  (func (export "echo") (param i32 i32) (result i64) (call $pack (local.get 0) (local.get 1)))
  (; how many calls it had, after what initialisation left, as one digit each ;)
  (func (export "count") (param i32 i32) (result i64)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.store8 (i32.const 0) (i32.add (i32.const 48) (global.get $ready)))
    (i32.store8 (i32.const 1) (i32.add (i32.const 48) (global.get $calls)))
    (call $pack (i32.const 0) (i32.const 2)))
  (; counts too, but fails on every event longer than 200 bytes ;)
  (func $deep (param i32) (result i32) (if (i32.gt_u (local.get 0) (i32.const 200)) (then unreachable)) (local.get 0))
  (func (export "fragile") (param i32 i32) (result i64)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (drop (call $deep (local.get 1)))
    (i32.store8 (i32.const 0) (i32.add (i32.const 48) (global.get $calls)))
    (call $pack (i32.const 0) (i32.const 1)))
  (func (export "logs") (param i32 i32) (result i64)
    (call $log (i32.const 16) (i32.const 20)) (call $pack (i32.const 0) (i32.const 0)))
  (func (export "floods") (param i32 i32) (result i64)
    (local $i i32)
    (loop $more
      (call $log (i32.const 16) (i32.const 20))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100000))))
    (call $pack (i32.const 0) (i32.const 0)))
  (func (export "refuses") (param i32 i32) (result i64) (call $pack (i32.const 64) (i32.const 0x8000000b)))
  (func (export "spins") (param i32 i32) (result i64) (loop $for (br $for)) (i64.const 0))
  (func (export "says-and-spins") (param i32 i32) (result i64)
    (call $log (i32.const 16) (i32.const 20)) (loop $for (br $for)) (i64.const 0))
  (; never ends for events longer than 200 bytes ;)
  (func (export "sometimes") (param i32 i32) (result i64)
    (if (i32.gt_u (local.get 1) (i32.const 200)) (then (loop $for (br $for))))
    (i32.store8 (i32.const 0) (i32.const 53))
    (call $pack (i32.const 0) (i32.const 1)))
  (; 10 million turns, then 1 ;)
  (func (export "works") (param i32 i32) (result i64)
    (local $i i32)
    (loop $more (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000000))))
    (i32.store8 (i32.const 0) (i32.const 49))
    (call $pack (i32.const 0) (i32.const 1)))
  (func (export "bomb") (param i32 i32) (result i64)
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable)
  (func (export "outside") (param i32 i32) (result i64) (call $pack (i32.const 0xfffffff0) (i32.const 64)))
  (func (export "endless-answer") (param i32 i32) (result i64) (call $pack (i32.const 0) (i32.const 0x40000000)))
  (func (export "bytes") (param i32 i32) (result i64) (call $pack (i32.const 96) (i32.const 2)))
  (func (export "base64") (param i32 i32) (result i64) (call $pack (i32.const 128) (i32.const 17)))
  (func (export "wrong") (param i32) (result i32) (local.get 0)))`;

/**
 * A WASI command: answers what it read on standard input, in brackets, and says "seen" on standard error. Its memory counts its calls at 0: a second one in
 * the same state answers "again". `exits`: ends with 3 instead.
 */
const COMMAND = (exits: boolean) => `(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  (data (i32.const 100) "[") (data (i32.const 101) "]") (data (i32.const 110) "warn seen\\n") (data (i32.const 130) "again")
  (func $say (param $fd i32) (param $at i32) (param $length i32)
    (i32.store (i32.const 32) (local.get $at)) (i32.store (i32.const 36) (local.get $length))
    (drop (call $write (local.get $fd) (i32.const 32) (i32.const 1) (i32.const 40))))
  (func (export "_start")
    (local $size i32)
    (call $say (i32.const 2) (i32.const 110) (i32.const 10))
    (if (i32.load (i32.const 0)) (then (call $say (i32.const 1) (i32.const 130) (i32.const 5)) (return)))
    (i32.store (i32.const 0) (i32.const 1))
    ${exits ? '(call $exit (i32.const 3))' : ''}
    (call $say (i32.const 1) (i32.const 100) (i32.const 1))
    (loop $more
      (i32.store (i32.const 32) (i32.const 1024)) (i32.store (i32.const 36) (i32.const 200000))
      (drop (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 40)))
      (local.set $size (i32.load (i32.const 40)))
      (if (local.get $size) (then (call $say (i32.const 1) (i32.const 1024) (local.get $size)) (br $more))))
    (call $say (i32.const 1) (i32.const 101) (i32.const 1))
    (call $exit (i32.const 0))))`;

/** A module of text form as bytes. */
export async function assembled(text: string): Promise<Uint8Array<ArrayBuffer>> {
  const wabt = await initWabt();
  const module = wabt.parseWat('guest.wat', text);
  try {
    return new Uint8Array(module.toBinary({ write_debug_names: true }).buffer);
  } finally {
    module.destroy();
  }
}

export const bytesGuest = (): Promise<Uint8Array<ArrayBuffer>> => assembled(BYTES);
export const commandGuest = ({ exits = false } = {}): Promise<Uint8Array<ArrayBuffer>> => assembled(COMMAND(exits));
