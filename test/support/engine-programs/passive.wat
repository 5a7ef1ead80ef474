;; A passive data segment, copied and dropped.
(module (memory (export "memory") 1)
  (data $text "passive")
  (func (export "init") (param i32) (memory.init $text (local.get 0) (i32.const 0) (i32.const 7)))
  (func (export "drop") (data.drop $text)))
