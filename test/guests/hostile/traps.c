/* Ends in every way that guest code may end early. */
#define EXPORT(name) __attribute__((export_name(#name)))

EXPORT(unreachable) void unreachable_(void) { __builtin_trap(); }
EXPORT(divide) int divide(int a, int b) { return a / b; }
EXPORT(remainder) int remainder_(int a, int b) { return a % b; }
EXPORT(read) int read_(unsigned address) { return *(volatile int *)(unsigned long)address; }
EXPORT(write) void write_(unsigned address) { *(volatile int *)(unsigned long)address = 1; }
EXPORT(convert) int convert(double x) {
  int result;
  __asm__("local.get %1\n i32.trunc_f64_s\n local.set %0" : "=r"(result) : "r"(x));
  return result;
}

static int one(int x) { return x + 1; }
static double other(double x) { return x * 2; }
int (*volatile first)(int) = one;
double (*volatile second)(double) = other;

/* Calls the table's element as a function from int to int; 0 holds nothing, 1 fits, 2 is of another type, more is beyond the table's end. */
EXPORT(call) int call(unsigned index) { return ((int (*)(int))(unsigned long)index)(41); }
/* Keeps the two functions in the table. */
EXPORT(keep) double keep(int x) { return first(x) + second(x); }
EXPORT(fill) void fill(unsigned start, unsigned length) { __builtin_memset((void *)(unsigned long)start, 7, length); }
