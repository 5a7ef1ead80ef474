/** What a program may import. */

export { type Alert, type AlertOptions, alert, type SinkOptions } from './api/alert.js';
export { type Anomaly, anomaly, type DetectorHandle, type DetectorOptions, type RuleOptions } from './api/anomaly.js';
export {
  type ClusterHandle,
  type ClusterOptions,
  constellation,
  type Deployed,
  type DeployOptions,
  type PreallocateOptions,
} from './api/constellation.js';
export {
  type GpuAllocateOptions,
  type GpuConnectOptions,
  type GpuOptions,
  type GpuRef,
  type GpuSharingRule,
  gpu,
} from './api/gpu.js';
export type { DiscoveredGpu, DiscoveredPartition, DiscoveredProcess } from './api/gpu-discovered.js';
export type { GpuReadiness } from './api/gpu-forecast.js';
export type { GpuNeeds } from './api/gpu-needs.js';
export { GpuRefusedError } from './api/gpu-refused.js';
export {
  type Prediction,
  Predictor,
  type PredictorOptions,
  type PredictorStats,
  predictive,
} from './api/predictive.js';
export {
  type AsyncInvocation,
  type AsyncOptions,
  type FunctionCode,
  type FunctionOptions,
  type FunctionRef,
  type ScalingPolicy,
  type ServerlessOptions,
  type ServerlessStats,
  type SyncOptions,
  serverless,
} from './api/serverless.js';
export { wasm } from './api/wasm.js';
export type { WebhookOptions } from './api/webhook.js';
export { type BrokerOptions, type RunningBroker, startBroker } from './broker/broker.js';
export { startBrokerThread } from './broker/broker-thread.js';
export type { Instance } from './cluster/cluster.js';
export type { ProcessClusterOptions } from './cluster/process-cluster.js';
export { detectorNames } from './detectors/registry.js';
export { type Observation, SeriesDetector, type SeriesDetectorOptions } from './detectors/series-detector.js';
export { type ErrorCode, errorTable, IguanaError } from './errors.js';
export type { Bill, PriceTable } from './functions/billing.js';
export type { FunctionDefinition, GivenTrigger, Trigger } from './functions/definition.js';
export type { FunctionMetrics } from './functions/function-metrics.js';
export type { AliasWeights, DeployedFunction } from './functions/function-service.js';
export type {
  CloudEvent,
  EventRecord,
  FunctionEvent,
  InvocationContext,
  InvocationResult,
} from './functions/invocation.js';
export type { GangMember, GpuDenial, GpuGrant } from './gpu/allocator.js';
export type { GpuRefusal, GpuRequest, GpuSharing } from './gpu/allocator-rules.js';
export type { GpuPlan, GpuStats, WaitingRequest } from './gpu/gpu-service.js';
export type { Allocation, LedgerRecord, Reservation, SharingMode } from './gpu/ledger.js';
export type { Gpu } from './gpu/types.js';
export { modelNames } from './models/registry.js';
export { SeriesForecaster, type SeriesForecasterOptions } from './models/series-forecaster.js';
export * from './records.js';
export type { EngineName, Tier } from './wasm/engines/engine.js';
export type { GuestOutput, GuestWasi } from './wasm/runtime/guest-wasi.js';
export type { GasUsed, HostFunction, Instance as WasmInstance, UserImports } from './wasm/runtime/instance.js';
export type { InstanceInfo as WasmInstanceInfo } from './wasm/runtime/instance-host.js';
export type { ResourceLimits } from './wasm/runtime/resource-limits.js';
export {
  type CreateOptions,
  type InstanceHandle,
  type ModuleHandle,
  type RuntimeOptions,
  type RuntimeStats,
  WasmRuntime,
} from './wasm/runtime/runtime.js';
export type { TypedValue } from './wasm/runtime/values.js';
export type { Snapshot } from './wasm/snapshot/snapshot.js';
export { type TrapKind, WasmTrap } from './wasm/trap.js';
export type { ValueType } from './wasm/types.js';
export { WasiExit } from './wasm/wasi/wasi-error.js';
