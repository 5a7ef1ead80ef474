/**
 * The bytes of one message inside the memory it shares with its neighbours: the messages of one fetch are slices of one answer, so the two views
 * are made once an answer and positions are absolute. Whoever reads must not go past `end` on purpose; what lies behind it is another message.
 */
export class MessageBytes {
  bytes = new Uint8Array(0);
  view = new DataView(this.bytes.buffer);
  start = 0;
  end = 0;

  open(message: Buffer): void {
    if (message.buffer !== this.bytes.buffer) {
      this.bytes = new Uint8Array(message.buffer as ArrayBuffer);
      this.view = new DataView(message.buffer as ArrayBuffer);
    }
    this.start = message.byteOffset;
    this.end = message.byteOffset + message.length;
  }

  /** Lets the memory of the last message go. */
  close(): void {
    this.bytes = NOTHING;
    this.view = new DataView(NOTHING.buffer);
    this.start = 0;
    this.end = 0;
  }

  text(start: number, end: number): string {
    return Buffer.from(this.bytes.buffer, start, end - start).toString('utf8');
  }
}

const NOTHING = new Uint8Array(0);
