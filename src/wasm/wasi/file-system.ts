/** The port between WASI's functions and what holds the files. Times are nanoseconds since 1970. All throw WasiError or an error of the system. */

export interface FileStat {
  readonly dev: bigint;
  readonly ino: bigint;
  /** By `FileType`. */
  readonly type: number;
  readonly nlink: bigint;
  readonly size: bigint;
  readonly atim: bigint;
  readonly mtim: bigint;
  readonly ctim: bigint;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly ino: bigint;
  readonly type: number;
}

export interface FileSystem {
  /** The top directory, opened for one mount. Nothing above or beside it can be reached from what it gives. */
  root(readOnly: boolean): Directory;
  /** What a file system inside Iguana holds; absent where the files are elsewhere and stay there. */
  save?(): Uint8Array<ArrayBuffer>;
  restore?(state: Uint8Array): void;
}

/** One use of a file system by a guest. Names and links never cross from one mount to another: EXDEV, as between mounts of a kernel. */
export interface Mount {
  readonly readOnly: boolean;
}

interface OpenNode {
  stat(): FileStat;
  /** Absent times stay. */
  setTimes(atim: bigint | undefined, mtim: bigint | undefined): void;
  sync(dataOnly: boolean): void;
  /** What `reopen` of its mount's top directory takes; undefined when no name leads to it any more. */
  place(): string | undefined;
  close(): void;
}

export interface OpenFile extends OpenNode {
  readonly isDirectory: false;
  /** Bytes put at `memory[start…end)`, fewer only at the end of the file. */
  read(memory: Uint8Array, start: number, end: number, position: number): number;
  write(memory: Uint8Array, start: number, end: number, position: number): number;
  size(): number;
  setSize(size: number): void;
  /** The file is at least so long afterwards. */
  allocate(size: number): void;
}

export interface Access {
  readonly read: boolean;
  readonly write: boolean;
}

/**
 * A directory that is open. A name is one component, never empty, `.` or `..` and without a slash: `walk` takes paths apart.
 * No method follows a symbolic link.
 */
export interface Directory extends OpenNode {
  readonly isDirectory: true;
  readonly mount: Mount;
  /** The directory of this name, or the text of the symbolic link that stands there. */
  enter(name: string): Directory | string;
  /** Text of the symbolic link; undefined when something else or nothing has this name. */
  linkTarget(name: string): string | undefined;
  lookup(name: string): FileStat | undefined;
  /** A regular file; makes it where `create` says so, fails with EXIST where it is there and `exclusive` is set too. Special files give ACCES. */
  openFile(name: string, access: Access, create: boolean, exclusive: boolean): OpenFile;
  createDirectory(name: string): void;
  createLink(target: string, name: string): void;
  /** Another name in `to`, which is of the same mount. */
  link(name: string, to: Directory, newName: string): void;
  rename(name: string, to: Directory, newName: string): void;
  unlink(name: string): void;
  removeDirectory(name: string): void;
  setTimesOf(name: string, atim: bigint | undefined, mtim: bigint | undefined): void;
  /** Without `.` and `..`, in order of names. */
  list(): DirectoryEntry[];
  /** The same directory, open once more. */
  duplicate(): Directory;
  /** What is at the place, opened anew with the same care; undefined when it is not there. Only of a mount's top directory. */
  reopen(place: string, access: Access): Directory | OpenFile | undefined;
  /** Closes what is open of this mount beside itself and those: a call that was cut off leaves it behind. Absent where nothing is taken of the host. */
  closeOthers?(kept: readonly (Directory | OpenFile)[]): void;
}
