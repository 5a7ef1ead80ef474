import { defineConfig } from 'vitest/config';

/** The integration tests that take their broker from `kafkaUnderTest()`, against the real Kafka in KAFKA_BROKERS. */
export default defineConfig({
  test: {
    include: ['test/integration/{broker,function-definitions,function-streams,invoke,pipelines,schedule-gpus}.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false,
  },
});
