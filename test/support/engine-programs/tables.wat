;; A table that code calls through and the host changes.
(module $tables
  (type $number (func (result i32)))
  (table (export "table") 3 5 funcref)
  (elem (i32.const 0) $one $two)
  (func $one (export "one") (result i32) (i32.const 1))
  (func $two (export "two") (result i32) (i32.const 2))
  (func $three (export "three") (result i32) (i32.const 3))
  (func (export "call") (param i32) (result i32) (call_indirect (type $number) (local.get 0))))
