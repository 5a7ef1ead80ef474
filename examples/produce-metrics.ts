/**
 * Produces one metric to the topic `metrics`, as any service would: once a second, keyed by the service.
 * Run: node dist/examples/produce-metrics.js [host:port] [every ms]; the address is in the banner of `npm start`.
 */
import { Kafka, Partitioners } from 'kafkajs';

const kafka = new Kafka({ clientId: 'produce-metrics', brokers: [process.argv[2] ?? '127.0.0.1:9092'] });
const everyMs = Number(process.argv[3] ?? 1000);
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
await producer.connect();

let running = true;
process.once('SIGINT', () => {
  running = false;
});

for (let step = 0; running; step++) {
  const sample = {
    name: 'queue_length',
    labels: { service: 'checkout' },
    timestamp: Date.now(),
    value: 50 + 30 * Math.sin((2 * Math.PI * step) / 60) + 5 * Math.random(),
  };
  await producer.send({ topic: 'metrics', messages: [{ key: 'checkout', value: JSON.stringify(sample) }] });
  console.log(`${new Date(sample.timestamp).toISOString()} ${sample.name} ${sample.value.toFixed(1)}`);
  await new Promise((resolve) => setTimeout(resolve, everyMs));
}
await producer.disconnect();
