/**
 * The group coordinator: membership, generations, assignments and committed offsets of consumer groups (the classic protocol).
 * One state machine: Empty → PreparingRebalance (waiting for members to join) → CompletingRebalance (waiting for the leader's
 * assignment) → Stable; a join, leave or expiry of a member leads back to PreparingRebalance.
 */
import { randomUUID } from 'node:crypto';
import type { Clock } from '../clock.js';
import { brokerLimits } from '../limits.js';
import { Journal } from './journal.js';
import type { KafkaError } from './protocol/error-codes.js';

export interface JoinRequest {
  readonly groupId: string;
  readonly memberId: string;
  readonly clientId: string;
  readonly clientHost: string;
  readonly sessionTimeoutMs: number;
  readonly rebalanceTimeoutMs: number;
  readonly protocolType: string;
  readonly protocols: readonly { name: string; metadata: Buffer }[];
  /** JoinGroup 4 and later: a new member is first given its id. */
  readonly requireMemberId: boolean;
}

export interface JoinResponse {
  readonly errorCode: KafkaError;
  readonly generationId: number;
  readonly protocolName: string;
  readonly leader: string;
  readonly memberId: string;
  readonly members: readonly { memberId: string; metadata: Buffer }[];
}

export interface SyncResponse {
  readonly errorCode: KafkaError;
  readonly assignment: Buffer;
}

interface Member {
  readonly id: string;
  readonly clientId: string;
  readonly clientHost: string;
  readonly sessionTimeoutMs: number;
  readonly rebalanceTimeoutMs: number;
  protocols: readonly { name: string; metadata: Buffer }[];
  assignment: Buffer;
  joining: ((response: JoinResponse) => void) | undefined;
  syncing: ((response: SyncResponse) => void) | undefined;
  cancelSession: (() => void) | undefined;
}

type State = 'Empty' | 'PreparingRebalance' | 'CompletingRebalance' | 'Stable';

interface Group {
  readonly id: string;
  state: State;
  generation: number;
  protocolType: string;
  protocol: string;
  leader: string;
  readonly members: Map<string, Member>;
  /** Ids given out that have not joined yet, with what stops waiting for them. */
  readonly pending: Map<string, () => void>;
  cancelRebalance: (() => void) | undefined;
}

export interface CommittedOffset {
  readonly offset: bigint;
  readonly metadata: string | null;
}

type JournalEntry =
  | { g: string; t: string; p: number; o: string; m: string | null }
  | { g: string; deleted: true }
  | { gone: string };

const EMPTY = Buffer.alloc(0);

export class Groups {
  private readonly groups = new Map<string, Group>();
  private readonly offsets = new Map<string, Map<string, CommittedOffset>>();
  private readonly journal: Journal<JournalEntry>;

  constructor(
    private readonly clock: Clock,
    journalFile: string | null,
  ) {
    this.journal = new Journal<JournalEntry>(
      journalFile,
      (entry) => {
        if ('gone' in entry) this.dropTopic(entry.gone);
        else if ('deleted' in entry) this.offsets.delete(entry.g);
        else this.setOffset(entry.g, entry.t, entry.p, { offset: BigInt(entry.o), metadata: entry.m });
      },
      () =>
        [...this.offsets].flatMap(([g, byPartition]) =>
          [...byPartition].map(([key, { offset, metadata }]) => {
            const cut = key.lastIndexOf('/');
            return { g, t: key.slice(0, cut), p: Number(key.slice(cut + 1)), o: offset.toString(), m: metadata };
          }),
        ),
    );
  }

