import { Rights } from '../../../../src/wasm/wasi/abi.js';
import { Wasi, type WasiModuleName, type WasiOptions } from '../../../../src/wasm/wasi/wasi.js';

/** Calls WASI as a guest would, without one: the test is the program and this its memory. Numbers of errors are answers, never exceptions. */
export class DirectGuest {
  readonly memory = new Uint8Array(1_048_576);
  readonly view = new DataView(this.memory.buffer);
  readonly wasi: Wasi;
  readonly calls: Record<string, (...args: unknown[]) => unknown>;
  /** Where results are put, and buffers. */
  static readonly RESULT = 64;
  static readonly BUFFER = 65_536;

  constructor(options: WasiOptions, module: WasiModuleName = 'wasi_snapshot_preview1') {
    this.wasi = new Wasi(options);
    this.calls = this.wasi.imports(module);
    this.wasi.bind(() => this.memory);
  }

  call(name: string, ...args: unknown[]): number {
    const answer = this.calls[name]!(...args);
    if (typeof answer !== 'number') throw new Error(`${name} answered ${String(answer)}`);
    return answer;
  }

  get result(): number {
    return this.view.getUint32(DirectGuest.RESULT, true);
  }

  get result64(): bigint {
    return this.view.getBigUint64(DirectGuest.RESULT, true);
  }

  /** Puts text into memory at `at` and answers its length. */
  put(text: string, at: number): number {
    const bytes = Buffer.from(text);
    this.memory.set(bytes, at);
    return bytes.length;
  }

  path(name: string, fd: number, path: string, ...rest: unknown[]): number {
    return this.call(name, fd, 1024, this.put(path, 1024), ...rest);
  }

  /** Answers the descriptor, or the errno negative. */
  open(
    fd: number,
    path: string,
    { flags = 0, rights = Rights.FD_READ | Rights.FD_SEEK, follow = true, fdFlags = 0, inheriting = 0 } = {},
  ): number {
    const length = this.put(path, 1024);
    const lookup = follow ? 1 : 0;
    const errno = this.call(
      'path_open',
      fd,
      lookup,
      1024,
      length,
      flags,
      BigInt(rights),
      BigInt(inheriting),
      fdFlags,
      DirectGuest.RESULT,
    );
    return errno === 0 ? this.result : -errno;
  }

  write(fd: number, text: string): number {
    this.view.setUint32(0, DirectGuest.BUFFER, true);
    this.view.setUint32(4, this.put(text, DirectGuest.BUFFER), true);
    return this.call('fd_write', fd, 0, 1, DirectGuest.RESULT);
  }

  /** The text read, or the errno. */
  read(fd: number, length = 4096): string | number {
    this.view.setUint32(0, DirectGuest.BUFFER, true);
    this.view.setUint32(4, length, true);
    const errno = this.call('fd_read', fd, 0, 1, DirectGuest.RESULT);
    return errno === 0 ? this.text(DirectGuest.BUFFER, this.result) : errno;
  }

  /** Content of the file at the path, or the errno. */
  contentOf(fd: number, path: string, follow = true): string | number {
    const file = this.open(fd, path, { follow });
    if (file < 0) return -file;
    const content = this.read(file);
    this.call('fd_close', file);
    return content;
  }

  text(at: number, length: number): string {
    return Buffer.from(this.memory.subarray(at, at + length)).toString();
  }

  link(name: 'path_link' | 'path_rename', fd: number, from: string, toFd: number, to: string, follow = false): number {
    const fromLength = this.put(from, 1024);
    const toLength = this.put(to, 8192);
    const lookup = name === 'path_link' ? [follow ? 1 : 0] : [];
    return this.call(name, fd, ...lookup, 1024, fromLength, toFd, 8192, toLength);
  }

  symlink(target: string, fd: number, path: string): number {
    return this.call('path_symlink', 1024, this.put(target, 1024), fd, 8192, this.put(path, 8192));
  }

  /** Text of a link, or the errno. */
  readlink(fd: number, path: string): string | number {
    const errno = this.path('path_readlink', fd, path, DirectGuest.BUFFER, 4096, DirectGuest.RESULT);
    return errno === 0 ? this.text(DirectGuest.BUFFER, this.result) : errno;
  }

  stat(fd: number, path: string, follow = true): { type: number; nlink: bigint; size: bigint; mtim: bigint } | number {
    const length = this.put(path, 1024);
    const errno = this.call('path_filestat_get', fd, follow ? 1 : 0, 1024, length, DirectGuest.BUFFER);
    if (errno !== 0) return errno;
    const at = DirectGuest.BUFFER;
    return {
      type: this.memory[at + 16]!,
      nlink: this.view.getBigUint64(at + 24, true),
      size: this.view.getBigUint64(at + 32, true),
      mtim: this.view.getBigUint64(at + 48, true),
    };
  }

  /** Names in a directory that is open, or the errno. */
  list(fd: number): string[] | number {
    const names: string[] = [];
    let cookie = 0n;
    for (;;) {
      const errno = this.call('fd_readdir', fd, DirectGuest.BUFFER, 512, cookie, DirectGuest.RESULT);
      if (errno !== 0) return errno;
      const used = this.result;
      let at = DirectGuest.BUFFER;
      const end = at + used;
      while (at + 24 <= end) {
        const length = this.view.getUint32(at + 16, true);
        if (at + 24 + length > end) break;
        names.push(this.text(at + 24, length));
        cookie = this.view.getBigUint64(at, true);
        at += 24 + length;
      }
      if (used < 512) return names;
    }
  }
}
