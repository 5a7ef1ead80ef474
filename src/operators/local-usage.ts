import { defaultPrices, type PriceTable } from '../functions/billing.js';
import { UsageLedger } from '../functions/usage-ledger.js';
import type { UsageTopic } from './usage-topic.js';

/** Where usage goes, and bills come from. */
export type Usage = Pick<UsageTopic, 'record' | 'getBilling' | 'stop'>;

/** Usage of this process alone, gone with it. */
export function localUsage(prices: PriceTable = defaultPrices): Usage {
  const ledger = new UsageLedger(Date.now);
  return {
    record: (usage) => void ledger.add(usage),
    getBilling: async (name, period = {}) => ledger.bill(name, period, prices),
    stop: async () => undefined,
  };
}
