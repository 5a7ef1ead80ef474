/** How long tests wait for what should come at once: on a busy machine it comes late, and a test that fails then says nothing. */
export const patience = {
  testTimeout: 60_000,
  hookTimeout: 60_000,
  expect: { poll: { timeout: 20_000 } },
} as const;