  join(request: JoinRequest): Promise<JoinResponse> {
    const refuse = (errorCode: KafkaError, memberId = request.memberId): Promise<JoinResponse> =>
      Promise.resolve({ errorCode, generationId: -1, protocolName: '', leader: '', memberId, members: [] });
    if (request.groupId === '') return refuse('INVALID_GROUP_ID');
    if (
      request.sessionTimeoutMs < brokerLimits.minSessionTimeoutMs ||
      request.sessionTimeoutMs > brokerLimits.maxSessionTimeoutMs
    ) {
      return refuse('INVALID_SESSION_TIMEOUT');
    }
    const group = this.groupOf(request.groupId);
    if (request.memberId === '' && group.members.size + group.pending.size >= brokerLimits.maxGroupMembers) {
      return refuse('COORDINATOR_NOT_AVAILABLE');
    }
    if (request.memberId === '' && request.requireMemberId) {
      const id = `${request.clientId}-${randomUUID()}`;
      const cancel = this.clock.after(request.sessionTimeoutMs, () => {
        if (group.pending.delete(id)) this.maybeCompleteJoin(group);
      });
      group.pending.set(id, cancel);
      return refuse('MEMBER_ID_REQUIRED', id);
    }
    if (request.memberId !== '' && !group.members.has(request.memberId) && !group.pending.has(request.memberId)) {
      return refuse('UNKNOWN_MEMBER_ID');
    }
    if (
      group.members.size > 0 &&
      (group.protocolType !== request.protocolType || !this.sharesProtocol(group, request))
    ) {
      return refuse('INCONSISTENT_GROUP_PROTOCOL');
    }
    const id = request.memberId || `${request.clientId}-${randomUUID()}`;
    group.pending.get(id)?.();
    group.pending.delete(id);
    group.protocolType = request.protocolType;
    const known = group.members.get(id);
    const member: Member = known ?? {
      id,
      clientId: request.clientId,
      clientHost: request.clientHost,
      sessionTimeoutMs: request.sessionTimeoutMs,
      rebalanceTimeoutMs: request.rebalanceTimeoutMs,
      protocols: request.protocols,
      assignment: EMPTY,
      joining: undefined,
      syncing: undefined,
      cancelSession: undefined,
    };
    member.protocols = request.protocols;
    group.members.set(id, member);
    if (group.leader === '') group.leader = id;
    this.renewSession(group, member);
    return new Promise((resolve) => {
      member.joining?.({
        errorCode: 'UNKNOWN_MEMBER_ID',
        generationId: -1,
        protocolName: '',
        leader: '',
        memberId: id,
        members: [],
      });
      member.joining = resolve;
      this.prepareRebalance(group);
      this.maybeCompleteJoin(group);
    });
  }

  sync(
    groupId: string,
    generationId: number,
    memberId: string,
    assignments: readonly { memberId: string; assignment: Buffer }[],
  ): Promise<SyncResponse> {
    const refuse = (errorCode: KafkaError): Promise<SyncResponse> => Promise.resolve({ errorCode, assignment: EMPTY });
    const group = this.groups.get(groupId);
    const member = group?.members.get(memberId);
    if (!group || !member) return refuse('UNKNOWN_MEMBER_ID');
    if (generationId !== group.generation) return refuse('ILLEGAL_GENERATION');
    if (group.state === 'PreparingRebalance') return refuse('REBALANCE_IN_PROGRESS');
    this.renewSession(group, member);
    if (group.state === 'Stable') return Promise.resolve({ errorCode: 'NONE', assignment: member.assignment });
    return new Promise((resolve) => {
      member.syncing = resolve;
      if (memberId !== group.leader) return;
      for (const other of group.members.values()) other.assignment = EMPTY;
      for (const one of assignments) {
        const other = group.members.get(one.memberId);
        if (other) other.assignment = Buffer.from(one.assignment);
      }
      group.state = 'Stable';
      for (const other of group.members.values()) {
        other.syncing?.({ errorCode: 'NONE', assignment: other.assignment });
        other.syncing = undefined;
      }
    });
  }

  heartbeat(groupId: string, generationId: number, memberId: string): KafkaError {
    const group = this.groups.get(groupId);
    const member = group?.members.get(memberId);
    if (!group || !member) return 'UNKNOWN_MEMBER_ID';
    if (generationId !== group.generation) return 'ILLEGAL_GENERATION';
    this.renewSession(group, member);
    return group.state === 'PreparingRebalance' ? 'REBALANCE_IN_PROGRESS' : 'NONE';
  }

