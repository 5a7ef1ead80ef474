import { nvidiaQueryFields, parseNvidiaHelp, parseNvidiaQuery } from './nvidia-query.js';
import type { RunTool } from './run-tool.js';
import { failed, failureOf, type GpuSource, type SourceAnswer } from './source.js';
import { isXpuAnswer, parseXpuSmi, xpuDevices } from './xpu-smi.js';

const command = 'xpu-smi';

/** Intel by xpu-smi: version 1 answers in JSON, a question a device; version 2 like nvidia-smi. */
export class IntelSource implements GpuSource {
  readonly vendor = 'intel';
  private version: 1 | 2 | undefined;
  private fields: readonly string[] | undefined;
  private discovery = '';
  private details = new Map<number, string>();

  async read(run: RunTool, full: boolean): Promise<SourceAnswer> {
    if (this.version !== 2) {
      const answer = await this.first(run, full);
      if (answer.state !== 'failed' || this.version === 1) return answer;
    }
    return this.second(run, full);
  }

  private async first(run: RunTool, full: boolean): Promise<SourceAnswer> {
    if (full || this.discovery === '') {
      const discovery = await run(command, ['discovery', '-j']);
      if (discovery.refused || discovery.timedOut || discovery.code !== 0) return failed(command, discovery);
      if (!isXpuAnswer(discovery.stdout)) return failed(command, discovery);
      this.discovery = discovery.stdout;
      this.details = new Map();
      for (const device of xpuDevices(this.discovery)) {
        const more = await run(command, ['discovery', '-d', String(device), '-j']);
        if (more.code === 0) this.details.set(device, more.stdout);
      }
    }
    this.version = 1;
    const stats = new Map<number, string>();
    const without = new Map<number, string>();
    const { discovery } = this;
    for (const device of xpuDevices(discovery)) {
      const answer = await run(command, ['stats', '-d', String(device), '-j']);
      if (answer.timedOut || answer.refused) return failed(command, answer);
      if (answer.code === 0) stats.set(device, answer.stdout);
      else {
        without.set(device, failureOf(answer));
        // it may be gone: the next look asks anew which there are
        this.discovery = '';
      }
    }
    const ps = await run(command, ['ps', '-j']);
    const { gpus, problems } = parseXpuSmi({
      discovery,
      details: this.details,
      stats,
      failed: without,
      ...(ps.code === 0 && { ps: ps.stdout }),
    });
    const told = ps.code === 0 ? problems : [...problems, `ps: ${failureOf(ps)}`];
    return { state: 'ok', command, what: '', gpus, problems: told };
  }

  private async second(run: RunTool, full: boolean): Promise<SourceAnswer> {
    if (full || !this.fields) {
      const help = await run(command, ['--help-query-gpu']);
      if (help.refused || help.timedOut) return failed(command, help);
      this.fields = nvidiaQueryFields(parseNvidiaHelp(help.stdout));
    }
    const query = await run(command, [`--query-gpu=${this.fields.join(',')}`, '--format=csv']);
    const { gpus, problems } = parseNvidiaQuery(query.stdout, 'intel');
    if (gpus.length === 0) return failed(command, query);
    this.version = 2;
    return { state: 'ok', command, what: '', gpus, problems };
  }
}
