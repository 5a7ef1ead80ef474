import { connect, type Socket } from 'node:net';

export interface RawConnection {
  readonly socket: Socket;
  /** All that came so far, as Latin-1. */
  readonly text: () => string;
  readonly closed: Promise<void>;
}

/** Bytes on a socket, as no client library would send them. */
export function rawConnection(port: number, first = ''): RawConnection {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.on('data', (piece) => {
    text += piece.toString('latin1');
  });
  // A reset is one of the ends that are looked for.
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  if (first) socket.write(first, 'latin1');
  return { socket, text: () => text, closed };
}

/** Sends it, and gives all that comes until the other end closes. */
export async function rawExchange(port: number, sent: string): Promise<string> {
  const { socket, text, closed } = rawConnection(port, sent);
  const late = setTimeout(() => socket.destroy(), 5_000);
  await closed;
  clearTimeout(late);
  return text();
}
