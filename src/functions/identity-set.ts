import { createHash } from 'node:crypto';

/** Words of 32 bits of an identity: with 96 bits two of a million million are alike once in a hundred thousand worlds. */
const WORDS = 3;
const FIRST_SLOTS = 1_024;

/** Hashes of texts in an open table. Cost: O(1); 24 bytes for each text. */
class Hashes {
  private slots = new Uint32Array(FIRST_SLOTS * WORDS);
  size = 0;

  has(hash: Uint32Array): boolean {
    return this.slots[this.find(this.slots, hash)] !== 0;
  }

  add(hash: Uint32Array): void {
    if (2 * (this.size + 1) * WORDS > this.slots.length) this.grow();
    const at = this.find(this.slots, hash);
    if (this.slots[at] === 0) this.size++;
    this.slots.set(hash, at);
  }

  private grow(): void {
    const larger = new Uint32Array(this.slots.length * 2);
    for (let at = 0; at < this.slots.length; at += WORDS) {
      if (this.slots[at] === 0) continue;
      const hash = this.slots.subarray(at, at + WORDS);
      larger.set(hash, this.find(larger, hash));
    }
    this.slots = larger;
  }

  /** Where the hash is, or would be. */
  private find(slots: Uint32Array, hash: Uint32Array): number {
    const count = slots.length / WORDS;
    for (let slot = hash[0]! % count; ; slot = slot + 1 === count ? 0 : slot + 1) {
      const at = slot * WORDS;
      if (slots[at] === 0) return at;
      if (slots[at] === hash[0] && slots[at + 1] === hash[1] && slots[at + 2] === hash[2]) return at;
    }
  }
}

/**
 * Remembers texts by 96 bits of their SHA-256, so that each counts once: the newest `most`, and up to as many more before them.
 * Cost: 1 to 2 µs and at most 48 bytes a text.
 */
export class IdentitySet {
  private recent = new Hashes();
  private older = new Hashes();

  /** @param most texts after which the older half is forgotten */
  constructor(private readonly most: number) {}

  get size(): number {
    return this.recent.size + this.older.size;
  }

  /** False for a text that is remembered. */
  add(text: string): boolean {
    const digest = createHash('sha256').update(text).digest();
    // a first word of zero marks an empty slot
    const hash = Uint32Array.of(digest.readUInt32LE(0) || 1, digest.readUInt32LE(4), digest.readUInt32LE(8));
    if (this.recent.has(hash) || this.older.has(hash)) return false;
    if (this.recent.size >= this.most) {
      this.older = this.recent;
      this.recent = new Hashes();
    }
    this.recent.add(hash);
    return true;
  }
}
