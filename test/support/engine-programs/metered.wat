;; What metering touches: a start function, loops, calls, growth, a trap two calls deep.
(module $metered
  (memory (export "memory") 1 4)
  (global $started (export "started") (mut i32) (i32.const 0))
  (func $begin (global.set $started (i32.add (global.get $started) (i32.const 1))))
  (start $begin)
  (func $half (param i32) (result i32) (i32.shr_u (local.get 0) (i32.const 1)))
  (func $work (export "work") (param i32) (result i32) (local i32)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get 0)))
        (local.set 1 (i32.add (local.get 1) (call $half (local.get 0))))
        (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
        (br $again)))
    (local.get 1))
  (func $grow (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func $spin (export "spin") (loop $again (br $again)))
  (func $deep (export "deep") (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))
  (func $inner (unreachable))
  (func $outer (export "outer") (call $inner)))
