import { encodeAvro, type SchemaName } from '../codec/avro.js';
import { decodeRecord, isAvro, parsedRecord } from '../codec/decode.js';
import { encodeJson, type OutputFormat } from '../codec/encode.js';
import { IguanaError } from '../errors.js';
import { type GpuCommand, readGpuCommand } from '../gpu/commands.js';
import type { LedgerRecord } from '../gpu/ledger.js';
import { gpuFromPlain, plainGpu } from '../gpu/plain-gpu.js';
import type { GpuEvent, WaitingCommand } from '../gpu/scheduler.js';
import type { Gpu } from '../gpu/types.js';

/** The GPUs of one node at one time. */
export interface GpuInventoryRecord {
  readonly node: string;
  /** ms since 1970. */
  readonly timestamp: number;
  readonly gpus: readonly Gpu[];
}

export function encodeGpuInventory(record: GpuInventoryRecord, format: OutputFormat = 'json'): Buffer {
  return encoded('gpu-inventory', { ...record, gpus: record.gpus.map(plainGpu) }, format);
}

/** Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function decodeGpuInventory(bytes: Buffer): GpuInventoryRecord {
  const record = decodeRecord('gpu-inventory', bytes) as GpuInventoryRecord;
  return { ...record, gpus: record.gpus.map((gpu) => gpuFromPlain(gpu as unknown as Record<string, unknown>)) };
}

export function encodeGpuCommand(command: GpuCommand): Buffer {
  return encodeJson(command);
}

/** JSON may leave fields out; of Avro null counts as left out, and a lease of 0 as none. Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function decodeGpuCommand(bytes: Buffer): GpuCommand {
  const value = parsedRecord('gpu-requests', bytes);
  return readGpuCommand(isAvro(bytes) ? asJson(value) : value);
}

export function encodeGpuEvent(event: GpuEvent, format: OutputFormat = 'json'): Buffer {
  const { record, waiting, steps } = event;
  const plain = {
    ...event,
    record: record && {
      instance: null,
      priority: null,
      gang: null,
      environment: {},
      leaseMs: null,
      ...withParts(record),
    },
    steps: steps.map((step) => ({ instance: null, profile: null, start: null, argument: null, ...step })),
    waiting: waiting && { ...waiting, command: JSON.stringify(waiting.command) },
  };
  return encoded('gpu-allocations', plain, format);
}

/** Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function decodeGpuEvent(bytes: Buffer): GpuEvent {
  const value = decodeRecord('gpu-allocations', bytes) as WireEvent;
  const { record, waiting, steps, denial } = value;
  return {
    ...value,
    record: record && recordOf(record),
    steps: steps.map((step) => withoutNulls(step)) as unknown as GpuEvent['steps'],
    waiting: waiting && { ...waiting, command: commandOf(waiting.command) },
    denial: denial && { ...denial, granted: false },
  };
}

type Plain = Readonly<Record<string, unknown>>;
type WireEvent = Omit<GpuEvent, 'record' | 'steps' | 'waiting'> & {
  readonly record: (Plain & { readonly kind: string }) | null;
  readonly steps: readonly Plain[];
  readonly waiting: (Omit<WaitingCommand, 'command'> & { readonly command: string }) | null;
};

function withParts(record: LedgerRecord): Plain {
  return {
    ...record,
    holdings: record.holdings.map((holding) => ({ ...holding, partition: holding.partition ?? null })),
  };
}

function recordOf({ kind, ...fields }: Plain): LedgerRecord {
  const holdings = (fields.holdings as readonly Plain[]).map(({ partition, ...holding }) =>
    partition === null ? holding : { ...holding, partition },
  );
  if (kind === 'allocation') return { kind, ...fields, holdings } as unknown as LedgerRecord;
  const { id, owner, request, since, expiresAt } = fields;
  return { kind: 'reservation', id, owner, request, holdings, since, expiresAt } as unknown as LedgerRecord;
}

function commandOf(text: string): WaitingCommand['command'] {
  const command = readGpuCommand(JSON.parse(text));
  if (command.action === 'allocate' || command.action === 'allocate-gang') return command;
  throw new IguanaError('IGU_RECORD_MALFORMED', { what: `gpu-allocations: ${command.action} does not wait` });
}

function asJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asJson);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(withoutNulls(value as Plain)).map(([key, one]) => [
    key,
    key === 'leaseMs' && one === 0 ? null : asJson(one),
  ]);
  return Object.fromEntries(entries);
}

function withoutNulls(of: Plain): Plain {
  return Object.fromEntries(Object.entries(of).filter(([, value]) => value !== null));
}

function encoded(name: SchemaName, value: unknown, format: OutputFormat): Buffer {
  return format === 'avro' ? encodeAvro(name, value) : encodeJson(value);
}
