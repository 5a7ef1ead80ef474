import { expect, test } from 'vitest';
import { partText } from '../../../src/cli/gpu-text.js';

test('a part whose memory is not known says so, instead of 0', () => {
  expect(partText(1_000, null, undefined)).toBe('100 %, -');
  expect(partText(142, null, '1g.23gb')).toBe('1g.23gb, 14.2 %, -');
  expect(partText(500, 20_480, undefined)).toBe('50 %, 20.0 GiB');
});