  leave(groupId: string, memberId: string): KafkaError {
    const group = this.groups.get(groupId);
    group?.pending.get(memberId)?.();
    if (group?.pending.delete(memberId)) {
      this.maybeCompleteJoin(group);
      return 'NONE';
    }
    const member = group?.members.get(memberId);
    if (!group || !member) return 'UNKNOWN_MEMBER_ID';
    this.remove(group, member);
    return 'NONE';
  }

  /** Whether a member may commit; a commit without generation (−1) and member comes from outside of the group protocol. */
  checkCommit(groupId: string, generationId: number, memberId: string): KafkaError {
    if (groupId === '') return 'INVALID_GROUP_ID';
    const group = this.groups.get(groupId);
    if (generationId < 0 && memberId === '') return group && group.members.size > 0 ? 'UNKNOWN_MEMBER_ID' : 'NONE';
    const member = group?.members.get(memberId);
    if (!group || !member) return 'UNKNOWN_MEMBER_ID';
    if (generationId !== group.generation) return 'ILLEGAL_GENERATION';
    this.renewSession(group, member);
    return group.state === 'CompletingRebalance' ? 'REBALANCE_IN_PROGRESS' : 'NONE';
  }

  commit(groupId: string, topic: string, partition: number, committed: CommittedOffset): void {
    this.setOffset(groupId, topic, partition, committed);
    this.journal.append({ g: groupId, t: topic, p: partition, o: committed.offset.toString(), m: committed.metadata });
  }

  committed(groupId: string, topic: string, partition: number): CommittedOffset | undefined {
    return this.offsets.get(groupId)?.get(`${topic}/${partition}`);
  }

  allCommitted(groupId: string): { topic: string; partition: number; committed: CommittedOffset }[] {
    return [...(this.offsets.get(groupId) ?? [])].map(([key, committed]) => {
      const cut = key.lastIndexOf('/');
      return { topic: key.slice(0, cut), partition: Number(key.slice(cut + 1)), committed };
    });
  }

  list(): { groupId: string; protocolType: string }[] {
    const ids = new Set([...this.offsets.keys(), ...this.groups.keys()]);
    return [...ids].map((groupId) => ({ groupId, protocolType: this.groups.get(groupId)?.protocolType ?? 'consumer' }));
  }

  describe(groupId: string): {
    state: string;
    protocolType: string;
    protocol: string;
    members: { memberId: string; clientId: string; clientHost: string; metadata: Buffer; assignment: Buffer }[];
  } {
    const group = this.groups.get(groupId);
    if (!group)
      return { state: this.offsets.has(groupId) ? 'Empty' : 'Dead', protocolType: '', protocol: '', members: [] };
    const members = [...group.members.values()].map((m) => ({
      memberId: m.id,
      clientId: m.clientId,
      clientHost: m.clientHost,
      metadata: m.protocols.find((p) => p.name === group.protocol)?.metadata ?? EMPTY,
      assignment: m.assignment,
    }));
    return { state: group.state, protocolType: group.protocolType, protocol: group.protocol, members };
  }

  delete(groupId: string): KafkaError {
    const group = this.groups.get(groupId);
    if (group && group.members.size > 0) return 'NON_EMPTY_GROUP';
    if (!group && !this.offsets.has(groupId)) return 'GROUP_ID_NOT_FOUND';
    this.groups.delete(groupId);
    this.offsets.delete(groupId);
    this.journal.append({ g: groupId, deleted: true });
    return 'NONE';
  }

  /** A topic is gone: so are the offsets committed on it. */
  forgetTopic(topic: string): void {
    this.dropTopic(topic);
    this.journal.append({ gone: topic });
  }

  close(): void {
    for (const group of this.groups.values()) {
      group.cancelRebalance?.();
      for (const cancel of group.pending.values()) cancel();
      for (const member of group.members.values()) member.cancelSession?.();
    }
    this.journal.close();
  }

  private dropTopic(topic: string): void {
    for (const byPartition of this.offsets.values()) {
      for (const key of byPartition.keys()) if (key.slice(0, key.lastIndexOf('/')) === topic) byPartition.delete(key);
    }
  }

