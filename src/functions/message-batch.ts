/**
 * Sends messages in lists: what a turn of the event loop sends first goes at once, all that follows in the same turn goes together at its end. A single
 * call is not held up, and many at once cost one wake-up of the other thread in place of one each.
 */
export class MessageBatch<M> {
  private waiting: M[] = [];
  private inTurn = false;

  /** @param post throws when a message cannot be sent. @param onUnsendable told of a message that could not be sent with the others. */
  constructor(
    private readonly post: (messages: readonly M[]) => void,
    private readonly onUnsendable: (message: M, error: unknown) => void,
  ) {}

  send(message: M): void {
    if (this.inTurn) {
      this.waiting.push(message);
      return;
    }
    this.inTurn = true;
    setImmediate(() => {
      this.inTurn = false;
      this.flush();
    });
    this.sendAll([message]);
  }

  /** Sends what waits: before a message that must not overtake it. */
  flush(): void {
    if (this.waiting.length === 0) return;
    const messages = this.waiting;
    this.waiting = [];
    this.sendAll(messages);
  }

  private sendAll(messages: readonly M[]): void {
    try {
      this.post(messages);
    } catch (error) {
      if (messages.length === 1) this.onUnsendable(messages[0]!, error);
      else for (const message of messages) this.sendAll([message]);
    }
  }
}
