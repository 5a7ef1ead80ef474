import { setMaxListeners } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Of one connection. Those without a request are a list, in the order in which they became so. */
interface Connection {
  readonly socket: Socket;
  /** Requests that are not answered yet; more than one when a client does not wait. */
  requests: number;
  newest: ServerResponse | undefined;
  gone: AbortController | undefined;
  before: Connection | undefined;
  after: Connection | undefined;
  listed: boolean;
}

/**
 * Bounds how many connections of a server are open. When there are as many as may be, a new one takes the place of the one that has been without a request
 * longest; only when all have requests is it refused. Cost: O(1) a connection and a request, without garbage a request: a Set in place of the list would keep
 * answers of the past alive through the tables it outgrew.
 */
export class Connections {
  private readonly open = new Map<Socket, Connection>();
  private oldestIdle: Connection | undefined;
  private newestIdle: Connection | undefined;
  /** Idle ones closed for new ones, and new ones refused. */
  readonly counts = { closed: 0, refused: 0 };

  constructor(
    server: Server,
    private readonly max: number,
  ) {
    server.on('connection', (socket: Socket) => this.accept(socket));
  }

  get size(): number {
    return this.open.size;
  }

  /** To be called for each request before it is handled. */
  began({ socket }: IncomingMessage, response: ServerResponse): void {
    const connection = this.open.get(socket);
    if (!connection) return;
    connection.requests++;
    connection.newest = response;
    this.unlist(connection);
    response.on('close', () => {
      if (--connection.requests > 0) return;
      connection.newest = undefined;
      if (this.open.has(socket)) this.list(connection);
    });
  }

  /** Aborts when the connection ends. One for all of its requests: to make one for each costs a fifth of answering it. */
  signalOf(socket: Socket): AbortSignal {
    const connection = this.open.get(socket);
    if (!connection) return AbortSignal.abort();
    if (!connection.gone) {
      connection.gone = new AbortController();
      // As many as there are requests at once.
      setMaxListeners(0, connection.gone.signal);
    }
    return connection.gone.signal;
  }

  /** Whether bytes written to the connection now would not stand in the middle of an answer. */
  isBetweenAnswers(socket: Socket): boolean {
    return this.open.get(socket)?.newest?.headersSent !== true;
  }

  private accept(socket: Socket): void {
    if (this.open.size >= this.max) {
      const oldest = this.oldestIdle;
      if (!oldest) {
        this.counts.refused++;
        socket.destroy();
        return;
      }
      this.counts.closed++;
      this.forget(oldest);
      oldest.socket.destroy();
    }
    const connection: Connection = {
      socket,
      requests: 0,
      newest: undefined,
      gone: undefined,
      before: undefined,
      after: undefined,
      listed: false,
    };
    this.open.set(socket, connection);
    this.list(connection);
    socket.once('close', () => {
      this.forget(connection);
      connection.gone?.abort();
    });
  }

  private forget(connection: Connection): void {
    this.open.delete(connection.socket);
    this.unlist(connection);
  }

  private list(connection: Connection): void {
    connection.listed = true;
    connection.before = this.newestIdle;
    if (this.newestIdle) this.newestIdle.after = connection;
    else this.oldestIdle = connection;
    this.newestIdle = connection;
  }

  private unlist(connection: Connection): void {
    if (!connection.listed) return;
    const { before, after } = connection;
    if (before) before.after = after;
    else this.oldestIdle = after;
    if (after) after.before = before;
    else this.newestIdle = before;
    connection.before = undefined;
    connection.after = undefined;
    connection.listed = false;
  }
}
