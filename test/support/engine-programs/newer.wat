;; Sign extension, saturating conversion, bulk memory.
(module $newer
  (memory (export "memory") 1)
  (func (export "extend") (param i32) (result i32) (i32.extend8_s (local.get 0)))
  (func (export "saturate") (param f64) (result i32) (i32.trunc_sat_f64_s (local.get 0)))
  (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "copy") (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2))))
