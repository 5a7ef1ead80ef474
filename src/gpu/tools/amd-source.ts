import { isAmdAnswer, parseAmdSmi } from './amd-smi.js';
import { parseRocmSmi } from './rocm-smi.js';
import type { RunTool } from './run-tool.js';
import { failed, type GpuSource, type SourceAnswer } from './source.js';

const rocmArguments = [
  '--showproductname',
  '--showuniqueid',
  '--showserial',
  '--showbus',
  '--showdriverversion',
  '--showmeminfo',
  'vram',
  '--showuse',
  '--showmemuse',
  '--showtemp',
  '--showpower',
  '--showmaxpower',
  '--showclocks',
  '--showfan',
  '--json',
];

/** AMD by amd-smi, and by rocm-smi where that is not there. Once one of them has answered it stays with it: they name GPUs differently. */
export class AmdSource implements GpuSource {
  readonly vendor = 'amd';
  private settled: 'amd-smi' | 'rocm-smi' | undefined;
  private identity: { list: string; static: string } | undefined;

  async read(run: RunTool, full: boolean): Promise<SourceAnswer> {
    if (this.settled === 'rocm-smi') return this.byRocm(run);
    const answer = await this.byAmd(run, full);
    if (answer.state === 'ok' || this.settled) return answer;
    const other = await this.byRocm(run);
    return other.state === 'missing' ? answer : other;
  }

  private async byAmd(run: RunTool, full: boolean): Promise<SourceAnswer> {
    const command = 'amd-smi';
    if (full || !this.identity) {
      const list = await run(command, ['list', '--json']);
      if (list.refused || list.timedOut || list.code !== 0 || !isAmdAnswer(list.stdout)) return failed(command, list);
      const more = await run(command, ['static', '--json']);
      this.identity = { list: list.stdout, static: more.code === 0 ? more.stdout : '' };
    }
    const metric = await run(command, ['metric', '--json']);
    // a warning alone does not say that there are none
    if (metric.refused || metric.timedOut || metric.code !== 0 || !isAmdAnswer(metric.stdout))
      return failed(command, metric);
    const process = await run(command, ['process', '--json']);
    const { gpus, problems } = parseAmdSmi({
      list: this.identity.list,
      ...(this.identity.static && { static: this.identity.static }),
      metric: metric.stdout,
      ...(process.code === 0 && { process: process.stdout }),
    });
    this.settled = command;
    // whoever is only in yesterday's list is not there any more
    const there = new Set(parseAmdSmi({ metric: metric.stdout }).gpus.map(({ facts }) => facts.index?.value));
    return {
      state: 'ok',
      command,
      what: '',
      gpus: gpus.filter(({ facts }) => there.has(facts.index?.value)),
      problems,
    };
  }

  private async byRocm(run: RunTool): Promise<SourceAnswer> {
    const command = 'rocm-smi';
    const result = await run(command, rocmArguments);
    if (result.refused || result.timedOut) return failed(command, result);
    const { gpus, problems } = parseRocmSmi(result.stdout);
    if (gpus.length === 0 && result.code !== 0) return failed(command, result);
    if (gpus.length === 0 && !/no (amd )?gpus?|no json data/i.test(result.stdout + result.stderr))
      return failed(command, result);
    this.settled = command;
    return { state: 'ok', command, what: '', gpus, problems };
  }
}
