/** The topics of a running system. State topics are added by the pipelines that own them. */
export const topics = {
  metrics: 'metrics',
  forecasts: 'forecasts',
  anomalies: 'anomalies',
  decisions: 'decisions',
  deadLetters: 'dead-letters',
} as const;

export const topicNames: readonly string[] = Object.values(topics);
