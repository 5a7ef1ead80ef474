/** What can be done to the instances of one service, however they run. */
export interface Cluster {
  readonly name: string;
  instances(): readonly Instance[];
  /** Starts or stops instances until there are `count`; resolves when the change is made. Errors: `IGU_ACTUATOR`. */
  scaleTo(count: number): Promise<void>;
  /** Stops one instance and starts it again in its place. Errors: `IGU_NOT_FOUND`. */
  restart(id: string): Promise<void>;
}

export interface Instance {
  readonly id: string;
  readonly state: 'running' | 'waiting' | 'stopping';
  readonly pid: number | null;
  /** Given to the instance as PORT; null without ports. */
  readonly port: number | null;
  /** Times it was started again after it had ended by itself. */
  readonly restarts: number;
}
