import type { OperatorFunction } from 'rxjs';
import { deadLetter } from '../codec/dead-letter.js';
import type { OutRecord, Sink } from '../kafka/sink.js';
import { step, type Work } from './work.js';

/** Writes outputs, and what could not be read to dead letters (a message once, with its first reason); waits until the broker has them. */
export function write(sink: Sink, deadLetterTopic: string): OperatorFunction<Work, Work> {
  return step(async (work: Work) => {
    const writes = work.outputs.map(({ topic, records }) => sink.write(topic, records));
    const letters = new Map<number, OutRecord>();
    for (const { index, sampleIndex, code, reason } of work.failed) {
      if (letters.has(index)) continue;
      const { topic, partition } = work.input;
      const { offset, key, value } = work.input.messages[index]!;
      const where = sampleIndex === null ? reason : `sample ${sampleIndex}: ${reason}`;
      letters.set(index, deadLetter({ topic, partition, offset, key, value }, code, where));
    }
    await Promise.all([...writes, sink.write(deadLetterTopic, [...letters.values()])]);
    return work;
  });
}
