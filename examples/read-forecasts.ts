/**
 * Subscribes to `forecasts` and `anomalies` and prints what is worth acting on: the furthest forecast of each series with its 95 % band, and episodes as they
 * open and end.
 * Run: node dist/examples/read-forecasts.js [host:port]
 */
import { Kafka } from 'kafkajs';
import type { AnomalyRecord, ForecastRecord } from '../src/records.js';

const kafka = new Kafka({ clientId: 'read-forecasts', brokers: [process.argv[2] ?? '127.0.0.1:9092'] });
const consumer = kafka.consumer({ groupId: 'read-forecasts' });
process.once('SIGINT', () => consumer.disconnect());

await consumer.connect();
await consumer.subscribe({ topics: ['forecasts', 'anomalies'] });
await consumer.run({
  eachMessage: async ({ topic, message }) => {
    const text = String(message.value);
    if (topic === 'forecasts') {
      const { entity, name, points } = JSON.parse(text) as ForecastRecord;
      const far = points.at(-1);
      const band = far?.intervals.find((i) => i.level === 95);
      if (!far || !band) return;
      const seconds = far.horizonMs / 1000;
      console.log(
        `forecast ${entity} ${name} in ${seconds} s: ${far.value.toFixed(1)} (${band.lower.toFixed(1)} to ${band.upper.toFixed(1)}), confidence ${far.confidence}`,
      );
    } else {
      const { state, severity, entity, name, reason } = JSON.parse(text) as AnomalyRecord;
      if (state !== 'update') console.log(`anomaly ${state} ${severity} ${entity} ${name}: ${reason}`);
    }
  },
});