  private groupOf(id: string): Group {
    let group = this.groups.get(id);
    if (!group) {
      group = {
        id,
        state: 'Empty',
        generation: 0,
        protocolType: '',
        protocol: '',
        leader: '',
        members: new Map(),
        pending: new Map(),
        cancelRebalance: undefined,
      };
      this.groups.set(id, group);
    }
    return group;
  }

  private setOffset(groupId: string, topic: string, partition: number, committed: CommittedOffset): void {
    let byPartition = this.offsets.get(groupId);
    if (!byPartition) {
      byPartition = new Map();
      this.offsets.set(groupId, byPartition);
    }
    byPartition.set(`${topic}/${partition}`, committed);
  }

  private sharesProtocol(group: Group, request: JoinRequest): boolean {
    const others = [...group.members.values()].filter((m) => m.id !== request.memberId);
    return request.protocols.some((p) => others.every((m) => m.protocols.some((q) => q.name === p.name)));
  }

  private prepareRebalance(group: Group): void {
    if (group.state === 'PreparingRebalance') return;
    for (const member of group.members.values()) {
      member.syncing?.({ errorCode: 'REBALANCE_IN_PROGRESS', assignment: EMPTY });
      member.syncing = undefined;
    }
    group.state = 'PreparingRebalance';
    const timeout = Math.max(...[...group.members.values()].map((m) => m.rebalanceTimeoutMs), 0);
    group.cancelRebalance = this.clock.after(timeout, () => {
      for (const member of group.members.values()) if (!member.joining) this.drop(group, member);
      this.completeJoin(group);
    });
  }

  private maybeCompleteJoin(group: Group): void {
    if (group.state !== 'PreparingRebalance' || group.pending.size > 0) return;
    for (const member of group.members.values()) if (!member.joining) return;
    this.completeJoin(group);
  }

  private completeJoin(group: Group): void {
    group.cancelRebalance?.();
    group.cancelRebalance = undefined;
    if (group.members.size === 0) {
      group.state = 'Empty';
      group.leader = '';
      return;
    }
    group.generation++;
    group.state = 'CompletingRebalance';
    if (!group.members.has(group.leader)) group.leader = group.members.keys().next().value!;
    group.protocol = this.electProtocol(group);
    const members = [...group.members.values()].map((m) => ({
      memberId: m.id,
      metadata: m.protocols.find((p) => p.name === group.protocol)?.metadata ?? EMPTY,
    }));
    for (const member of group.members.values()) {
      member.joining?.({
        errorCode: 'NONE',
        generationId: group.generation,
        protocolName: group.protocol,
        leader: group.leader,
        memberId: member.id,
        members: member.id === group.leader ? members : [],
      });
      member.joining = undefined;
      this.renewSession(group, member);
    }
  }

  /** The first protocol of the leader's list that all members have. */
  private electProtocol(group: Group): string {
    const all = [...group.members.values()];
    const leader = group.members.get(group.leader);
    return leader?.protocols.find((p) => all.every((m) => m.protocols.some((q) => q.name === p.name)))?.name ?? '';
  }

  private renewSession(group: Group, member: Member): void {
    member.cancelSession?.();
    member.cancelSession = this.clock.after(member.sessionTimeoutMs, () => {
      // a member that waits for the others is alive as long as its connection is
      if (member.joining) this.renewSession(group, member);
      else this.remove(group, member);
    });
  }

  private remove(group: Group, member: Member): void {
    this.drop(group, member);
    if (group.members.size === 0) {
      group.cancelRebalance?.();
      group.cancelRebalance = undefined;
      group.state = 'Empty';
      group.leader = '';
      group.generation++;
      return;
    }
    this.prepareRebalance(group);
    this.maybeCompleteJoin(group);
  }

  private drop(group: Group, member: Member): void {
    member.cancelSession?.();
    member.joining?.({
      errorCode: 'UNKNOWN_MEMBER_ID',
      generationId: -1,
      protocolName: '',
      leader: '',
      memberId: member.id,
      members: [],
    });
    member.syncing?.({ errorCode: 'UNKNOWN_MEMBER_ID', assignment: EMPTY });
    group.members.delete(member.id);
    if (group.leader === member.id) group.leader = group.members.keys().next().value ?? '';
  }
}
