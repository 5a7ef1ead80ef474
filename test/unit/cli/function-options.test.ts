import { InvalidArgumentError } from 'commander';
import { describe, expect, test } from 'vitest';
import { cronProblem, parseMemory, parseTrigger, parseWeight } from '../../../src/cli/function-options.js';

describe('a trigger in one word', () => {
  test.each([
    ['http:POST:/orders/:id', { type: 'http', method: 'POST', path: '/orders/:id' }],
    ['http:post:/orders', { type: 'http', method: 'POST', path: '/orders' }],
    ['http:/files/*', { type: 'http', method: '*', path: '/files/*' }],
    ['http:*:/', { type: 'http', method: '*', path: '/' }],
    ['timer:0 * * * *', { type: 'timer', cron: '0 * * * *' }],
    ['timer:*/10 * * * * *', { type: 'timer', cron: '*/10 * * * * *' }],
    ['queue:jobs', { type: 'queue', topic: 'jobs' }],
    ['stream:team.orders-v2', { type: 'stream', topic: 'team.orders-v2' }],
    ['event:com.example.order:created', { type: 'event', eventType: 'com.example.order:created' }],
  ])('%s', (given, expected) => {
    expect(parseTrigger(given)).toEqual(expected);
  });

  test.each([
    ['kafka:orders', /One of: http:POST:\/path/],
    ['steam:orders', /Did you mean stream:orders\?/],
    ['stream', /It is written stream:TOPIC/],
    ['stream:', /It is written stream:TOPIC/],
    ['stream:a topic', /a topic name: .*It is written stream:TOPIC/],
    ['http:POTS:/orders', /Did you mean http:POST:\/orders\?/],
    ['http:POST:orders', /http:POST:\/orders/],
    ['http:orders', /A path begins with \/: http:\*:\/orders/],
    ['timer:0 25 * * *', /It is written timer:"0 \* \* \* \*"/],
    ['timer:often', /It is written timer/],
    ['', /One of: http/],
  ])('%s is refused with what would be right', (given, message) => {
    expect(() => parseTrigger(given)).toThrow(InvalidArgumentError);
    expect(() => parseTrigger(given)).toThrow(message);
  });
});

test('what is wrong with a timer is said', () => {
  expect(cronProblem('0 9 * * 1', 'Europe/Berlin')).toBeUndefined();
  expect(cronProblem('0 9 * * 1', 'Europe/Belin')).toMatch(/Europe\/Belin|zone/i);
});

test('memory is megabytes, or gigabytes where it is said', () => {
  expect(['256', '256MB', '256 MiB', '2GB', '1g'].map(parseMemory)).toEqual([256, 256, 256, 2048, 1024]);
  for (const given of ['1.5GB', 'much', '-1', '']) expect(() => parseMemory(given)).toThrow(InvalidArgumentError);
});

test('weights of an alias', () => {
  expect([parseWeight('3=0.1'), parseWeight('2')]).toEqual([
    [3, 0.1],
    [2, 1],
  ]);
  for (const given of ['3=2', 'a=1', '0=1', '1=x']) expect(() => parseWeight(given)).toThrow(InvalidArgumentError);
});
