/**
 * A module for tests of the runtime, as `wat2wasm --debug-names` makes it of:
 *
 * (module $calc
 *   (import "host" "tell" (func $tell (param i32)))
 *   (memory (export "memory") 1)
 *   (global $count (export "count") (mut i32) (i32.const 0))
 *   (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
 *   (func (export "add64") (param i64 i64) (result i64) local.get 0 local.get 1 i64.add)
 *   (func (export "half") (param f64) (result f64) local.get 0 f64.const 0.5 f64.mul)
 *   (func (export "single") (param f32) (result f32) local.get 0)
 *   (func (export "both") (param i32 i64) (result i64 i32) local.get 1 local.get 0)
 *   (func (export "sum4") (param i32 i32 i32 i32) (result i32) local.get 0 local.get 1 i32.add local.get 2 i32.add local.get 3 i32.add)
 *   (func (export "divide") (param i32 i32) (result i32)
 *      global.get $count i32.const 1 i32.add global.set $count
 *      local.get 0 local.get 1 i32.div_s)
 *   (func (export "stop") unreachable)
 *   (func $loop (export "loop") (param i32) (result i32) (local i32)
 *     (loop $l
 *       local.get 1 i32.const 1 i32.add local.set 1
 *       global.get $count i32.const 1 i32.add global.set $count
 *       local.get 0 i32.const 1 i32.sub local.tee 0 br_if $l)
 *     local.get 1)
 *   (func $forever (export "forever") (loop $l global.get $count i32.const 1 i32.add global.set $count br $l))
 *   (func $deep (export "deep") (param i32) (result i32)
 *     local.get 0 if (result i32) local.get 0 i32.const 1 i32.sub call $deep i32.const 1 i32.add else i32.const 0 end)
 *   (func (export "grow") (param i32) (result i32) local.get 0 memory.grow)
 *   (func (export "say") (param i32) local.get 0 call $tell)
 *   (func (export "poke") (param i32 i32) local.get 0 local.get 1 i32.store)
 *   (func (export "peek") (param i32) (result i32) local.get 0 i32.load)
 * )
 */
export const calcModule = new Uint8Array(
  Buffer.from(
    'AGFzbQEAAAABNwpgAX8AYAJ/fwF/YAJ+fgF+YAF8AXxgAX0BfWACf34Cfn9gBH9/f38Bf2AAAGABfwF/YAJ/fwACDQEEaG9zdAR0ZWxsAAADEA' +
      '8BAgMEBQYBBwgHCAgACQgFAwEAAQYGAX8BQQALB4EBEQZtZW1vcnkCAAVjb3VudAMAA2FkZAABBWFkZDY0AAIEaGFsZgADBnNpbmdsZQAEBGJv' +
      'dGgABQRzdW00AAYGZGl2aWRlAAcEc3RvcAAIBGxvb3AACQdmb3JldmVyAAoEZGVlcAALBGdyb3cADANzYXkADQRwb2tlAA4EcGVlawAPCrIBDw' +
      'cAIAAgAWoLBwAgACABfAsOACAARAAAAAAAAOA/ogsEACAACwYAIAEgAAsNACAAIAFqIAJqIANqCw4AIwBBAWokACAAIAFtCwMAAAsgAQF/A0Ag' +
      'AUEBaiEBIwBBAWokACAAQQFrIgANAAsgAQsOAANAIwBBAWokAAwACwsUACAABH8gAEEBaxALQQFqBUEACwsGACAAQAALBgAgABAACwkAIAAgAT' +
      'YCAAsHACAAKAIACwBXBG5hbWUABQRjYWxjARwEAAR0ZWxsCQRsb29wCgdmb3JldmVyCwRkZWVwAiEQAAABAAIAAwAEAAUABgAHAAgACQAKAAsA' +
      'DAANAA4ADwAHCAEABWNvdW50',
    'base64',
  ),
);
