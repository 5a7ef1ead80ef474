/**
 * A population of functions as Shahrad et al. (ATC 2020) describe Azure's: invocation rates over eight orders of magnitude, log10(calls a day) ~ N(1.603,
 * 1.772), so that 45 % are called at most once an hour and 81 % at most once a minute; a third each periodic, Poisson and in bursts. What the paper does not
 * give is chosen here and said in the table: half of the periodic ones are timers whose cron is known, half are clients that poll with 2 % jitter; half of the
 * Poisson ones follow the day. Seeded.
 */
const DAY_MIN = 1440;

export function random32(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function normal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

const exponential = (random, mean) => -Math.log(1 - random()) * mean;

/** Calls a day above which an app is simulated no faster: its gaps are seconds, whatever the policy. */
const FASTEST = 4320;

export function makeApps(count, seed) {
  const random = random32(seed);
  return Array.from({ length: count }, (_, i) => {
    const rate = 10 ** (1.603 + 1.772 * normal(random));
    const kind = ['periodic', 'poisson', 'bursty'][Math.floor(random() * 3)];
    const half = random() < 0.5;
    return {
      name: `app-${i}`,
      seed: Math.floor(random() * 2 ** 32),
      /** Calls a day. */
      rate,
      simulated: Math.min(rate, FASTEST),
      kind:
        kind === 'periodic' ? (half ? 'timer' : 'polled') : kind === 'poisson' ? (half ? 'daily' : 'poisson') : kind,
      /** 90 % up to 400 MB. */
      memoryMb: Math.min(1500, Math.max(32, 170 * Math.exp(0.67 * normal(random)))),
      /** Of a call, minutes: half below 0.7 s. */
      duration: Math.min(60, 0.7 * Math.exp(1.2 * normal(random))) / 60,
    };
  });
}

/** Times of all calls of an app, minutes, ascending, over so many days. */
export function* callsOf({ seed, simulated, kind }, days) {
  const random = random32(seed);
  const end = days * DAY_MIN;
  const gap = DAY_MIN / simulated;
  if (kind === 'timer' || kind === 'polled') {
    const jitter = kind === 'timer' ? 0 : 0.02;
    for (let at = random() * gap; at < end; at += gap * Math.max(0.1, 1 + jitter * normal(random))) yield at;
  } else if (kind === 'poisson') {
    for (let at = exponential(random, gap); at < end; at += exponential(random, gap)) yield at;
  } else if (kind === 'daily') {
    const phase = random() * DAY_MIN;
    // thinned from twice the rate: from nothing at night to twice the mean at noon
    for (let at = exponential(random, gap / 2); at < end; at += exponential(random, gap / 2)) {
      if (random() < (1 + Math.cos((2 * Math.PI * (at - phase)) / DAY_MIN)) / 2) yield at;
    }
  } else {
    // ten calls a burst on average, 20 s apart, where the rate leaves room for that
    const within = Math.min(1 / 3, gap / 4);
    for (let at = exponential(random, 10 * gap); at < end; ) {
      yield at;
      at += random() < 0.9 ? exponential(random, within) : exponential(random, 10 * gap);
    }
  }
}
