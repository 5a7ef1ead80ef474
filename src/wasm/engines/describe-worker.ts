/**
 * A process of its own that opens one engine and tells what it is: a library that cannot be loaded must not take the asking process with it. Name: first
 * argument. Answers one message over the channel.
 */
import { messageOf } from '../../errors.js';
import type { EngineName } from './engine.js';
import { openEngine } from './open-engine.js';

try {
  const engine = await openEngine(process.argv[2] as EngineName);
  const { stopper } = engine;
  const ends = stopper === undefined ? 'with its thread' : stopper === 'never' ? 'by a gas limit only' : 'on request';
  process.send?.({ description: engine.description, ends });
  engine.close();
} catch (error) {
  process.send?.({ missing: messageOf(error) });
}
process.disconnect?.();
