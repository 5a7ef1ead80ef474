;; An active data segment that begins in the memory and ends outside it; and a start function that must not run.
(module
  (memory (export "memory") 1 1)
  (global $ran (export "ran") (mut i32) (i32.const 0))
  (func $start (global.set $ran (i32.const 1)))
  (start $start)
  (data (i32.const 65530) "longer than what is left"))
