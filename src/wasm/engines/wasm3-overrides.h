/*
 * Read before the sources of wasm3 0.5.0 that execute code, which themselves stay as they were published:
 *  - the next operation is a tail call, so that the host's stack does not grow by guest code that runs straight on;
 *  - a conversion out of range is an invalid conversion, as on engines that draw no line between it and NaN;
 *  - memory.grow by more than 2^32 pages in sum fails and does not shrink the memory.
 */
#ifndef iguana_wasm3_overrides_h
#define iguana_wasm3_overrides_h

#include "m3_exec_defs.h"
#include "m3_env.h"
#include "m3_math_utils.h"

#undef nextOpDirect
#undef jumpOpDirect
#define nextOpDirect() __attribute__((musttail)) return nextOpImpl()
#define jumpOpDirect(PC) __attribute__((musttail)) return jumpOpImpl((pc_t)(PC))

#undef OP_TRUNC
#define OP_TRUNC(RES, A, TYPE, RMIN, RMAX)          \
  if (UNLIKELY(isnan(A) || A <= RMIN || A >= RMAX)) \
    newTrap(m3Err_trapIntegerConversion);           \
  RES = (TYPE)A;

static inline M3Result GrowOnly(IM3Runtime runtime, u32 pages) {
  if (pages < runtime->memory.numPages) return m3Err_wasmMemoryOverflow;
  return ResizeMemory(runtime, pages);
}
#define ResizeMemory GrowOnly

#endif
