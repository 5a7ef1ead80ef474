import { createHash } from 'node:crypto';
import type { FunctionDefinition } from './definition.js';
import { type AliasWeights, aliasesWithout, assertAlias, type Deployment, namedVersions } from './function-service.js';

/** Code by its content: the same code is kept once, whoever uses it. */
export interface CodeReference {
  /** SHA-256, hexadecimal. */
  readonly sha256: string;
  readonly bytes: number;
}

interface RecordedVersion {
  readonly definition: FunctionDefinition;
  readonly code: CodeReference;
  /** ms since 1970. */
  readonly deployedAt: number;
}

/** The file that a function was deployed from; when it goes, so does the function. */
export interface FunctionOrigin {
  readonly host: string;
  /** Absolute path of the definition. */
  readonly file: string;
}

/** All that is kept of one function. */
export interface FunctionRecord {
  readonly name: string;
  readonly newest: number;
  /** Version → what was deployed: the newest and those that an alias names. */
  readonly versions: Readonly<Record<number, RecordedVersion>>;
  readonly aliases: Readonly<Record<string, AliasWeights>>;
  /** Its stream, queue, timer and event triggers do nothing. */
  readonly paused: boolean;
  /** Its instances are kept and started by when it was called so far. */
  readonly optimised: boolean;
  readonly origin?: FunctionOrigin;
}

export function codeReference(code: Uint8Array): CodeReference {
  return { sha256: createHash('sha256').update(code).digest('hex'), bytes: code.length };
}

/**
 * The record with a new version; deploying again what is there makes none, and returns the same record unless it comes from another file now.
 * @param at ms since 1970
 * @param origin undefined when it was not deployed from a file
 */
export function deployedRecord(
  before: FunctionRecord | undefined,
  { definition, code }: Deployment,
  at: number,
  origin?: FunctionOrigin,
): FunctionRecord {
  const version: RecordedVersion = { definition: withoutCode(definition), code: codeReference(code), deployedAt: at };
  const current = before?.versions[before.newest];
  if (before && current && isSame(current, version)) {
    const { host, file } = before.origin ?? {};
    return origin && (origin.host !== host || origin.file !== file) ? { ...before, origin } : before;
  }
  const newest = (before?.newest ?? 0) + 1;
  const unchanged = { aliases: {}, paused: false, optimised: false, ...before };
  const { origin: _, ...rest } = unchanged as Omit<FunctionRecord, 'newest' | 'versions'>;
  return named({
    ...rest,
    name: definition.name,
    newest,
    versions: { ...before?.versions, [newest]: version },
    ...(origin ? { origin } : {}),
  });
}

/** The record with an alias. @throws IguanaError `IGU_USAGE` as `assertAlias` says */
export function aliasedRecord(before: FunctionRecord, alias: string, weights: AliasWeights): FunctionRecord {
  assertAlias(before.name, alias, weights, Object.keys(before.versions).map(Number));
  return named({ ...before, aliases: { ...before.aliases, [alias]: weights } });
}

/** The record without an alias. @throws IguanaError `IGU_NOT_FOUND` when it has none of that name */
export function unaliasedRecord(before: FunctionRecord, alias: string): FunctionRecord {
  return named({ ...before, aliases: aliasesWithout(before.name, alias, before.aliases) });
}

/** Leaves out versions that nothing names any more. */
function named(record: FunctionRecord): FunctionRecord {
  const versions = namedVersions(record.newest, record.aliases).map((number) => [number, record.versions[number]!]);
  return { ...record, versions: Object.fromEntries(versions) };
}

/** Code that stands in the definition is kept beside it, so that a definition stays small. */
export function withoutCode(definition: FunctionDefinition): FunctionDefinition {
  if ('file' in definition.code) return definition;
  return { ...definition, code: { file: definition.runtime === 'wasm' ? 'inline.wasm' : 'inline.js' } };
}

function isSame(a: RecordedVersion, b: RecordedVersion): boolean {
  return a.code.sha256 === b.code.sha256 && JSON.stringify(a.definition) === JSON.stringify(b.definition);
}
