import type { GpuVendor } from '../types.js';
import type { GpuReading } from './reading.js';
import type { RunTool, ToolResult } from './run-tool.js';

/** What asking a maker's tool came to. */
export interface SourceAnswer {
  /**
   * `ok`: it answered; `missing`: it is not installed; `failed`: it gave no answer, so nothing is known anew; `no-driver`: it answered that there is no driver, so no GPU of its
   * can be used.
   */
  readonly state: 'ok' | 'missing' | 'failed' | 'no-driver';
  readonly command: string;
  /** What went wrong, one line; empty: nothing. */
  readonly what: string;
  readonly gpus: readonly GpuReading[];
  readonly problems: readonly string[];
}

/** A maker's tools. `full`: all of it, else what changes from second to second. Never rejects. */
export interface GpuSource {
  readonly vendor: GpuVendor;
  read(run: RunTool, full: boolean): Promise<SourceAnswer>;
}

/** What a run that gave no answer says, one line. */
export function failureOf(result: ToolResult): string {
  if (result.refused === 'stuck') return 'an earlier run does not die: the driver hangs';
  if (result.refused === 'busy') return 'too many wait for it';
  if (result.refused) return result.stderr || 'it cannot be run';
  if (result.timedOut) return 'no answer in time';
  if (result.cut) return 'it said too much';
  const said = (result.stderr.trim() || result.stdout.trim()).split(/\r?\n/)[0]?.slice(0, 200) ?? '';
  if (result.code === 0) return said ? `no answer that can be read: ${said}` : 'it said nothing';
  return `it ended with ${result.code ?? 'a signal'}${said && `: ${said}`}`;
}

export function failed(command: string, result: ToolResult): SourceAnswer {
  const missing = result.refused === 'not-found';
  return {
    state: missing ? 'missing' : 'failed',
    command,
    what: missing ? '' : failureOf(result),
    gpus: [],
    problems: [],
  };
}
