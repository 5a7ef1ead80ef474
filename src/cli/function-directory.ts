import { statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Clock, wallClock } from '../clock.js';
import { IguanaError, messageOf } from '../errors.js';
import { functionDirectoryLimits } from '../limits.js';
import type { RunningFunctions } from '../operators/running-functions.js';
import { type FunctionFile, functionFilesIn, readFunctionFile } from './function-files.js';

export interface FunctionDirectoryOptions {
  readonly directory: string;
  readonly functions: Pick<RunningFunctions, 'records' | 'deploy' | 'delete'>;
  /** Told of each function that was deployed or deleted because of a file. */
  readonly onChange: (what: string, why: string) => void;
  /** Told of each file that cannot be deployed, once until it changes. */
  readonly onError: (error: unknown) => void;
  readonly clock?: Clock;
}

export interface FunctionDirectory {
  /** Resolves when what is there now is deployed. */
  look(): Promise<void>;
  stop(): Promise<void>;
}

/** What of a file is deployed, or was tried. */
interface Seen {
  /** Of the definition and its code: when they were changed, and how large they are. */
  readonly signature: string;
  readonly codeFile: string | undefined;
  /** Undefined when it could not be read. */
  readonly name: string | undefined;
  /** Why it could not be deployed. */
  readonly problem?: string;
}

/**
 * Deploys the definitions of a directory, and follows it: a file that is changed (or its code) is deployed again, the function of one that is gone is
 * deleted, also when it went while no process was up (not when the directory itself is gone). A file with a mistake changes nothing. Looks at times and sizes, so that it works on every file system.
 */
export function functionDirectory(options: FunctionDirectoryOptions): FunctionDirectory {
  const { functions, onChange, onError, clock = wallClock } = options;
  const directory = path.resolve(options.directory);
  const host = os.hostname();
  let seen = new Map<string, Seen>();

  const deploy = async (file: string, { deployment }: FunctionFile): Promise<void> => {
    const { name } = deployment.definition;
    const other = [...seen].find(([otherFile, one]) => otherFile !== file && one.name === name)?.[0];
    if (other !== undefined) {
      const fix = 'give one of them another name';
      throw new IguanaError('IGU_CONFIG', { where: file, what: `${path.basename(other)} has ${name} already`, fix });
    }
    const before = functions.records.get(name)?.newest;
    const { version } = await functions.deploy(deployment, { host, file });
    if (version !== before) onChange(`${name} version ${version} was deployed`, path.relative('.', file));
  };

  const remove = async (gone: (name: string, file: string) => boolean): Promise<void> => {
    for (const [name, { origin }] of functions.records) {
      if (origin?.host !== host || path.dirname(origin.file) !== directory || !gone(name, origin.file)) continue;
      await functions.delete(name);
      onChange(`${name} was deleted`, `${path.relative('.', origin.file)} is gone`);
    }
  };

  const lookAt = async (file: string, tell: (error: unknown) => void): Promise<Seen> => {
    const before = seen.get(file);
    const signature = signatureOf(file, before?.codeFile);
    if (before && before.signature === signature) return before;
    let { codeFile, name } = before ?? {};
    const seenNow = (): Seen => {
      // what is changed while it is read is read again
      const own = codeFile === before?.codeFile ? signature : signatureOf(file, codeFile);
      return { signature: own, codeFile, name };
    };
    let readable = false;
    try {
      const read = readFunctionFile(file);
      readable = true;
      codeFile = read.codeFile;
      name = read.deployment.definition.name;
      await deploy(file, read);
      return seenNow();
    } catch (error) {
      const problem = messageOf(error);
      if (problem !== before?.problem) tell(error);
      // what is missing may come, what does not answer may answer, and who has the route may go
      const again = !readable || isRoute(error) || (error instanceof IguanaError && error.retriable);
      return { ...seenNow(), ...(again ? { signature: '' } : {}), problem };
    }
  };

  const look = async (): Promise<void> => {
    const files = filesIn(directory);
    if (!files) return;
    const next = new Map<string, Seen>();
    const routes: string[] = [];
    for (const file of files) {
      let waits = false;
      const { problem, ...one } = await lookAt(file, (error) => {
        waits = isRoute(error);
        if (!waits) onError(error);
      });
      if (waits) routes.push(file);
      next.set(file, waits || problem === undefined ? one : { ...one, problem });
      seen.set(file, next.get(file)!);
    }
    seen = next;
    // a file that cannot be read now may be the function's all the same
    await remove((name, file) => {
      const now = next.get(file);
      return !now || (now.name !== undefined && now.name !== name);
    });
    // one of another file, or of another name, may have had the route until now
    for (const file of routes) seen.set(file, await lookAt(file, onError));
  };

  let looking: Promise<void> = Promise.resolve();
  let waiting = false;
  const lookInTurn = (): Promise<void> => {
    looking = looking.then(look).catch(onError);
    return looking;
  };
  const stopLooking = clock.every(functionDirectoryLimits.pollMs, () => {
    if (waiting) return;
    waiting = true;
    void lookInTurn().finally(() => {
      waiting = false;
    });
  });
  return {
    look: lookInTurn,
    async stop() {
      stopLooking();
      await looking;
    },
  };
}

/** Undefined when the directory is not there: then nothing is known to be gone. */
function filesIn(directory: string): string[] | undefined {
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  const files = functionFilesIn(directory);
  const { maxFiles } = functionDirectoryLimits;
  if (files.length > maxFiles) throw new IguanaError('IGU_LIMIT', { limit: `files in ${directory}`, value: maxFiles });
  return files;
}

function signatureOf(...files: readonly (string | undefined)[]): string {
  return files
    .map((file) => {
      const stat = file === undefined ? undefined : statSync(file, { throwIfNoEntry: false });
      return stat ? `${stat.mtimeMs} ${stat.size} ${stat.ino}` : '-';
    })
    .join('/');
}

function isRoute(error: unknown): boolean {
  return error instanceof IguanaError && error.code === 'IGU_FUNCTION_ROUTE';
}
