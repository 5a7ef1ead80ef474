/** What any value is thought to need beside its contents, bytes. */
const EACH = 16;

/** About how many bytes of memory plain data needs. Cost: O(values in it). */
export function sizeOf(value: unknown): number {
  const left: unknown[] = [value];
  const seen = new Set<object>();
  let bytes = 0;
  while (left.length > 0) {
    const one = left.pop();
    bytes += EACH;
    if (typeof one === 'string') bytes += one.length;
    else if (ArrayBuffer.isView(one)) bytes += one.byteLength;
    else if (one instanceof ArrayBuffer) bytes += one.byteLength;
    else if (typeof one === 'object' && one !== null && !seen.has(one)) {
      seen.add(one);
      for (const [name, member] of Object.entries(one)) {
        bytes += name.length;
        left.push(member);
      }
    }
  }
  return bytes;
}
