import os from 'node:os';
import { IguanaError } from '../errors.js';
import { AnsweredError, ask, gpuPath, type ServerOptions } from './server-client.js';

/** Nodes that are named in an error. */
const NAMED = 5;

/**
 * The node that this machine is, as the Iguana that is asked calls it: `IGUANA_NODE`, or the host name. What is started here must get GPUs of it.
 * @param wanted node that was asked for
 * @throws IguanaError `IGU_CONFIG` when that is another one, or no GPUs of this machine are known there
 */
export async function nodeHere(options: ServerOptions, wanted: string | undefined): Promise<string> {
  const here = process.env.IGUANA_NODE || os.hostname();
  if (wanted !== undefined && wanted !== here)
    throw new IguanaError('IGU_CONFIG', {
      where: `--node ${wanted}`,
      what: `what is started here, on ${here}, cannot use GPUs of ${wanted}`,
      fix: `run this on ${wanted}, or leave --node out; if this machine is ${wanted}, set IGUANA_NODE=${wanted}`,
    });
  try {
    await ask(options, 'GET', `${gpuPath('nodes')}?node=${encodeURIComponent(here)}`);
    return here;
  } catch (error) {
    if (!(error instanceof AnsweredError) || error.code !== 'IGU_NOT_FOUND') throw error;
    const known = (await ask<{ node: string }[]>(options, 'GET', gpuPath('nodes'))).map(({ node }) => node);
    const more = known.length > NAMED ? ` and ${known.length - NAMED} more` : '';
    const others = known.length > 0 ? `those of ${known.slice(0, NAMED).join(', ')}${more}` : 'none at all';
    throw new IguanaError(
      'IGU_CONFIG',
      {
        where: 'node of this machine',
        what: `the Iguana at ${options.url} knows no GPUs of ${here}, where this would be started, but ${others}`,
        fix: "start an Iguana of that group here; or set IGUANA_NODE to this machine's gpu.node when that is another name",
      },
      { cause: error },
    );
  }
}
