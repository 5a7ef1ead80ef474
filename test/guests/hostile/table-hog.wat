;; Takes table elements: at once, one by one, without end. C of clang 14 has no words for tables.
(module
  (table $table (export "table") 1 funcref)
  (func $self (export "self"))
  (elem declare func $self)
  (func (export "take") (param $elements i32) (result i32)
    (table.grow $table (ref.null func) (local.get $elements)))
  (func (export "take_all") (result i32)
    (loop $again
      (br_if $again (i32.ne (table.grow $table (ref.func $self) (i32.const 1000)) (i32.const -1))))
    (table.size $table))
  (func (export "ask_for_ever") (param $elements i32)
    (loop $again
      (drop (table.grow $table (ref.null func) (local.get $elements)))
      (br $again)))
  ;; Fills or copies the whole table without end, by one instruction each time.
  (func (export "fill_for_ever")
    (loop $again
      (table.fill $table (i32.const 0) (ref.func $self) (table.size $table))
      (br $again)))
  (func (export "copy_for_ever")
    (loop $again
      (table.copy $table $table (i32.const 0) (i32.const 1) (i32.sub (table.size $table) (i32.const 1)))
      (br $again))))
