;; One function per value type, several results, many parameters, none.
(module $values
  (func $i32 (export "i32") (param i32) (result i32) (local.get 0))
  (func $i64 (export "i64") (param i64) (result i64) (local.get 0))
  (func $f32 (export "f32") (param f32) (result f32) (local.get 0))
  (func $f64 (export "f64") (param f64) (result f64) (local.get 0))
  (func $nothing (export "nothing"))
  (func $swap (export "swap") (param i32 i64) (result i64 i32) (local.get 1) (local.get 0))
  (func $mixed (export "mixed") (param i32 i64 f32 f64 i32) (result f64)
    (f64.add
      (f64.add (f64.convert_i32_s (local.get 0)) (f64.convert_i64_s (local.get 1)))
      (f64.add
        (f64.add (f64.promote_f32 (local.get 2)) (local.get 3))
        (f64.convert_i32_u (local.get 4)))))
  (func $add (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func $fib (export "fib") (param i32) (result i32)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add
        (call $fib (i32.sub (local.get 0) (i32.const 1)))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func $bits (export "bits") (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
  (func $narrow (export "narrow") (param i64) (result i32) (i32.wrap_i64 (local.get 0))))
