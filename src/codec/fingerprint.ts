/** CRC-64-AVRO, the fingerprint of Avro's single-object encoding (Avro specification, "Schema fingerprints"), little-endian. */
const EMPTY = 0xc15d213aa4d7a795n;
const table = Array.from({ length: 256 }, (_, i) => {
  let value = BigInt(i);
  for (let bit = 0; bit < 8; bit++) value = (value >> 1n) ^ (EMPTY & -(value & 1n));
  return BigInt.asUintN(64, value);
});

export function fingerprint64(text: string): Buffer {
  let value = EMPTY;
  for (const byte of Buffer.from(text)) value = (value >> 8n) ^ table[Number((value ^ BigInt(byte)) & 0xffn)]!;
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt.asUintN(64, value));
  return out;
}
