import { IguanaError, messageOf } from '../errors.js';
import type { ActionRecord, AnomalyRecord, DecisionRecord, ForecastRecord } from '../records.js';
import { checked, decodeAvro, type SchemaName } from './avro.js';

/** Reads what `encodeForecast` writes in either format. Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function decodeForecast(bytes: Buffer): ForecastRecord {
  return decodeRecord('forecasts', bytes) as ForecastRecord;
}

/** Reads what `encodeAnomaly` writes in either format. Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function decodeAnomaly(bytes: Buffer): AnomalyRecord {
  return decodeRecord('anomalies', bytes) as AnomalyRecord;
}

/** Reads what `encodeDecision` writes in either format. Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function decodeDecision(bytes: Buffer): DecisionRecord {
  return decodeRecord('decisions', bytes) as DecisionRecord;
}

/** Reads what `encodeAction` writes in either format. Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function decodeAction(bytes: Buffer): ActionRecord {
  return decodeRecord('actions', bytes) as ActionRecord;
}

/** A record of one schema, checked. Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function decodeRecord(wanted: SchemaName, bytes: Buffer): unknown {
  const value = parsedRecord(wanted, bytes);
  return isAvro(bytes) ? value : checked(wanted, value);
}

/** The same, where JSON is not checked yet. Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function parsedRecord(wanted: SchemaName, bytes: Buffer): unknown {
  if (isAvro(bytes)) {
    const { name, value } = decodeAvro(bytes);
    if (name !== wanted)
      throw new IguanaError('IGU_RECORD_MALFORMED', { what: `a record of ${name}, not of ${wanted}` });
    return value;
  }
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new IguanaError('IGU_RECORD_MALFORMED', { what: messageOf(cause) }, { cause });
  }
}

/** Whether a message is Avro single-object; else it is JSON. */
export function isAvro(bytes: Buffer): boolean {
  return bytes[0] === 0xc3 && bytes[1] === 0x01;
}
