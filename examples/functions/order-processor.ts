interface Item {
  readonly sku: string;
  readonly quantity: number;
  /** Of one, in the currency's unit. */
  readonly price: number;
}

interface Order {
  readonly id: string;
  readonly items: readonly Item[];
}

interface Accepted {
  readonly id: string;
  readonly total: number;
  readonly shipping: number;
  readonly currency: string;
}

type Event =
  | {
      readonly trigger: 'http';
      readonly method: string;
      readonly params: { readonly id?: string };
      readonly body: unknown;
    }
  | { readonly trigger: 'timer'; readonly scheduledTime: string };

const currency = process.env.CURRENCY ?? 'EUR';
const freeFrom = Number(process.env.FREE_SHIPPING_FROM ?? 50);

/** Orders of this hour. A cache: it is gone with the instance. What must last belongs on a topic. */
const accepted = new Map<string, Accepted>();

export async function handle(event: Event, { log }: { log: Pick<Console, 'info'> }): Promise<unknown> {
  if (event.trigger === 'timer') return summary(event.scheduledTime);
  if (event.method === 'GET') {
    const order = accepted.get(event.params.id ?? '');
    return order ?? { statusCode: 404, body: { error: 'no such order in this hour' } };
  }
  const problem = problemOf(event.body);
  if (problem !== undefined) return { statusCode: 422, body: { error: problem } };
  const { id, items } = event.body as Order;
  // sent twice, charged once
  const known = accepted.get(id);
  if (known) return { statusCode: 200, body: known };
  const goods = cents(items.reduce((sum, { quantity, price }) => sum + quantity * price, 0));
  const shipping = goods >= freeFrom ? 0 : 4.9;
  const order: Accepted = { id, total: cents(goods + shipping), shipping, currency };
  accepted.set(id, order);
  log.info('accepted', id, order.total);
  return { statusCode: 201, headers: { location: `/functions/orders/${id}` }, body: order };
}

function summary(hour: string): object {
  const orders = [...accepted.values()];
  accepted.clear();
  return { hour, orders: orders.length, total: cents(orders.reduce((sum, { total }) => sum + total, 0)), currency };
}

function problemOf(body: unknown): string | undefined {
  const { id, items } = (body ?? {}) as { id?: unknown; items?: unknown };
  if (typeof id !== 'string' || id === '') return 'an order needs an id';
  if (!Array.isArray(items) || items.length === 0) return 'an order needs items';
  const wrong = items.findIndex(
    ({ quantity, price }: Item) => !(Number.isInteger(quantity) && quantity > 0 && price >= 0),
  );
  return wrong < 0 ? undefined : `item ${wrong + 1} needs a whole quantity and a price`;
}

function cents(value: number): number {
  return Math.round(value * 100) / 100;
}
