/** Takes how to end each part, as soon as it has begun. */
export type Stops = (() => unknown)[];

/**
 * Builds something of parts that each have to be ended: by `stop`, and when a later part cannot begin. The last part ends first; one that fails to end keeps none of the others from it,
 * and its error is told when all have.
 */
export async function assembled<T>(build: (stops: Stops, stop: () => Promise<void>) => Promise<T>): Promise<T> {
  const stops: Stops = [];
  const stop = async (): Promise<void> => {
    const failures: unknown[] = [];
    for (const one of stops.splice(0).reverse()) {
      try {
        await one();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  };
  try {
    return await build(stops, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}
