/** Turns without several messages until the first of a turn goes at once again. */
const BUSY_TURNS = 16;

/** What waits goes when another message comes so much later, ms: in a turn that takes long nothing waits for its end. */
const LONGEST_WAIT_MS = 0.5;

/**
 * Sends messages in lists. The first of a turn of the event loop goes at once and what follows it goes together at the turn's end: a call alone is not held
 * up. Once a turn has sent several, all of the next turns go together: each list costs two system calls and wakes the other thread, which on few processors
 * takes the place of this one.
 */
export class MessageBatch<M> {
  private waiting: M[] = [];
  private inTurn = false;
  /** Messages of this turn. */
  private sent = 0;
  private busyTurns = 0;
  private waitingSince = 0;

  /** @param post throws when a message cannot be sent. @param onUnsendable told of a message that could not be sent with the others. */
  constructor(
    private readonly post: (messages: readonly M[]) => void,
    private readonly onUnsendable: (message: M, error: unknown) => void,
  ) {}

  send(message: M): void {
    this.sent++;
    if (this.inTurn) {
      this.wait(message);
      return;
    }
    this.inTurn = true;
    setImmediate(this.endTurn);
    if (this.busyTurns > 0) this.wait(message);
    else this.sendAll([message]);
  }

  private wait(message: M): void {
    const now = performance.now();
    if (this.waiting.length === 0) this.waitingSince = now;
    this.waiting.push(message);
    if (now - this.waitingSince > LONGEST_WAIT_MS) this.flush();
  }

  private readonly endTurn = (): void => {
    this.inTurn = false;
    if (this.sent > 1) this.busyTurns = BUSY_TURNS;
    else if (this.busyTurns > 0) this.busyTurns--;
    this.sent = 0;
    this.flush();
  };

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
