import { type Template, wasmDefinition } from './template.js';

export const assemblyscript: Template = {
  files: {
    'NAME.yaml': wasmDefinition,
    'NAME.as.ts': `// Greets: answers {"greeting": "Hello, …"} to an event whose "name" says who. Each call gets the event as JSON and answers with bytes.

@external("env", "iguana_log")
declare function iguana_log(text: usize, length: u32): void;

// Room for the event: pinned until the call is done.
export function iguana_alloc(length: u32): usize {
  return __pin(__new(length, idof<ArrayBuffer>()));
}

let answer: ArrayBuffer = new ArrayBuffer(0);

export function handle(event: usize, length: u32): u64 {
  const text = String.UTF8.decodeUnsafe(event, length);
  __unpin(event);
  const key = '"name":"';
  const at = text.indexOf(key);
  const name = at < 0 ? "world" : text.substring(at + key.length, text.indexOf('"', at + key.length));
  if (name.length > 256) throw new Error("a name has at most 256 characters");
  const line = String.UTF8.encode("greeting " + name);
  iguana_log(changetype<usize>(line), line.byteLength);
  answer = String.UTF8.encode('{"greeting":"Hello, ' + name + '"}');
  return ((<u64>changetype<usize>(answer)) << 32) | (<u64>answer.byteLength);
}
`,
  },
  build: {
    commands: [['asc', 'NAME.as.ts', '--outFile', 'NAME.wasm', '--optimize', '--exportRuntime']],
    tools: 'the AssemblyScript compiler: npm install --global assemblyscript',
  },
};
