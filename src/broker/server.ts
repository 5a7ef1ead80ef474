import { createServer, type Server, type Socket } from 'node:net';
import { brokerLimits } from '../limits.js';
import { type BrokerState, handlers, type RequestContext } from './handlers.js';
import { apiByKey, apis } from './protocol/apis.js';
import { ByteReader, ByteWriter, MalformedRequest } from './protocol/bytes.js';
import { errorCodes } from './protocol/error-codes.js';
import { decode, encode } from './protocol/schema.js';

/**
 * Speaks the Kafka protocol on a TCP port: frames of a length and a request, answered in order on each connection (requests may be sent ahead).
 * A frame that cannot be read closes its connection, as Kafka does.
 */
export function createProtocolServer(state: BrokerState): Server {
  const server = createServer({ noDelay: true }, (socket) => serve(socket, state));
  server.maxConnections = brokerLimits.maxConnections;
  return server;
}

function serve(socket: Socket, state: BrokerState): void {
  const connection: RequestContext['connection'] = { open: true, onClose: new Set() };
  const hosts = {
    clientHost: `/${socket.remoteAddress ?? ''}`,
    localAddress: (socket.localAddress ?? '127.0.0.1').replace(/^::ffff:/, ''),
  };
  let answering: Promise<void> = Promise.resolve();
  socket.once('close', () => {
    connection.open = false;
    for (const wake of [...connection.onClose]) wake();
  });
  socket.on('error', () => socket.destroy());
  const frames = new FrameReader(
    (frame) => {
      answering = answering
        .then(() => (connection.open ? answer(frame, state, hosts, connection) : undefined))
        .then((chunks) => {
          if (!chunks || !connection.open) return;
          socket.cork();
          for (const chunk of chunks) socket.write(chunk);
          socket.uncork();
        })
        .catch(() => {
          socket.destroy();
        });
    },
    () => socket.destroy(),
  );
  socket.on('data', (chunk) => frames.take(chunk));
}

/** The frame of the response, or undefined where none is due. */
async function answer(
  frame: Buffer,
  state: BrokerState,
  hosts: Pick<RequestContext, 'clientHost' | 'localAddress'>,
  connection: RequestContext['connection'],
): Promise<Buffer[] | undefined> {
  const reader = new ByteReader(frame);
  const key = reader.int16();
  const version = reader.int16();
  const correlationId = reader.int32();
  const known = apiByKey.get(key);
  const writer = new ByteWriter();
  writer.int32(correlationId);
  if (!known || version < known.api.min || version > known.api.max) {
    if (key !== apis.ApiVersions.key) throw new MalformedRequest(`API ${key} version ${version} is not served`);
    // KIP-511: any version of ApiVersions is answered, a foreign one in the layout of version 0
    const { key: own, min, max } = apis.ApiVersions;
    encode(
      apis.ApiVersions.response,
      0,
      { errorCode: errorCodes.UNSUPPORTED_VERSION, apiKeys: [{ key: own, min, max }] },
      writer,
    );
    return framed(writer);
  }
  const clientId = reader.string() ?? '';
  const request = decode(known.api.request, version, reader);
  const context: RequestContext = { version, clientId, ...hosts, connection };
  const response = await handlers[known.name](state, request, context);
  if (!response) return undefined;
  encode(known.api.response, version, response, writer);
  return framed(writer);
}

function framed(writer: ByteWriter): Buffer[] {
  const { chunks, size } = writer.finish();
  const length = Buffer.allocUnsafe(4);
  length.writeInt32BE(size);
  return [length, ...chunks];
}

/** Cuts a byte stream into frames; each frame is one buffer of its own, so that a log may keep slices of it. */
class FrameReader {
  private readonly header = Buffer.alloc(4);
  private headerFilled = 0;
  private frame: Buffer | undefined;
  private filled = 0;
  private failed = false;

  constructor(
    private readonly onFrame: (frame: Buffer) => void,
    private readonly onBroken: () => void,
  ) {}

  take(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && !this.failed) {
      if (!this.frame) {
        this.header[this.headerFilled++] = chunk[at++]!;
        if (this.headerFilled < 4) continue;
        const size = this.header.readInt32BE(0);
        if (size < 8 || size > brokerLimits.maxRequestBytes) {
          this.failed = true;
          this.onBroken();
          return;
        }
        this.frame = Buffer.allocUnsafeSlow(size);
        this.filled = 0;
      }
      const copied = chunk.copy(this.frame, this.filled, at);
      at += copied;
      this.filled += copied;
      if (this.filled < this.frame.length) return;
      const whole = this.frame;
      this.frame = undefined;
      this.headerFilled = 0;
      this.onFrame(whole);
    }
  }
}
