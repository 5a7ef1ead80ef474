import { Command } from 'commander';
import { IguanaError } from '../errors.js';
import {
  type InflationResult,
  inflate,
  type PlacementPolicyName,
  placementPolicies,
} from '../gpu/placement/inflation.js';
import { readDemands, readNodes } from '../gpu/placement/openb.js';
import { oneOf, wholeNumber } from './suggest.js';
import { textTable } from './terminal.js';
import { textOf } from './yaml-file.js';

interface SimulateOptions {
  readonly nodes: string;
  readonly pods: string;
  readonly policy?: PlacementPolicyName;
  readonly seeds: number;
  readonly json?: boolean;
}

/** Of all seeds of one policy. */
interface Summary {
  readonly policy: PlacementPolicyName;
  /** Arrived demand as a part of the GPUs → per cent of them that are allocated; one order of arrival has no deviation. */
  readonly allocated: readonly { readonly arrived: number; readonly mean: number; readonly deviation: number | null }[];
  readonly arrivedPods: number;
  readonly rejectedPods: number;
  /** Milliseconds of one decision. */
  readonly decisionP50: number;
  readonly decisionP99: number;
}

const policyNames = Object.keys(placementPolicies) as PlacementPolicyName[];
const FIRST_SEED = 42;
const marks = [0.5, 0.8, 1, 1.3];

/** `iguana gpu simulate`: fills a recorded cluster by one or every placement policy. */
export function gpuSimulateCommand(): Command {
  return new Command('simulate')
    .description(
      'Fill a recorded cluster with recorded workloads, and see how much of it each placement policy can use',
    )
    .requiredOption(
      '--nodes <file>',
      "the cluster, CSV with the openb trace's columns: sn,cpu_milli,memory_mib,gpu,model",
    )
    .requiredOption('--pods <file>', 'the workloads, CSV: cpu_milli,memory_mib,num_gpu,gpu_milli[,gpu_spec]')
    .option('--policy <name>', `${policyNames.join(', ')} (default: all)`, oneOf(policyNames))
    .option('--seeds <n>', 'orders of arrival, each from a seed of its own', wholeNumber(1, 1_000), 3)
    .option('--json', 'print it as JSON')
    .addHelpText(
      'after',
      '\nWorkloads arrive in random order, then are drawn again, until 130 % of all GPUs were asked for; none leaves.\n\nExamples:\n  iguana gpu simulate --nodes nodes.csv --pods pods.csv\n  iguana gpu simulate --nodes nodes.csv --pods pods.csv --policy fragmentation-gradient --seeds 10 --json',
    )
    .action((options: SimulateOptions) => {
      const nodes = readNodes(textOf(options.nodes), options.nodes);
      const demands = readDemands(textOf(options.pods), options.pods);
      const gpus = nodes.reduce((sum, node) => sum + node.gpus, 0);
      if (!demands.some(({ gpuCount }) => gpuCount > 0) || gpus === 0)
        throw new IguanaError('IGU_USAGE', { what: 'the files hold no GPU, or no workload that asks for one' });
      const summaries = (options.policy ? [options.policy] : policyNames).map((policy) => {
        const durations: number[] = [];
        const results = Array.from({ length: options.seeds }, (_, i) =>
          inflate(nodes, demands, { policy, seed: FIRST_SEED + i, marks, onDecision: (ms) => durations.push(ms) }),
        );
        return summary(policy, results, durations);
      });
      if (options.json) {
        const seeds = { first: FIRST_SEED, count: options.seeds };
        process.stdout.write(`${JSON.stringify({ nodes: nodes.length, gpus, seeds, policies: summaries }, null, 2)}\n`);
      } else print(summaries, nodes.length, gpus, options.seeds);
    });
}

function summary(policy: PlacementPolicyName, results: readonly InflationResult[], durations: number[]): Summary {
  durations.sort((a, b) => a - b);
  const quantile = (q: number): number => durations[Math.min(durations.length - 1, Math.floor(q * durations.length))]!;
  return {
    policy,
    allocated: marks.map((arrived, mark) => {
      const values = results.map(({ allocated }) => allocated[mark]!);
      const mean = average(values);
      const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      return { arrived, mean, deviation: values.length < 2 ? null : Math.sqrt(squares / (values.length - 1)) };
    }),
    arrivedPods: average(results.map(({ arrived }) => arrived)),
    rejectedPods: average(results.map(({ rejected }) => rejected)),
    decisionP50: quantile(0.5),
    decisionP99: quantile(0.99),
  };
}

const average = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function print(summaries: readonly Summary[], nodes: number, gpus: number, seeds: number): void {
  const percent = (arrived: number): string => `${100 * arrived} %`;
  const rows = summaries.map(({ policy, allocated, rejectedPods, decisionP99 }) => [
    policy,
    ...allocated.map(({ mean, deviation }) => `${mean.toFixed(2)} ± ${deviation?.toFixed(2) ?? '-'}`),
    rejectedPods.toFixed(0),
    `${decisionP99.toFixed(2)} ms`,
  ]);
  process.stdout.write(
    `${gpus} GPUs on ${nodes} nodes; ${seeds} ${seeds === 1 ? 'order' : 'orders'} of arrival. Per cent of the GPUs allocated when so much of them was asked for:\n\n${textTable(['policy', ...marks.map(percent), 'rejected', 'decision p99'], rows)}\n`,
  );
}
