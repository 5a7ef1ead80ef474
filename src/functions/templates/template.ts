/** A first function in one language. `NAME` in texts, file names and commands stands for the function's name. */
export interface Template {
  /** File → text. */
  readonly files: Readonly<Record<string, string>>;
  /** How its code is made into WebAssembly; absent where the code runs as it is. */
  readonly build?: {
    /** Each with its arguments, run in the directory. */
    readonly commands: readonly (readonly string[])[];
    /** How to get the tools. */
    readonly tools: string;
  };
}

/** The same for every guest: called over HTTP and by hand, from a snapshot. */
export const wasmDefinition = `name: NAME
runtime: wasm
code: { file: NAME.wasm }
memoryMb: 32
timeoutMs: 5000
triggers:
  - { type: http, method: POST, path: /NAME }
`;
