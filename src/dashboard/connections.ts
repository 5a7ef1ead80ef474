import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Answers that are under way on a connection, oldest first; more than one when a client does not wait for them. */
type Answers = Set<ServerResponse>;

/**
 * Bounds how many connections of a server are open. When there are as many as may be, a new one takes the place of the one that has been without a request
 * longest; only when all have requests is it refused. Cost: O(1) a connection and a request.
 */
export class Connections {
  private readonly open = new Map<Socket, Answers>();
  /** In the order in which they became idle. */
  private readonly idle = new Set<Socket>();
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
  began(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const answers = this.open.get(socket);
    if (!answers) return;
    answers.add(response);
    this.idle.delete(socket);
    response.once('close', () => {
      answers.delete(response);
      if (answers.size === 0 && this.open.has(socket)) this.idle.add(socket);
    });
  }

  /** Whether bytes written to the connection now would not stand in the middle of an answer. */
  isBetweenAnswers(socket: Socket): boolean {
    for (const response of this.open.get(socket) ?? []) if (response.headersSent) return false;
    return true;
  }

  private accept(socket: Socket): void {
    if (this.open.size >= this.max) {
      const [oldest] = this.idle;
      if (!oldest) {
        this.counts.refused++;
        socket.destroy();
        return;
      }
      this.counts.closed++;
      this.forget(oldest);
      oldest.destroy();
    }
    this.open.set(socket, new Set());
    this.idle.add(socket);
    socket.once('close', () => this.forget(socket));
  }

  private forget(socket: Socket): void {
    this.open.delete(socket);
    this.idle.delete(socket);
  }
}
