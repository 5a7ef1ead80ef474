import { defineConfig } from 'vitest/config';
import { patience } from './test/support/patience.js';

/** The integration tests that take their broker from `kafkaUnderTest()`, against the real Kafka in KAFKA_BROKERS. */
export default defineConfig({
  test: {
    include: ['test/integration/{broker,function-definitions,function-streams,invoke,pipelines,schedule-gpus}.test.ts'],
    ...patience,
    fileParallelism: false,
  },
});
