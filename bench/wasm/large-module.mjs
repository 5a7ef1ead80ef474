/** Modules of any size with real code in them: the kernels' functions again and again, callable by the kernels' names. */

function readLeb(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    value += (byte & 127) * 2 ** shift;
    if (byte < 128) return [value, at];
  }
}

function leb(value) {
  const bytes = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest > 0 ? low | 128 : low);
  } while (rest > 0);
  return bytes;
}

/**
 * The module with its functions repeated until it has about so many bytes; the copies call the originals. `salt` goes into a custom section, so that
 * no engine and no cache has met the bytes before.
 */
export function largeModule(bytes, size, salt) {
  const sections = [];
  for (let at = 8; at < bytes.length; ) {
    const id = bytes[at];
    const [length, start] = readLeb(bytes, at + 1);
    if (id !== 0) sections.push({ id, body: bytes.subarray(start, start + length) });
    at = start + length;
  }
  const code = sections.find(({ id }) => id === 10).body;
  const times = Math.max(1, Math.round(size / code.length));
  const parts = [Buffer.from(bytes.subarray(0, 8))];
  const add = (id, ...chunks) => {
    const body = Buffer.concat(chunks.map((chunk) => Buffer.from(chunk)));
    parts.push(Buffer.from([id, ...leb(body.length)]), body);
  };
  for (const { id, body } of sections) {
    if (id !== 3 && id !== 10) {
      add(id, body);
      continue;
    }
    const [count, start] = readLeb(body, 0);
    add(id, leb(count * times), ...Array.from({ length: times }, () => body.subarray(start)));
  }
  add(0, [4, ...Buffer.from('salt')], Buffer.from(String(salt)));
  return new Uint8Array(Buffer.concat(parts));
}
