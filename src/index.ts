/** What a program may import. */

export { type Alert, type AlertOptions, alert, type SinkOptions } from './api/alert.js';
export { type Anomaly, anomaly, type DetectorHandle, type DetectorOptions, type RuleOptions } from './api/anomaly.js';
export { constellation } from './api/constellation.js';
export {
  type Prediction,
  Predictor,
  type PredictorOptions,
  type PredictorStats,
  predictive,
} from './api/predictive.js';
export type { WebhookOptions } from './api/webhook.js';
export { type BrokerOptions, type RunningBroker, startBroker } from './broker/broker.js';
export { startBrokerThread } from './broker/broker-thread.js';
export type { Instance } from './cluster/cluster.js';
export type { ProcessClusterOptions } from './cluster/process-cluster.js';
export { detectorNames } from './detectors/registry.js';
export { type Observation, SeriesDetector, type SeriesDetectorOptions } from './detectors/series-detector.js';
export { type ErrorCode, errorTable, IguanaError } from './errors.js';
export { modelNames } from './models/registry.js';
export { SeriesForecaster, type SeriesForecasterOptions } from './models/series-forecaster.js';
export * from './records.js';
