/**
 * Resolves with the exit code when the user asks to stop: `q` or Ctrl-C in a terminal, SIGINT (130) or SIGTERM (0) else.
 * A second request while stopping ends the process at once.
 */
export function untilStopped(): Promise<number> {
  return new Promise((resolve) => {
    let asked = false;
    const ask = (code: number): void => {
      if (asked) process.exit(130);
      asked = true;
      restore();
      resolve(code);
    };
    const onKey = (bytes: Buffer): void => {
      const key = bytes.toString('latin1');
      if (key === 'q') ask(0);
      else if (key === '\u0003') ask(130);
    };
    const stdin = process.stdin;
    const interactive = stdin.isTTY === true;
    if (interactive) {
      stdin.setRawMode(true);
      stdin.resume();
      stdin.on('data', onKey);
    }
    const restore = (): void => {
      if (!interactive) return;
      stdin.setRawMode(false);
      stdin.off('data', onKey);
      stdin.pause();
    };
    process.on('SIGINT', () => ask(130));
    process.on('SIGTERM', () => ask(0));
    process.on('SIGHUP', () => ask(0));
  });
}
