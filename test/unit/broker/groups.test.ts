import { expect, it } from 'vitest';
import { Groups, type JoinResponse } from '../../../src/broker/groups.js';
import { VirtualClock } from '../../../src/clock.js';

const SESSION_MS = 10_000;

function setUp() {
  const clock = new VirtualClock(1_000);
  const groups = new Groups(clock, null);
  const join = (memberId: string, clientId = 'c'): Promise<JoinResponse> =>
    groups.join({
      groupId: 'g',
      memberId,
      clientId,
      clientHost: '/127.0.0.1',
      sessionTimeoutMs: SESSION_MS,
      rebalanceTimeoutMs: 30_000,
      protocolType: 'consumer',
      protocols: [{ name: 'roundrobin', metadata: Buffer.from(clientId) }],
      requireMemberId: true,
    });
  const enter = async (clientId: string): Promise<string> => {
    const first = await join('', clientId);
    expect(first.errorCode).toBe('MEMBER_ID_REQUIRED');
    return first.memberId;
  };
  return { clock, groups, join, enter };
}

it('gives ids first, elects a leader, and hands out what it assigns', async () => {
  const { groups, join, enter } = setUp();
  const a = await enter('a');
  const first = await join(a, 'a');
  expect(first).toMatchObject({ errorCode: 'NONE', generationId: 1, leader: a });
  const given = await groups.sync('g', 1, a, [{ memberId: a, assignment: Buffer.from('all') }]);
  expect(given.assignment.toString()).toBe('all');
  expect(groups.describe('g').state).toBe('Stable');
  const b = await enter('b');
  const joining = join(b, 'b');
  expect(groups.heartbeat('g', 1, a)).toBe('REBALANCE_IN_PROGRESS');
  const again = await join(a, 'a');
  expect((await joining).generationId).toBe(2);
  expect(again.members.map((m) => m.memberId).sort()).toEqual([a, b].sort());
  const waiting = groups.sync('g', 2, b, []);
  await groups.sync('g', 2, a, [
    { memberId: a, assignment: Buffer.from('0') },
    { memberId: b, assignment: Buffer.from('1') },
  ]);
  expect((await waiting).assignment.toString()).toBe('1');
  expect(groups.heartbeat('g', 1, a)).toBe('ILLEGAL_GENERATION');
  expect(groups.heartbeat('g', 2, 'nobody')).toBe('UNKNOWN_MEMBER_ID');
  groups.close();
});

it('takes a silent member for dead after its session, and the others share anew', async () => {
  const { clock, groups, join, enter } = setUp();
  const a = await enter('a');
  await join(a, 'a');
  await groups.sync('g', 1, a, []);
  const b = await enter('b');
  const joining = join(b, 'b');
  await join(a, 'a');
  await joining;
  await groups.sync('g', 2, a, []);
  for (let passed = 0; passed < SESSION_MS + 1_000; passed += 1_000) {
    clock.advance(1_000);
    groups.heartbeat('g', 2, a);
  }
  expect(groups.heartbeat('g', 2, a)).toBe('REBALANCE_IN_PROGRESS');
  expect(groups.heartbeat('g', 2, b)).toBe('UNKNOWN_MEMBER_ID');
  const alone = await join(a, 'a');
  expect(alone).toMatchObject({ generationId: 3, leader: a });
  expect(alone.members.length).toBe(1);
  expect(groups.checkCommit('g', 2, a)).toBe('ILLEGAL_GENERATION');
  groups.close();
});

it('does not wait for ever for a member that was given an id and never came', async () => {
  const { clock, groups, join, enter } = setUp();
  const a = await enter('a');
  await enter('ghost');
  let done: JoinResponse | undefined;
  void join(a, 'a').then((response) => {
    done = response;
  });
  await Promise.resolve();
  expect(done).toBeUndefined();
  clock.advance(SESSION_MS + 1);
  await Promise.resolve();
  await Promise.resolve();
  expect(done).toMatchObject({ errorCode: 'NONE', leader: a });
  groups.close();
});
