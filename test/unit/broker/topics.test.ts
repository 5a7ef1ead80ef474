import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { Topics } from '../../../src/broker/topics.js';
import { encodeBatch } from '../../support/record-batch.js';

it('cleans the other logs when the files of one cannot be written', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'iguana-topics-'));
  const topics = new Topics(folder);
  try {
    for (const name of ['broken', 'sound']) {
      topics.create(name, 1, new Map([['retention.ms', '1000']]));
      topics.partition(name, 0)!.append(encodeBatch({ records: [{ value: 'x', timestamp: 1_000 }] }), 1_000);
    }
    rmSync(path.join(folder, 'topics', 'broken-0'), { recursive: true });
    topics.clean(100_000);
    expect(topics.partition('sound', 0)!.startOffset).toBe(1n);
    expect(topics.partition('broken', 0)!.startOffset).toBe(0n);
    mkdirSync(path.join(folder, 'topics', 'broken-0'));
  } finally {
    topics.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
