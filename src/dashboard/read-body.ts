import type { IncomingMessage, ServerResponse } from 'node:http';
import { IguanaError } from '../errors.js';
import { httpLimits } from '../limits.js';

/**
 * Reads bodies of requests. What is held never exceeds the limit given with each, and `maxBuffered` for all of them together: a body that says it is larger is
 * refused before a byte of it is read, one that turns out to be larger as soon as it is.
 */
export class BodyReader {
  private held = 0;

  /** @param maxBuffered bytes of all bodies that are being read (default `httpLimits.maxBufferedBytes`) */
  constructor(private readonly maxBuffered: number = httpLimits.maxBufferedBytes) {}

  /**
   * @param limit bytes
   * @returns undefined without a body
   * @throws IguanaError `IGU_HTTP_TOO_LARGE`, `IGU_LIMIT` when too much is being read at once, `IGU_HTTP_BODY` when the client went away
   */
  async read(request: IncomingMessage, response: ServerResponse, limit: number): Promise<Buffer | undefined> {
    const { 'content-length': length, 'transfer-encoding': coding, expect } = request.headers;
    if (coding === undefined && (length === undefined || length === '0')) return undefined;
    if (length !== undefined && Number(length) > limit) throw new IguanaError('IGU_HTTP_TOO_LARGE', { limit });
    if (expect !== undefined) response.writeContinue();
    const pieces: Buffer[] = [];
    let size = 0;
    let take: (piece: Buffer) => void = () => undefined;
    let gone: () => void = () => undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        take = (piece) => {
          if (size + piece.length > limit) {
            reject(new IguanaError('IGU_HTTP_TOO_LARGE', { limit }));
          } else if (this.held + piece.length > this.maxBuffered) {
            reject(new IguanaError('IGU_LIMIT', { limit: 'bytes of bodies read at once', value: this.maxBuffered }));
          } else {
            size += piece.length;
            this.held += piece.length;
            pieces.push(piece);
            return;
          }
          request.pause().off('data', take);
        };
        request.on('data', take);
        request.once('end', resolve);
        gone = () => {
          // Comes after the end of every request.
          if (request.complete) return;
          reject(new IguanaError('IGU_HTTP_BODY', { what: 'the connection ended before it did' }));
        };
        request.on('error', gone).on('close', gone);
      });
    } finally {
      request.off('data', take).off('close', gone);
      this.held -= size;
    }
    return pieces.length === 1 ? pieces[0] : Buffer.concat(pieces, size);
  }
}
