/**
 * What translated modules stand on, in C: memories in 8 GiB of reserved addresses so that no access needs a check, a stack of their own with a guard page,
 * traps by a jump out of the guest, calls from and to the host through arrays of 8-byte slots. In one piece, since it is compiled together with each module.
 *
 * A fault handler of ours stands before the one that was there: a fault inside a memory's reservation or at the end of the guest's stack, while guest code
 * runs in that thread, is a trap; every other fault goes on to the handler before (V8's own, for one).
 */
export const runtimeBefore = `
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define WASM_RT_MEMCHECK_SIGNAL_HANDLER 1
#include "wasm-rt.h"

#define TRAP_TABLE 20
#define TRAP_UNDEFINED_ELEMENT 21
#define TRAP_HOST 22
#define TRAP_NO_MEMORY 23
#define PAGE 65536ull
#define RESERVED ((8ull << 30) + PAGE)
#define GUARD (256u << 10)
#define LEAST_STACK (64u << 10)
#define BELOW 1024u
#define MOST_PAGES 65535u
#define MOST_ELEMENTS 10000000u

bool wasm_rt_is_initialized(void) { return true; }

void wasm_rt_allocate_memory(wasm_rt_memory_t *memory, uint32_t pages, uint32_t most) {
  memory->data = mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory->data == MAP_FAILED) memory->data = NULL;
  if (memory->data == NULL || pages > MOST_PAGES ||
      (pages && mprotect(memory->data, pages * PAGE, PROT_READ | PROT_WRITE)))
    wasm_rt_trap(TRAP_NO_MEMORY);
  memory->pages = pages;
  memory->max_pages = most < MOST_PAGES ? most : MOST_PAGES;
  memory->size = pages * PAGE;
}

uint32_t wasm_rt_grow_memory(wasm_rt_memory_t *memory, uint32_t delta) {
  uint32_t pages = memory->pages;
  if (delta == 0) return pages;
  if (delta > memory->max_pages - pages) return -1;
  if (mprotect(memory->data + pages * PAGE, delta * PAGE, PROT_READ | PROT_WRITE)) return -1;
  memory->pages = pages + delta;
  memory->size = (pages + delta) * PAGE;
  return pages;
}

void wasm_rt_free_memory(wasm_rt_memory_t *memory) {
  if (memory->data) munmap(memory->data, RESERVED);
}

#define TABLE(kind)                                                                                              \\
  void wasm_rt_allocate_##kind##_table(wasm_rt_##kind##_table_t *table, uint32_t size, uint32_t most) {          \\
    table->max_size = most < MOST_ELEMENTS ? most : MOST_ELEMENTS;                                               \\
    table->size = size;                                                                                          \\
    table->data = size > MOST_ELEMENTS ? NULL : calloc(size ? size : 1, sizeof *table->data);                    \\
    if (!table->data) wasm_rt_trap(TRAP_NO_MEMORY);                                                              \\
  }                                                                                                              \\
  void wasm_rt_free_##kind##_table(wasm_rt_##kind##_table_t *table) { free(table->data); }                       \\
  uint32_t wasm_rt_grow_##kind##_table(wasm_rt_##kind##_table_t *table, uint32_t delta, wasm_rt_##kind##_t with) { \\
    uint32_t size = table->size;                                                                                 \\
    if (delta == 0) return size;                                                                                 \\
    if (size > table->max_size || delta > table->max_size - size) return -1;                                     \\
    void *data = realloc(table->data, (size_t)(size + delta) * sizeof *table->data);                             \\
    if (!data) return -1;                                                                                        \\
    table->data = data;                                                                                          \\
    for (uint32_t at = size; at < size + delta; at++) table->data[at] = with;                                    \\
    table->size = size + delta;                                                                                  \\
    return size;                                                                                                 \\
  }
TABLE(funcref)
TABLE(externref)
`;

