import { neuralLimits } from '../../limits.js';
import type { Stateful, StateReader, StateWriter } from '../../state.js';
import { Network, type Weights } from './network.js';
import { WindowPool } from './window-pool.js';

/** The one network of all series: what they ask, and the windows they give to learn from. Saved once, not with every series. */
export class SharedNetwork implements Stateful {
  readonly pool: WindowPool;
  private current: Network | undefined;
  /** How often weights were taken in. */
  version = 0;

  constructor(options: { readonly maxWindows?: number; readonly seed?: number } = {}) {
    this.pool = new WindowPool(options.maxWindows ?? neuralLimits.maxWindows, options.seed);
  }

  /** The network in use; undefined before the first training. */
  get network(): Network | undefined {
    return this.current;
  }

  /** From now on everything is asked of these weights. Errors: `IGU_STATE_INCOMPATIBLE`, and the network in use stays. */
  swap(weights: Weights): void {
    this.current = new Network(weights);
    this.version++;
  }

  save(writer: StateWriter): void {
    writer.u32(this.version).bool(this.current !== undefined);
    this.current?.save(writer);
  }

  restore(reader: StateReader): void {
    const version = reader.u32();
    this.current = reader.bool() ? Network.read(reader) : undefined;
    this.version = version;
  }
}
