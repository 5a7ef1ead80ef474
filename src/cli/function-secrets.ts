import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { IguanaError, messageOf } from '../errors.js';
import { makeDirectories } from '../make-directories.js';
import { checkedYaml, textOf } from './yaml-file.js';

const KEY_BYTES = 32;
const OWNER_ONLY = 0o600;

/**
 * Values of secrets: from a YAML file that is read anew for each, else from `IGUANA_SECRET_NAME` in the environment, with the name in capitals and all
 * but letters and digits as underscores. @throws IguanaError `IGU_FILE_MISSING`, `IGU_CONFIG`
 */
export function secrets(file: string | undefined): (name: string) => string | undefined {
  const schema = z.record(z.string(), z.string());
  const read = (): Record<string, string> =>
    file === undefined ? {} : checkedYaml(file, textOf(file), schema, () => 'write NAME: "VALUE"').value;
  read();
  return (name) => {
    const kept = read();
    if (Object.hasOwn(kept, name)) return kept[name];
    return process.env[`IGUANA_SECRET_${name.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')}`];
  };
}

/** The key in a file, made when there is none: for its owner's eyes only. @throws IguanaError `IGU_FILE_WRITE`, `IGU_FILE_MISSING` */
export function usageKey(file: string): string {
  const failed = (cause: unknown) =>
    new IguanaError('IGU_FILE_WRITE', { path: file, what: messageOf(cause) }, { cause });
  try {
    makeDirectories(path.dirname(path.resolve(file)));
  } catch (cause) {
    throw failed(cause);
  }
  try {
    writeFileSync(file, `${randomBytes(KEY_BYTES).toString('hex')}\n`, { flag: 'wx', mode: OWNER_ONLY });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw failed(cause);
  }
  let key: string;
  try {
    key = readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throw new IguanaError('IGU_FILE_MISSING', { path: file }, { cause });
  }
  if (key === '') {
    const fix = 'put the key of the group there, or remove the file: it is made anew then';
    throw new IguanaError('IGU_CONFIG', { where: file, what: 'the key that usage is signed with is empty', fix });
  }
  return key;
}

/** For processes that keep nothing. */
export function passingUsageKey(): string {
  return randomBytes(KEY_BYTES).toString('hex');
}
