import { type Command, CommanderError } from 'commander';
import { vi } from 'vitest';
import { exitCodeOf } from '../../src/cli/main.js';
import { messageOf } from '../../src/errors.js';

/** A command in this process, since starting one takes long: what it prints, what its error says, and the code it would end with. */
export async function commandHere(
  command: () => Command,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const stdout = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  const stderr = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += String(text);
    return true;
  });
  process.exitCode = 0;
  let code = 0;
  try {
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    // it looks at its environment when it is made
    await command().exitOverride().parseAsync(args, { from: 'user' });
    code = Number(process.exitCode);
  } catch (error) {
    code = exitCodeOf(error);
    if (!(error instanceof CommanderError)) err += messageOf(error);
  } finally {
    stdout.mockRestore();
    stderr.mockRestore();
    vi.unstubAllEnvs();
    process.exitCode = 0;
  }
  return { code, out, err };
}
