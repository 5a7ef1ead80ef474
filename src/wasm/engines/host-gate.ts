import { type Koffi, memoryCopy, NativeBlock } from './native-library.js';

/**
 * What a library calls for an import. JavaScript may be cut off in the middle of a host function (its thread is ended, a timeout of `node:vm`), and koffi
 * then gives the library whatever lay in memory as the result, an address that it would follow. So where the machine is known a few instructions stand
 * between both: they take the result from memory that JavaScript wrote last, and when it did not come that far they make a trap themselves, which ends
 * the guest's call at once. Elsewhere the library calls koffi's function directly.
 */
export class HostGate {
  /** The function to give to the library. Its first argument must be a `cell`. */
  readonly address: bigint;
  readonly #koffi: Koffi;
  readonly #target: readonly bigint[];
  readonly #cells: NativeBlock[] = [];
  readonly #indices = new Map<number, number>();

  /**
   * @param callback of koffi; its first argument is the cell, its result the trap or null
   * @param trap how the library makes a trap: a function and its two arguments, which must stay
   */
  constructor(
    koffi: Koffi,
    callback: bigint,
    trap: { readonly make: bigint; readonly arguments: readonly [bigint, bigint] },
  ) {
    this.#koffi = koffi;
    this.#target = [callback, 0n, 0n, trap.make, ...trap.arguments];
    this.address = gateCode(koffi) ?? callback;
  }

  /** What stands for the import with that number in every module of the engine. */
  cell(index: number): bigint {
    for (let next = this.#cells.length; next <= index; next++) {
      const cell = new NativeBlock(this.#koffi, 8 * this.#target.length);
      this.#target.forEach((word, i) => {
        cell.view.setBigUint64(8 * i, word, true);
      });
      this.#cells.push(cell);
      this.#indices.set(Number(cell.address), next);
    }
    return this.#cells[index]!.address;
  }

  indexOf(cell: number): number {
    return this.#indices.get(cell)!;
  }

  /** The last thing a callback does. */
  finish(index: number, trap: bigint | null): bigint | null {
    const { view } = this.#cells[index]!;
    view.setBigUint64(RESULT, trap ?? 0n, true);
    view.setBigUint64(UNFINISHED, 0n, true);
    return trap;
  }
}

/** Offsets in a cell. */
const RESULT = 8;
const UNFINISHED = 16;

/** x86-64, System V calling convention. rbx keeps the cell over the call. */
const X64 = [
  '53', // push rbx
  '4889fb', // mov rbx, rdi
  '48c7431001000000', // mov qword [rbx + 16], 1
  'ff13', // call [rbx]
  '48837b1000', // cmp qword [rbx + 16], 0
  '740f', // je over the next four
  '488b7b20', // mov rdi, [rbx + 32]
  '488b7328', // mov rsi, [rbx + 40]
  '488b4318', // mov rax, [rbx + 24]
  '5b', // pop rbx
  'ffe0', // jmp rax
  '488b4308', // mov rax, [rbx + 8]
  '5b', // pop rbx
  'c3', // ret
].join('');

const PAGE = 4_096;
const READ_WRITE = 3;
const READ_EXECUTE = 5;
const MAP_PRIVATE_ANONYMOUS = process.platform === 'darwin' ? 0x1002 : 0x22;

/** One page a thread. */
let code: bigint | undefined;

function gateCode(koffi: Koffi): bigint | undefined {
  if (code !== undefined) return code;
  if (process.arch !== 'x64' || process.platform === 'win32') return undefined;
  const library = koffi.load(process.platform === 'darwin' ? 'libSystem.B.dylib' : 'libc.so.6');
  const map = library.func('void* mmap(void*, size_t, int, int, int, int64_t)');
  const protect = library.func('int mprotect(void*, size_t, int)');
  const page = map(null, PAGE, READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0) as bigint | null;
  if (page === null || BigInt.asIntN(64, page) === -1n) return undefined;
  const bytes = Buffer.from(X64, 'hex');
  const block = new NativeBlock(koffi, bytes.length);
  block.bytes.set(bytes);
  memoryCopy(koffi)(page, block.address, block.bytes.length);
  if ((protect(page, PAGE, READ_EXECUTE) as number) !== 0) return undefined;
  code = page;
  return code;
}
