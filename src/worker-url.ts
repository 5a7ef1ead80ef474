/**
 * Where a worker thread's program lies. Compiled code starts the file beside it; when the sources themselves run (under the test runner),
 * the compiled twin in `dist/` is started instead, since Node 20 cannot start TypeScript.
 */
export function workerUrl(importMetaUrl: string, file: string): URL {
  const beside = new URL(file, importMetaUrl);
  if (!importMetaUrl.endsWith('.ts')) return beside;
  return new URL(beside.href.replace(/^(.*)\/(src|pipelines)\//, '$1/dist/$2/').replace(/\.ts$/, '.js'));
}
