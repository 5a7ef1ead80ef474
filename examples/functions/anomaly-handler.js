/** A service is restarted at most once in so long: a restart that does not help is not repeated for ever. */
const pauseMs = Number(process.env.RESTART_EVERY_MINUTES ?? 10) * 60_000;
const restartedAt = new Map();

/** One command for each anomaly, in order. */
export function handle({ records }, { log }) {
  return records.map(({ value: anomaly, timestamp }) => {
    const { id, state, name, severity, entity } = anomaly;
    const service = anomaly.labels?.service ?? entity;
    if (state === 'resolved') return { episode: id, service, resolved: true };
    const restart =
      severity === 'critical' && timestamp - (restartedAt.get(service) ?? Number.NEGATIVE_INFINITY) >= pauseMs;
    if (restart) restartedAt.set(service, timestamp);
    log.warn(service, name, severity, restart ? 'restart' : 'tell only');
    return {
      episode: id,
      service,
      restart,
      alert: {
        severity,
        title: `${name} of ${service} is unusual`,
        message: restart ? 'it is restarted' : 'nothing was done',
      },
    };
  });
}
