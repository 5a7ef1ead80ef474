/** What to look at first, by what the metric's name says it measures; later rows are more general. */
const rows: readonly [RegExp, string, string][] = [
  [
    /^gpu_idle_memory/,
    'a job holds memory and does nothing: look at its processes (iguana gpu list), restart it when it hangs',
    'check that the job still runs',
  ],
  [/^gpu_health/, 'see the cause and what to do about it with iguana gpu list', 'check that its agent still reports'],
  [/^gpu_throttled/, 'look at cooling, power and the reason that iguana gpu list tells', 'check the sensor'],
  [
    /error|fail|5xx/,
    'look at the last deployment and the dependencies that fail',
    'check that errors are still counted',
  ],
  [
    /latency|response_time|duration/,
    'look for a slow dependency, saturation or garbage collection; more instances help when it is load',
    'check that requests do real work',
  ],
  [
    /request|throughput|rps|qps/,
    'check for a campaign, a retry storm or abuse; scale out when it is real',
    'check load balancer, DNS and upstream: requests do not arrive',
  ],
  [
    /cpu|load/,
    'find the process that uses it; scale out when it is load',
    'check that the service still does its work',
  ],
  [/memory|heap|swap/, 'look for a leak; restart the instance before it is killed', 'check for a restart'],
  [/disk|filesystem/, 'find what fills or hammers the disk', 'check that writes still succeed'],
  [/network|receive|transmit/, 'find the peer that sends or takes so much', 'check the link and the peers'],
  [/temperature/, 'check cooling and load', 'check the sensor'],
];

export function recommendationFor(metric: string, direction: 'above' | 'below'): string {
  const row = rows.find(([pattern]) => pattern.test(metric));
  if (!row) return `compare ${metric} with what changed at that time`;
  return direction === 'above' ? row[1] : row[2];
}