/** Follows the translated module, whose types it uses; `generated` is written for each module. */
export const runtimeAfter = (generated: string) => `
#define API __attribute__((visibility("default")))

struct frame;
typedef struct {
  char *base;
  char *top;  /* where the next guest begins */
  char *host; /* where the host's stack ended when the guest that runs was entered */
  struct frame *innermost;
  char *fault_stack; /* ours, or NULL where the thread had one */
} guest_stack;
#define FAULT_STACK (128u << 10)

typedef struct {
  Z_g_instance_t module;
  guest_stack *stack;
  int32_t (*host)(uint32_t);
  uint64_t *host_slots;
} instance_t;

typedef struct frame {
  struct frame *outer;
  instance_t *instance;
  char *top;
  sigjmp_buf jump;
} frame;

/* Volatile: what runs beyond the assembler line below reads it, which a compiler does not see. */
static __thread guest_stack *volatile running;
static struct sigaction before_segv, before_bus;

void wasm_rt_trap(wasm_rt_trap_t code) { siglongjmp(running->innermost->jump, code); }

/* Equal types have equal numbers. That all types of the module fit is checked before it is compiled. */
static uint32_t signatures[TYPES][2 + TYPE_SLOTS], signature_count;
uint32_t wasm_rt_register_func_type(uint32_t params, uint32_t results, ...) {
  uint32_t *one = signatures[signature_count];
  __builtin_va_list types;
  one[0] = params;
  one[1] = results;
  __builtin_va_start(types, results);
  for (uint32_t i = 0; i < params + results; i++) one[2 + i] = __builtin_va_arg(types, wasm_rt_type_t);
  __builtin_va_end(types);
  for (uint32_t i = 0; i < signature_count; i++)
    if (!memcmp(signatures[i], one, (2 + params + results) * sizeof *one)) return i + 1;
  return ++signature_count;
}

static wasm_rt_memory_t *guest_memory(instance_t *instance, uint32_t number);

static void chain(struct sigaction *before, int number, siginfo_t *info, void *context) {
  if (before->sa_flags & SA_SIGINFO) before->sa_sigaction(number, info, context);
  else if (before->sa_handler == SIG_DFL) sigaction(number, before, NULL);
  else if (before->sa_handler != SIG_IGN) before->sa_handler(number);
}

static void on_fault(int number, siginfo_t *info, void *context) {
  guest_stack *stack = running;
  if (stack && stack->innermost) {
    frame *inner = stack->innermost;
    char *at = info->si_addr;
    if (at >= stack->base && at < stack->base + GUARD) siglongjmp(inner->jump, WASM_RT_TRAP_EXHAUSTION);
    for (uint32_t number = 0; number < MEMORIES; number++) {
      char *memory = (char *)guest_memory(inner->instance, number)->data;
      if (memory && at >= memory && at < memory + RESERVED) siglongjmp(inner->jump, WASM_RT_TRAP_OOB);
    }
  }
  chain(number == SIGBUS ? &before_bus : &before_segv, number, info, context);
}

/* What was there is known before ours is: another thread may fault in between. */
static void take_over(int number, const struct sigaction *action, struct sigaction *before) {
  struct sigaction replaced;
  sigaction(number, NULL, before);
  sigaction(number, action, &replaced);
  *before = replaced;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void initialise(void) {
  Z_g_init_module();
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  sigemptyset(&action.sa_mask); /* the handler is left by a jump, which restores no mask */
  take_over(SIGSEGV, &action, &before_segv);
  take_over(SIGBUS, &action, &before_bus);
}

/* The fault handler cannot stand on the stack that overflowed. */
static int fault_stack(guest_stack *stack) {
  stack_t now;
  if (sigaltstack(NULL, &now) == 0 && !(now.ss_flags & SS_DISABLE)) return 0;
  char *memory = mmap(NULL, FAULT_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return -1;
  stack_t own = {.ss_sp = memory, .ss_size = FAULT_STACK};
  stack->fault_stack = memory;
  return sigaltstack(&own, NULL);
}

/* Of the thread that calls. */
API void iguana_stack_free(guest_stack *stack, uint64_t size) {
  stack_t now;
  if (stack->fault_stack && sigaltstack(NULL, &now) == 0 && now.ss_sp == stack->fault_stack) {
    stack_t none = {.ss_flags = SS_DISABLE};
    if (sigaltstack(&none, NULL) == 0) munmap(stack->fault_stack, FAULT_STACK);
  }
  if (stack->base) munmap(stack->base, size + GUARD);
  free(stack);
}

API guest_stack *iguana_stack_new(uint64_t size) {
  guest_stack *stack = calloc(1, sizeof *stack);
  if (!stack) return NULL;
  char *base = mmap(NULL, size + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base != MAP_FAILED) {
    stack->base = base;
    stack->top = base + GUARD + size;
    if (mprotect(base, GUARD, PROT_NONE) == 0 && fault_stack(stack) == 0) return stack;
  }
  iguana_stack_free(stack, size);
  return NULL;
}

typedef struct {
  instance_t *instance;
  void (*run)(instance_t *, uint32_t, uint64_t *);
  uint32_t index;
  uint64_t *slots;
  volatile int32_t code;
} job;

static void guarded(void *argument) {
  job *todo = argument;
  guest_stack *stack = todo->instance->stack;
  frame here = {.outer = stack->innermost, .instance = todo->instance, .top = stack->top};
  int code = sigsetjmp(here.jump, 0);
  if (code == 0) {
    stack->innermost = &here;
    todo->run(todo->instance, todo->index, todo->slots);
  }
  stack->innermost = here.outer;
  stack->top = here.top;
  todo->code = code;
}

__attribute__((noinline)) static void on_stack(char *top, void (*run)(void *), void *argument, char **from) {
  __asm__ volatile(
      "movq %%rsp, %%rbx\\n\\t"
      "movq %%rsp, (%[from])\\n\\t"
      "movq %[top], %%rsp\\n\\t"
      "callq *%[run]\\n\\t"
      "movq %%rbx, %%rsp"
      : "+D"(argument)
      : [top] "r"(top), [run] "r"(run), [from] "r"(from)
      : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3",
        "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static int32_t enter(instance_t *instance, void (*run)(instance_t *, uint32_t, uint64_t *), uint32_t index, uint64_t *slots) {
  guest_stack *stack = instance->stack, *outer = running;
  if (stack->top < stack->base + GUARD + LEAST_STACK) return WASM_RT_TRAP_EXHAUSTION;
  job todo = {instance, run, index, slots, 0};
  char *host = stack->host;
  running = stack;
  on_stack((char *)((uintptr_t)stack->top & ~(uintptr_t)63), guarded, &todo, &stack->host);
  running = outer;
  stack->host = host;
  return todo.code;
}

typedef struct {
  instance_t *instance;
  uint32_t index;
  int32_t failed;
} errand;

static void outside(void *argument) {
  errand *todo = argument;
  todo->failed = todo->instance->host(todo->index);
}

/* The host goes on where its own stack ended, since V8 looks where it stands; guests that it calls begin below this one. */
static void call_host(instance_t *instance, uint32_t index) {
  guest_stack *stack = instance->stack;
  char *top = stack->top, *ignored;
  errand todo = {instance, index, 0};
  stack->top = (char *)__builtin_frame_address(0) - BELOW;
  on_stack((char *)((uintptr_t)(stack->host - BELOW) & ~(uintptr_t)63), outside, &todo, &ignored);
  stack->top = top;
  running = stack;
  if (todo.failed) wasm_rt_trap(TRAP_HOST);
}

static inline uint64_t of_f32(float value) { uint32_t bits; memcpy(&bits, &value, 4); return bits; }
static inline uint64_t of_f64(double value) { uint64_t bits; memcpy(&bits, &value, 8); return bits; }
static inline float as_f32(uint64_t bits) { float value; memcpy(&value, &bits, 4); return value; }
static inline double as_f64(uint64_t bits) { double value; memcpy(&value, &bits, 8); return value; }

${generated}

static void start(instance_t *instance, uint32_t index, uint64_t *slots) { instantiate(instance); }

API instance_t *iguana_instantiate(guest_stack *stack, int32_t (*host)(uint32_t), uint64_t *host_slots, int32_t *code) {
  pthread_once(&once, initialise);
  instance_t *instance = calloc(1, sizeof *instance);
  if (!instance) return *code = TRAP_NO_MEMORY, NULL;
  instance->stack = stack;
  instance->host = host;
  instance->host_slots = host_slots;
  *code = enter(instance, start, 0, NULL);
  if (*code == 0) return instance;
  Z_g_free(&instance->module);
  free(instance);
  return NULL;
}

API void iguana_free(instance_t *instance) {
  Z_g_free(&instance->module);
  free(instance);
}

API int32_t iguana_call(instance_t *instance, uint32_t index, uint64_t *slots) { return enter(instance, call, index, slots); }

/* Where a memory's bytes, a global's value lie. */
API void *iguana_address(instance_t *instance, uint32_t index) { return address_of(instance, index); }
API uint64_t iguana_memory_size(instance_t *instance, uint32_t index) { return memory_of(instance, index)->pages * PAGE; }
API int32_t iguana_memory_grow(instance_t *instance, uint32_t index, uint32_t pages) {
  return wasm_rt_grow_memory(memory_of(instance, index), pages) == (uint32_t)-1 ? -1 : 0;
}
`;
