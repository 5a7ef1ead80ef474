/*
 * What the host sees of wasm3 0.5.0: one guest instance a wasm3, everything by index. Values cross in an array of 8-byte slots; texts are C strings
 * inside this memory. The host function `iguana.host` gets the import's number and its slots (results first, arguments behind them) and answers 0, or 1
 * when an error waits on its side.
 */
#include "m3_env.h"
#include "m3_compile.h"
#include "m3_exception.h"

#define EXPORTED(NAME) __attribute__((export_name(#NAME), used))
#define MAX_FRAMES 64

__attribute__((import_module("iguana"), import_name("host"))) extern int host_function(uint32_t number, uint64_t *slots);

M3Result LinkRawFunction(IM3Module module, IM3Function function, ccstr_t signature, const void *raw, const void *data);

static IM3Environment environment;
static IM3Runtime runtime;
static IM3Module module;
static void *stack;
static const char hostError[] = "[host]";
static uint64_t slots[1024];
static uint32_t frames[MAX_FRAMES];

EXPORTED(allocate) void *allocate(uint32_t bytes) { return malloc(bytes); }
EXPORTED(slots) uint64_t *slots_address(void) { return slots; }

static const void *thunk(IM3Runtime unused, IM3ImportContext context, uint64_t *sp, void *memory) {
  (void)unused;
  (void)memory;
  return host_function((uint32_t)(uintptr_t)context->userdata, sp) ? hostError : m3Err_none;
}

/* Bytes must stay. Answers null or what is wrong. */
EXPORTED(parse) const char *parse(const uint8_t *bytes, uint32_t length, uint32_t stackBytes) {
  environment = m3_NewEnvironment();
  if (!environment) return m3Err_mallocFailed;
  runtime = m3_NewRuntime(environment, 64, NULL);
  if (!runtime) return m3Err_mallocFailed;
  /* not by its own allocator, which would write zeros over all of it: code writes what it reads */
  m3_Free(runtime->stack);
  stack = runtime->stack = malloc(stackBytes + 64);
  if (!stack) return m3Err_mallocFailed;
  runtime->numStackSlots = stackBytes / sizeof(m3slot_t);
  return m3_ParseModule(environment, &module, bytes, length);
}

/* Memory, globals, segments; every import becomes the thunk with its number. A start function is not run. */
EXPORTED(load) const char *load(uint32_t tableSize) {
  M3Result result = m3_LoadModule(runtime, module);
  if (result) return result;
  module->startFunction = -1;
  for (u32 i = 0; i < module->numFunctions; i++) {
    IM3Function function = &module->functions[i];
    if (function->wasm) continue;
    result = LinkRawFunction(module, function, NULL, thunk, (const void *)(uintptr_t)i);
    if (result) return result;
  }
  /* wasm3 makes a table as long as what is written into it at first */
  if (module->table0Size > tableSize) return "table element out of bounds";
  if (tableSize > module->table0Size) {
    module->table0 = m3_ReallocArray(IM3Function, module->table0, tableSize, module->table0Size);
    if (!module->table0) return m3Err_mallocFailed;
    module->table0Size = tableSize;
  }
  return NULL;
}

EXPORTED(compile) const char *compile(void) { return m3_CompileModule(module); }

/* After a call that ended by an exception of the host's engine. */
EXPORTED(recover) void recover(void) { runtime->stack = stack; }

/* Arguments in the slots, then results there. */
EXPORTED(call) const char *call(uint32_t index) {
  IM3Function function = &module->functions[index];
  if (!function->compiled) {
    M3Result result = CompileFunction(function);
    if (result) return result;
  }
  /* both uses end before code runs that may come here again */
  static const void *pointers[1024];
  const uint32_t arguments = m3_GetArgCount(function), results = m3_GetRetCount(function);
  for (uint32_t i = 0; i < arguments; i++) pointers[i] = &slots[i];
  M3Result result = m3_Call(function, arguments, pointers);
  if (result) return result;
  for (uint32_t i = 0; i < results; i++) pointers[i] = &slots[i];
  return results ? m3_GetResults(function, results, pointers) : NULL;
}

EXPORTED(hostError) const char *host_error(void) { return hostError; }

/* Function numbers of the last trap's stack, innermost first; answers how many. */
EXPORTED(trace) uint32_t trace(void) {
  IM3BacktraceInfo info = m3_GetBacktrace(runtime);
  uint32_t count = 0;
  for (IM3BacktraceFrame frame = info ? info->frames : NULL; frame && count < MAX_FRAMES; frame = frame->next) {
    if (frame->function) frames[count++] = (uint32_t)(frame->function - module->functions);
  }
  return count;
}
EXPORTED(frames) uint32_t *frames_address(void) { return frames; }

EXPORTED(memory_address) uint8_t *memory_address(void) { return m3MemData(runtime->memory.mallocated); }
EXPORTED(memory_pages) uint32_t memory_pages(void) { return runtime->memory.numPages; }
EXPORTED(memory_grow) int memory_grow(uint32_t pages) {
  const uint32_t wanted = runtime->memory.numPages + pages;
  return wanted >= pages && !ResizeMemory(runtime, wanted);
}

EXPORTED(global_get) void global_get(uint32_t index) { slots[0] = (uint64_t)module->globals[index].intValue; }
EXPORTED(global_set) int global_set(uint32_t index) {
  IM3Global global = &module->globals[index];
  if (!global->isMutable) return 0;
  if (global->type == c_m3Type_i32 || global->type == c_m3Type_f32) *(u32 *)&global->intValue = (u32)slots[0];
  else global->intValue = (i64)slots[0];
  return 1;
}

EXPORTED(table_size) uint32_t table_size(void) { return module->table0Size; }
/* A function's number plus one, 0 for null. */
EXPORTED(table_get) uint32_t table_get(uint32_t at) {
  IM3Function function = module->table0[at];
  return function ? (uint32_t)(function - module->functions) + 1 : 0;
}
EXPORTED(table_set) void table_set(uint32_t at, uint32_t reference) {
  module->table0[at] = reference ? &module->functions[reference - 1] : NULL;
}
EXPORTED(table_grow) int table_grow(uint32_t elements) {
  IM3Function *grown = m3_ReallocArray(IM3Function, module->table0, module->table0Size + elements, module->table0Size);
  if (!grown) return 0;
  module->table0 = grown;
  module->table0Size += elements;
  return 1;
}
