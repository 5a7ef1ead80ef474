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

function decodeRecord(wanted: SchemaName, bytes: Buffer): unknown {
  if (bytes[0] === 0xc3 && bytes[1] === 0x01) {
    const { name, value } = decodeAvro(bytes);
    if (name !== wanted)
      throw new IguanaError('IGU_RECORD_MALFORMED', { what: `a record of ${name}, not of ${wanted}` });
    return value;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new IguanaError('IGU_RECORD_MALFORMED', { what: messageOf(cause) }, { cause });
  }
  return checked(wanted, parsed);
}
