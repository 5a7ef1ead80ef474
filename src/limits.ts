/**
 * Every bound of the system with its unit and reason. Reaching one is counted and reported by whoever holds it.
 * One `export const` object per area; add to your own area.
 */

/** What a single input sample may look like. */
export const sampleLimits = {
  /** Oldest accepted event time, ms before the reader's clock: 10 years; older is almost surely seconds read as ms. */
  maxAgeMs: 10 * 365 * 86_400_000,
  /** Furthest accepted event time ahead of the reader's clock, ms: a sample ahead blinds its series until that time, so clock skew only. */
  maxAheadMs: 60_000,
  /** Longest metric name, characters. */
  maxNameLength: 512,
  /** Most labels of one series. */
  maxLabels: 64,
  /** Longest names and values of all labels of one series together, characters: they travel in every forecast. */
  maxLabelsLength: 16_384,
  /** Largest value: sums and squares of larger ones are no numbers any more, and a series that has seen one never recovers. */
  maxMagnitude: 1e100,
  /** Most samples in one Kafka message. */
  maxSamplesPerMessage: 100_000,
} as const;

/** What a sample decoder remembers of the series it has read. */
export const codecLimits = {
  /** Most series read by comparing bytes; further ones are parsed, which costs five times as much. Twice `maxSeries`: two producers may write labels in different orders. */
  maxPrefixes: 2_000_000,
  /** Bytes of all of them. */
  maxPrefixBytes: 536_870_912,
  /** Longest name and labels remembered, bytes. */
  longestPrefix: 2_048,
  /** Of a value in dead letters, bytes: with key and headers it stays below the usual max.message.bytes of 1 MiB. */
  maxDeadLetterBytes: 900_000,
  /** Of a key in dead letters, bytes. */
  maxDeadLetterKeyBytes: 65_536,
  /** Of the reason in dead letters, characters. */
  maxReasonLength: 1_000,
} as const;

/** What one process keeps in memory. */
export const seriesLimits = {
  /** Most series one process holds state for; further ones are counted and dropped. */
  maxSeries: 1_000_000,
} as const;

/** What the neural network learns from. */
export const neuralLimits = {
  /** Windows kept to learn from, over all series: 480 bytes each; more make training slower, hardly better. */
  maxWindows: 4_096,
  /** Fewer windows than this are not trained on: a quarter of them decides whether the network is of use. */
  minWindows: 200,
  /** New windows before the network is trained again. */
  minFreshWindows: 200,
} as const;

/** What the live page keeps in memory and sends. All of it is a view: nothing is lost for the pipelines when a bound is reached. */
export const dashboardLimits = {
  /** Most series shown; further ones are counted as `notShown`. 2,000 full histories are about 130 MB. */
  maxSeries: 2_000,
  /** Samples kept of one series: nearly three days at one a minute. Rings grow to it on demand. */
  maxHistory: 4_096,
  /** Forecasts kept of one series: the newest, and older ones to draw against what came. */
  maxForecasts: 48,
  /** Anomaly episodes kept; the oldest resolved one goes first. */
  maxAnomalies: 500,
  /** Decisions kept. */
  maxDecisions: 500,
  /** Pipelines and desired-instances rows kept. */
  maxPipelines: 64,
  maxDesired: 1_000,
  /** Pages open at the same time; a further one is answered 503. */
  maxClients: 64,
  /** A page is sent what changed this often, ms. */
  tickMs: 1_000,
  /** Bytes that may wait in a page's socket; above it ticks are left out and made up for in one later. */
  maxPendingBytes: 1_048_576,
  /** A page whose socket stayed full this long is cut off, ms; the browser connects again by itself. */
  slowClientMs: 30_000,
  /** Longest time `stop` waits for open answers, ms. */
  stopMs: 500,
} as const;

/** The Kafka client's bounds: source, sink and state. */
export const kafkaLimits = {
  /** Longest wait of a fetch for new records, ms: bounds latency of a quiet topic's stop and rebalance. */
  maxWaitMs: 250,
  /** Bytes of one partition in one fetch: one batch. */
  maxBytesPerPartition: 1_048_576,
  /** Bytes of one fetch over all partitions. */
  maxBytesPerFetch: 10_485_760,
  /** A member silent for so long leaves the group, ms: how long a restart after a kill waits; a batch of the largest size takes at most a few seconds. */
  sessionTimeoutMs: 15_000,
  heartbeatMs: 3_000,
  /** Offsets are committed at most this often, ms: what a crash repeats. */
  commitEveryMs: 1_000,
  /** State that changed is written at most this often, ms: what a restart learns again from the input. */
  checkpointEveryMs: 5_000,
  /** Bytes of one produce request, below the usual max.message.bytes of 1 MiB. */
  maxBytesPerFlush: 900_000,
  /** Largest record of a state topic, bytes. */
  maxStateRecordBytes: 8_388_608,
  /** Series that share one state record: few, since all are written when one changed, and the largest states are 100 KB each. */
  seriesPerChunk: 4,
  /** Longest wait for batches in flight when stopping, ms. */
  drainMs: 1_000,
  /** Attempts of the client before it begins anew with joining the group: about half a minute. */
  retries: 10,
  /** A consumer that gave up runs again after so long, ms. */
  runAgainMs: 1_000,
  /** A change that all writers of a topic make one after the other is given up after so long, ms: what a writer that was killed in it may hold up. */
  exclusiveTransactionMs: 30_000,
  /** Partitions whose batches are handed over at once, of those that hand over and do not wait. */
  partitionsAtOnce: 64,
  /** A member that waits for the group's leader asks again after so long, ms. */
  askAgainMs: 50,
  /** A transaction that was begun and not ended is aborted by the broker after so long, ms: what readers of committed records wait for at most. */
  transactionTimeoutMs: 30_000,
  /** A transaction waits for the one before it to end everywhere: so often, */
  concurrentTransactionTries: 500,
  /** and so long each time, ms. */
  concurrentTransactionMs: 5,
} as const;

/** What the embedded broker accepts. */
export const brokerLimits = {
  /** Largest request, bytes: kafkajs sends at most about 1 MiB a partition; a larger length is a foreign protocol. */
  maxRequestBytes: 104_857_600,
  /** Most bytes one fetch answers with, whatever the client asks. */
  maxFetchBytes: 52_428_800,
  /** Longest a fetch waits for data, ms. */
  maxFetchWaitMs: 30_000,
  /** Partitions of all topics together. */
  maxPartitions: 10_000,
  maxConnections: 2_000,
  /** Members of one consumer group, joining ones included. */
  maxGroupMembers: 1_000,
  minSessionTimeoutMs: 1_000,
  maxSessionTimeoutMs: 1_800_000,
  maxTransactionTimeoutMs: 900_000,
  /** Retention and compaction look at every log this often, ms. */
  cleanEveryMs: 30_000,
} as const;

/** What the process actuator runs. */
export const clusterLimits = {
  /** Most instances of one cluster on this machine. */
  maxInstances: 100,
  /** Size of one log file of an instance, bytes; there are two at most. */
  maxLogBytes: 10_485_760,
  /** Longest pause before an instance is started again, ms. */
  maxBackOffMs: 30_000,
  /** Running this long ends a series of restarts, ms. */
  stableMs: 10_000,
} as const;

/** What scaling keeps. */
export const scalingLimits = {
  /** Forecasts of one series that wait for the metric to reach the time they were made at: a few in a live system, a year of five-minute ones in a replay. The oldest goes first. */
  maxWaitingForecasts: 105_120,
} as const;

/** What a replay reads. */
export const traceLimits = {
  /** Most lines of a trace file: 16 bytes of memory each once read, several times that while reading. Half a year of seconds. */
  maxLines: 16_000_000,
} as const;

/** What alerts keep. */
export const alertLimits = {
  /** Episodes told and not resolved; beyond it the oldest is forgotten and may be told again. */
  maxOpen: 10_000,
  /** Messages that wait for one webhook: what an outage of its receiver may hold back; the oldest is lost then. */
  maxWaiting: 1_000,
  /** Longest pause before a webhook is tried again, ms. */
  maxPauseMs: 60_000,
} as const;

/** What a WebAssembly engine keeps. */
export const wasmEngineLimits = {
  /** Compiled modules kept by one engine for the next `compile` of the same bytes; the one used longest ago goes first. */
  maxModules: 256,
  /** Bytes of the modules they were compiled from; machine code is 2 to 6 times as large. */
  maxModuleBytes: 268_435_456,
  /** Stack that calls into an engine that is a native library run on, bytes a thread; the most koffi gives is 16 MiB. */
  libraryStackBytes: 8_388_608,
  /** Of it for guest code, bytes: the rest is for the library itself (compiling is what needs most) and for host functions. */
  guestStackBytes: 4_194_304,
  /** Deepest nesting of guest → host function → guest on one library's stack; beyond it the call is a stack overflow. */
  maxNestedCalls: 64,
  /** Stack of one instance in the interpreter, bytes. */
  interpreterStackBytes: 1_048_576,
  /** Most elements of a table without a maximum in the interpreter. */
  interpreterTableElements: 10_000_000,
  /** Kept of what pip, clang or cargo say while an engine is installed, characters: the end, for the error. */
  maxClientOutput: 8_192,
  /** Longest wait for an engine to be opened when engines are listed, ms. */
  describeTimeoutMs: 30_000,
} as const;

/** What compiling ahead of time keeps and may take. */
export const wasmAotLimits = {
  /** Machine code of one cache directory, bytes; what was used longest ago goes first. */
  maxBytes: 2_147_483_648,
  /** Blobs of one cache directory: it is listed at every write. */
  maxBlobs: 4_096,
  /** Files that a process left behind when it died are removed after this long, ms. */
  looseFileMs: 3_600_000,
  /** Modules that wait to be compiled ahead in one process; each holds its bytes. */
  maxWaiting: 64,
  /** Longest one module is compiled, ms: optimising takes 1 to 2 s a MB on one core. */
  compileTimeoutMs: 300_000,
  /** What is kept of a compiler's messages, characters. */
  maxMessage: 4_096,
  /** Largest module that is given to a C compiler, bytes: it takes 10 to 20 s and some 300 MB of memory a MB. */
  maxTranslatedBytes: 8_388_608,
  /** Stack of guests that run as C code, bytes of addresses in each thread; more than 4 MiB of slots need once compiled. */
  guestStackBytes: 67_108_864,
} as const;

/** What a snapshot of a WebAssembly instance may hold, and a directory of them. */
export const wasmSnapshotLimits = {
  /** Memory of one snapshot as its guest sees it, all memories together, bytes; only pages that differ from the module's own are held. */
  maxMemoryBytes: 4_294_967_296,
  /** Globals, and changed table elements, of one snapshot. */
  maxEntries: 1_000_000,
  /** WASI state of one snapshot (its in-memory files above all), bytes. */
  maxWasiBytes: 268_435_456,
  /** Size of one manifest, bytes: 32 for each page, which lies in a pack. */
  maxManifestBytes: 67_108_864,
  /** Snapshots in one directory. */
  maxSnapshots: 10_000,
  /** Different pages of 4 KiB in one directory: their index takes about 150 bytes of memory each. */
  maxPages: 1_048_576,
  /** Pages in one pack file; more are spread over several. */
  maxPackPages: 16_384,
  /** Size of all packs of one directory, bytes. */
  maxStoreBytes: 17_179_869_184,
  /** A change waits so long for another process that is changing the directory, ms. */
  lockWaitMs: 10_000,
} as const;

/** What the WebAssembly runtime gives instances and keeps. */
export const wasmRuntimeLimits = {
  /** Memory of one instance where nothing else is said, bytes. */
  defaultMaxMemory: 268_435_456,
  /** Elements of each table where nothing else is said. */
  defaultMaxTableElements: 100_000,
  /** Stack of one instance where nothing else is said, slots of 8 bytes: with it no engine's own stack runs out first. */
  defaultMaxStackDepth: 32_768,
  /** Memory of all instances of one tenant where nothing else is said, bytes. */
  defaultMaxTenantMemory: 4_294_967_296,
  /** Longest timeout of a call, ms: what a timer can hold. */
  maxTimeoutMs: 2_147_483_647,
  /** Instances of one runtime; V8 reserves about 10 GiB of addresses for each memory, which ends at about 13,000. */
  maxInstances: 10_000,
  /** Modules loaded into one runtime. */
  maxModules: 1_024,
  /** Size of one module, bytes. */
  maxModuleBytes: 134_217_728,
  /** Size of all modules of one runtime as they are given to engines, bytes; machine code is 2 to 6 times as large. */
  maxCodeBytes: 536_870_912,
  /** Tenants whose memory is counted at the same time. */
  maxTenants: 10_000,
  /** Worker threads of one runtime: each takes 7 to 9 MB. */
  maxWorkers: 64,
  /** Calls that wait for one worker thread; further ones are refused. */
  maxWaitingCalls: 10_000,
  /** Modules up to this size are metered on the calling thread (about 100 ms a MB), larger ones in a worker thread, bytes. */
  meteredInPlaceBytes: 262_144,
  /** Metered forms of modules kept for the next instance with other limits; the one used longest ago is made anew when it is needed. */
  maxPrepared: 256,
  /** Snapshots kept to bring back instances of a lost worker thread, bytes of pages; beyond it the oldest is let go. */
  maxKeptSnapshotBytes: 1_073_741_824,
  /** Stack of a worker thread, MiB: room for the deepest guest stack that can be allowed, in V8's slowest code. */
  workerStackMb: 16,
  /** A worker thread that does not stop a call by itself is ended so long after the call's timeout, ms: a busy machine makes its own stop late. */
  graceMs: 500,
  /** A call in an engine's library that was stopped before it had come to guest code is stopped again after so long, ms. */
  stopAgainMs: 5,
  /** Where no call may use more gas than this and none has a timeout, engines that pay for being stoppable are opened without: gas ends the call. */
  maxUnstoppableGas: 1_000_000_000,
} as const;

/** What WASI lets a guest take from the host. */
export const wasiLimits = {
  /** Open descriptors of one guest; one more gives EMFILE. Each on a host directory costs the process one too. */
  maxDescriptors: 1_024,
  /** Buffers of one vectored read or write (as Linux); more give EINVAL. */
  maxVectors: 1_024,
  /** Bytes that one read or write moves at most, so that no call keeps the host long; the guest sees a short one. 16 MiB. */
  maxTransferBytes: 16_777_216,
  /** Longest path, bytes. */
  maxPathBytes: 4_096,
  /** Longest component of a path, bytes. */
  maxNameBytes: 255,
  /** Directories below an open one that a path may go down, each open meanwhile; deeper gives ENAMETOOLONG. */
  maxDepth: 256,
  /** Symbolic links that one path may lead through (as Linux). */
  maxSymbolicLinks: 40,
  /** Entries of one host directory that a guest can list; more give EOVERFLOW. */
  maxDirectoryEntries: 100_000,
  /** Listings held for one guest, each as it was when it began; one that is read on after it was let go is made again. */
  maxListings: 8,
  /** Arguments and environment together, bytes. 1 MiB. */
  maxArgumentBytes: 1_048_576,
  /** Standard output or standard error kept of one guest, bytes, unless the caller says another bound; what is beyond it is counted and dropped. 1 MiB. */
  maxOutputBytes: 1_048_576,
  /** Longest wait of one `poll_oneoff`, ms; a longer one is interrupted (EINTR) then. */
  maxSleepMs: 60_000,
  /** Subscriptions of one `poll_oneoff`; more give EINVAL. */
  maxSubscriptions: 4_096,
  /** Content of an in-memory file system, bytes, unless the caller says another bound; ENOSPC beyond it. 64 MiB. */
  maxFileSystemBytes: 67_108_864,
  /** Descriptors of the process that calls cut off by their time may have lost in the midst of opening, of one directory; EMFILE beyond it. */
  maxLostDescriptors: 64,
  /** Files, directories and links of an in-memory file system, and as many names, unless the caller says another bound; ENOSPC beyond it. */
  maxInodes: 10_000,
  /** Times set on host files that are remembered to the nanosecond, which Node cannot set; the oldest is forgotten first. */
  maxExactTimes: 1_024,
} as const;

/** Functions, their instances and what their calls leave behind. */
export const functionLimits = {
  /** Log lines kept of one call; further ones are counted only. */
  maxLogLines: 256,
  /** Of one log line, characters. */
  maxLogLine: 4_096,
  /** Of all log lines of one call, characters. */
  maxLogCharacters: 65_536,
  /** Log lines kept of one function, the newest. */
  maxKeptLogLines: 1_000,
  /** Calls of one function that wait for an instance. */
  maxWaiting: 10_000,
  /** Longest time for code to load and say that it is ready, ms. */
  maxInitMs: 10_000,
  /** Workers of each kind (memory, isolation) that wait for code of any function. */
  warmWorkers: 4,
  /** Of all kinds. */
  maxWarmWorkers: 16,
  /** Workers that start at once: as many as processors, and at least so many. */
  startsAtOnce: 4,
  /** After instances were started, the workers that they took are replaced so much later, ms. */
  refillAfterMs: 25,
  /** What a function answers, bytes as they are sent; more is an error. */
  maxAnswerBytes: 6_291_456,
  /** Instances in one process, of all functions. */
  maxInstances: 1_000,
  /** Calls under way when the process stops are ended after this, ms. */
  drainMs: 500,
  /** Memory of a child process for other than what its function keeps, buffers included, MB: Node itself, twice. */
  processOverheadMb: 128,
  /** How often the memory of a child process is looked at, ms. */
  processMemoryMs: 100,
  /** Memory of a worker for other than the function's objects, MB: V8's code and young generation. */
  workerOverheadMb: 16,
} as const;

/** JavaScript functions that share workers (`isolation: shared`). */
export const sharedWorkerLimits = {
  /** Workers that are kept. */
  workers: 2,
  /** Of those that are started when the others are full or held up. */
  maxWorkers: 8,
  /** Instances in one worker. When all workers have so many, further ones get workers of their own. */
  maxInstances: 32,
  /** Heap of one worker, MB: of all that live there. */
  heapMb: 512,
  /** `memoryMb` of a function that may live there. */
  maxMemoryMb: 256,
  /** Instances that a worker loads before another takes its place: what a module was is never given back. */
  maxLoads: 1_000,
  /** The same in characters of code. 32 Mi. */
  maxLoadedCharacters: 33_554_432,
  /** Longest time for code to load, ms. */
  maxInitMs: 2_000,
  /** How often the worker of calls under way is looked at, ms. */
  watchMs: 20,
  /** A function that runs so long without a break no longer keeps calls behind it that have not begun: they go to another worker, ms. */
  heldUpMs: 50,
  /** A function that runs so long without a break gets a worker of its own, ms. */
  maxHoldMs: 1_000,
  /** A worker that does not answer so long after a call's deadline is ended, ms. */
  answerMs: 100,
} as const;

/** WebAssembly functions: their worker threads, and what a call may hand over. */
export const wasmFunctionLimits = {
  /** Worker threads that hold instances; more are started only while others are held up. Default: as many as processors, at most so many. */
  threads: 4,
  /** Of those that are started while others are held up by long calls. */
  maxThreads: 64,
  /** A call that has run so long no longer keeps other functions' calls behind it: they go to another thread, ms. */
  heldUpMs: 20,
  /** How often running calls are looked at, ms: a call is stopped at most so much late. */
  watchMs: 5,
  /** Memory of all instances of all functions of one process, bytes. */
  maxMemoryBytes: 8_589_934_592,
  /** A thread without instances gives their memory back after this, ms. */
  collectAfterMs: 1_000,
  /** Memory of instances that left a thread, bytes: so much is given back in the next pause, before the engine stops a start for it. 8 MiB. */
  collectAfterBytes: 8_388_608,
  /** A thread that was told nothing for so long has a pause, ms. */
  pauseMs: 20,
  /** Modules that one thread keeps ready beyond those it has instances of. */
  maxIdleCodes: 64,
} as const;

/** Timer triggers. */
export const timerLimits = {
  /** Missed runs of one timer that are made good; older ones are left out. */
  maxMissed: 100,
  /** A run that a process which is up begins later than this after its time counts as missed, ms: longer than a group takes to give a timer to another process. */
  graceMs: 30_000,
  /** Runs of one timer that wait for the one before. */
  maxQueued: 100,
  /** Longest sleep of a timer, ms: a clock that was set, or a machine that slept, is noticed then. */
  maxSleepMs: 60_000,
  /** How often a process asks whether a timer is its own, ms. */
  ownershipMs: 5_000,
  /** Longest wait for runs under way when stopping, ms; they are made again at the next start. */
  drainMs: 5_000,
  /** Tries of a run. */
  attempts: 3,
} as const;

/** Custom events. */
export const eventLimits = {
  /** An event that functions have handed on so many times is refused: they start each other in a circle. */
  maxDepth: 16,
  /** Ids of events handled last; one of them that comes again is not handled again. */
  maxRemembered: 10_000,
  /** Events handled at once by one process. */
  maxAtOnce: 64,
  /** Events published in the process that wait, and their memory, bytes. */
  maxWaiting: 10_000,
  maxWaitingBytes: 134_217_728,
  /** Attributes of one event. */
  maxAttributes: 64,
  /** Events in one HTTP request. */
  maxBatch: 1_000,
  /** Tries of one function with one event. */
  attempts: 3,
} as const;

/** Calls that nobody waits for, and tries of any call. */
export const asyncCallLimits = {
  /** Calls of all functions that have not ended. */
  maxPending: 10_000,
  /** Of one function. */
  maxPendingPerFunction: 5_000,
  /** Of one function that run at once, so that calls somebody waits for find room. */
  maxRunningPerFunction: 100,
  /** Memory of their inputs, bytes. */
  maxPendingBytes: 268_435_456,
  /** Ended calls whose result can be looked up, the newest; of their results, bytes; and for how long, ms. */
  maxKept: 10_000,
  maxKeptBytes: 134_217_728,
  keptMs: 3_600_000,
  /** Tries of a call, and how long it may take with all of them, ms: as AWS Lambda's. */
  attempts: 3,
  maxAgeMs: 21_600_000,
  /** First wait before another try, ms; doubles up to the second, with full jitter. */
  backoffMs: 1_000,
  maxBackoffMs: 60_000,
} as const;

/** Functions that are started before they are called. */
export const prewarmLimits = {
  /** Rates of calls are measured, and forecast, in steps of this, ms. */
  stepMs: 60_000,
  /** Forecasts up to so far ahead are looked at, ms: until the next ones come. */
  aheadMs: 600_000,
  /** An instance is ready so long before a timer is due, ms. */
  timerLeadMs: 10_000,
  /** And kept so long after, ms. */
  timerKeepMs: 60_000,
  /** What was learnt of when functions are called is written this often, ms: what a kill forgets. */
  saveEveryMs: 300_000,
} as const;

/** Usage records on their way to the topic, and their sums. */
export const usageLimits = {
  /** Records are written at least this often, ms: what a kill may lose without a journal. */
  flushMs: 200,
  /** Records in one write. */
  maxFlush: 1_000,
  /** Records that wait in memory; beyond it they wait in the journal, or, without one, are dropped, counted and reported. */
  maxWaiting: 50_000,
  /** Identities that are remembered to count each once: at most twice as many, the newest. 24 bytes each. */
  maxIdentities: 2_000_000,
  /** Sums are kept by the minute for this long, ms (two days), by the hour before. */
  minutesMs: 172_800_000,
  /** Hours of all functions whose sums are kept, the newest. */
  maxHours: 500_000,
  /** Usage is kept on the topic for this long, ms: 62 days. */
  retentionMs: 5_356_800_000,
} as const;

/** What stream and queue triggers hold, and how long they wait. */
export const streamTriggerLimits = {
  /** Records of one partition that are not finished or behind one that is not (or two batches, where those are more); beyond it no more are taken. */
  maxHeldRecords: 10_000,
  /** Their keys and values, bytes; or two batches. */
  maxHeldBytes: 33_554_432,
  /** First wait after an error that no record is at fault for, ms; it doubles. */
  stallMs: 50,
  /** The longest such wait, ms. */
  maxStallMs: 5_000,
  /** One record that a function returns, bytes: with headers it stays below the usual max.message.bytes of 1 MiB. */
  maxOutputBytes: 900_000,
  /** Headers of a record that are kept in its dead letter, bytes. */
  maxKeptHeaderBytes: 16_384,
  /** A partition whose records are not taken for so long is not fetched until there is room, ms: until then others of its broker wait with it. */
  roomWaitMs: 100,
  /** Offsets are committed at most this often, ms: what a kill repeats with at-least-once. */
  commitEveryMs: 250,
  /** A stopped trigger waits so long for its calls, ms; then they are cancelled and their records come again. */
  drainMs: 5_000,
  /** Ends of topics are asked for this often, ms: for lag. */
  lagEveryMs: 2_000,
  /** A new member waits so long for the group's leader to say where partitions begin, ms. */
  beginWaitMs: 5_000,
  /** A record that waits longer makes a trigger `behind`, ms. */
  behindMs: 10_000,
} as const;

/** What the HTTP port takes and keeps open for functions and their API. */
export const httpLimits = {
  /** Connections open at once; beyond it the one that has been idle longest is closed for a new one. 10,000 idle ones take about 100 MB. */
  maxConnections: 10_000,
  /** For a request's headers to be there, ms: a client that sends a byte a second is cut off. */
  headersTimeoutMs: 10_000,
  /** For all of a request to be there, ms. */
  requestTimeoutMs: 60_000,
  /** A connection without a request is closed after this, ms. */
  keepAliveMs: 30_000,
  /** How often the times above are looked at, ms. */
  checkEveryMs: 1_000,
  /** Headers of a request together, bytes. */
  maxHeaderBytes: 16_384,
  /** Bodies of all requests that are being read, bytes; beyond it further ones are answered 503. */
  maxBufferedBytes: 268_435_456,
  /** Body of a deployment, bytes: code of 64 MB in base64. */
  maxDeployBytes: 90_000_000,
  /** Body of a call through the API, bytes. */
  maxInvokeBytes: 6_291_456,
  /** Body of any other request to the API, bytes. */
  maxApiBytes: 65_536,
  /** What a client still sends after its request was refused is read and forgotten for so long, ms, for it to see why. */
  lingerMs: 500,
  /** An answer that its reader does not take for so long is cut off, ms. */
  stalledAnswerMs: 30_000,
} as const;

/** What a function may answer over HTTP. */
export const httpAnswerLimits = {
  /** Names and values of all headers, characters. */
  maxHeaderBytes: 16_384,
  /** Of a streamed answer, bytes that a function may be ahead of its reader. */
  streamWindowBytes: 262_144,
} as const;

/** What is kept of functions in their topic. */
export const functionDefinitionLimits = {
  /** Code of one version, bytes: every process holds it in memory. 32 MiB. */
  maxCodeBytes: 33_554_432,
  /** Of code in one record, bytes: below the usual max.message.bytes of 1 MiB. */
  chunkBytes: 524_288,
  /** All of a function but its code, as JSON, bytes. */
  maxRecordBytes: 900_000,
  /** Functions deployed; one more is refused. */
  maxFunctions: 10_000,
  /** Tries of a change while other processes change something too. */
  maxAttempts: 10,
} as const;

/** Definitions in a directory. */
export const functionDirectoryLimits = {
  /** The directory is looked at this often, ms. */
  pollMs: 500,
  /** Definitions in it; further ones are reported. */
  maxFiles: 1_000,
} as const;

/** How vendors' GPU tools are run. */
export const gpuToolLimits = {
  /** A run is ended after this, ms: a cold driver needs 1 to 3 s a GPU. */
  timeoutMs: 10_000,
  /** Between SIGTERM and SIGKILL, ms; and after SIGKILL until the process counts as stuck. */
  killGraceMs: 500,
  /** What is read of an answer, bytes: 16 GPUs as XML are 1 MB. Beyond it the tool is ended. */
  maxBytes: 8_388_608,
  /** Calls that wait while another of the same command runs; one more is refused. */
  maxWaiting: 8,
  /** A command that was not there is looked for again after this, ms. */
  missingRetryMs: 60_000,
  /** First wait after a failing tool, ms; it doubles. */
  backOffMs: 2_000,
  /** The longest such wait, ms. */
  maxBackOffMs: 60_000,
  /** Odd things told of one inventory; further ones are counted in the last line. */
  maxProblems: 20,
  /** Starts of JSON in an answer that turn out to be none, such as brackets in warnings, before the rest is given up. */
  maxFalseStarts: 200,
} as const;

/** What a value of a GPU can be; anything beyond is refused as `invalid`. */
export const gpuValueLimits = {
  /** Of one GPU or process, MiB: 4 TiB. Tools have reported 17 TB for 80 GB. */
  maxMemoryMb: 4_194_304,
  minTemperature: -50,
  /** °C. */
  maxTemperature: 250,
  /** W. */
  maxPower: 20_000,
  /** MHz; memory clocks as data rates included. */
  maxClock: 60_000,
  /** Per cent; the makers say it may pass 100. */
  maxFanPercent: 250,
  maxPid: 4_294_967_295,
  /** Index of a GPU, and instances of a partitioned one. */
  maxIndex: 65_535,
  /** Names, addresses and versions, characters. */
  maxText: 512,
  /** Processes kept a GPU. */
  maxProcesses: 4_096,
  /** GPUs of one machine; further ones are reported and left out. */
  maxGpus: 1_024,
} as const;

/** Watching GPUs and grading their health. */
export const gpuMonitorLimits = {
  /** Between two looks, ms. */
  everyMs: 1_000,
  /** Between two complete inventories (partitions, identity), ms. */
  fullEveryMs: 60_000,
  /** The kernel's log is read this often, ms. */
  kernelLogEveryMs: 10_000,
  /** An answer older than this is stale, ms. */
  staleAfterMs: 5_000,
  /** A sign that comes and goes has to be there for so long before it counts, ms: throttling. */
  raiseAfterMs: 3_000,
  /** And to be gone for so long before it is over, ms. */
  clearAfterMs: 30_000,
  /** A GPU that was lost has to answer for so long before it is trusted again, ms. */
  trustAfterMs: 10_000,
  /** After an Xid of a device fault, ms without another one, with the GPU answering and its driver asking for nothing. */
  xidClearAfterMs: 600_000,
  /** A lost GPU is kept in the inventory for so long, ms: a day. */
  forgetLostAfterMs: 86_400_000,
} as const;

/** Who holds which GPUs. */
export const gpuLedgerLimits = {
  /** Allocations and reservations at a time; one more is refused. */
  maxRecords: 100_000,
  /** A heartbeat makes an allocation last so long again unless it says otherwise, ms. */
  leaseMs: 60_000,
  /** Kinds of demand that are counted for placement; a further one takes the place of the oldest. */
  maxShapes: 512,
  /** Placement looks at what is asked for anew after so many allocations. */
  mixEvery: 256,
} as const;

/** Requests for GPUs, and who decides about them. */
export const gpuSchedulerLimits = {
  /** Names and ids, characters. */
  maxNameLength: 256,
  maxGpusPerRequest: 1_024,
  maxGangMembers: 1_024,
  /** Requests that wait at a time; a further one is refused at once. */
  maxWaiting: 10_000,
  /** A request waits at most so long, ms: a week. */
  maxWaitMs: 604_800_000,
  /** A reservation lasts at most so long, ms: a week. */
  maxReservationMs: 604_800_000,
  /** Requests that are decided on and written as one; that many more are taken in meanwhile. */
  maxBatch: 256,
  /** Heartbeats wait so long for others, ms, and are written together: each transaction costs as much. */
  heartbeatLingerMs: 200,
  /** Leases, waits and reservations are looked at this often, ms. */
  tickMs: 1_000,
  /** A refusal is kept in the topic for so long, ms. */
  keepRefusalMs: 600_000,
  /** GPUs whose reasons are told with a refusal that is written. */
  maxToldGpus: 64,
  /** An agent tells of its node at least this often, ms. */
  inventoryEveryMs: 5_000,
  /** A node whose agent was silent for so long takes nothing new, ms. */
  nodeSilentMs: 20_000,
  /** A node whose agent was silent for so long is forgotten, ms: a day. */
  forgetNodeMs: 86_400_000,
  /** Longest wait for a scheduler's answer beside the wait that was asked for, ms: a new scheduler begins when the old one's session is over. */
  answerMs: 30_000,
  /** Samples of one GPU and metric are published at most this often, ms. */
  metricsEveryMs: 5_000,
  /** Of the topics of inventory and allocations: about so much beside what stands is read when a process begins, bytes. */
  segmentBytes: 16_777_216,
} as const;

/** GPUs over HTTP: API, page and metrics. */
export const gpuHttpLimits = {
  /** GPUs whose reasons are told with a refusal; further ones are counted. */
  maxRefusals: 50,
  /** Moves that a plan may be asked for. */
  maxMoves: 1_000,
  /** GPUs on the page; further ones are counted, those with something to see first. About 500 bytes each go to every page as often as something changes. */
  maxShownGpus: 128,
  /** Tenants and partitions of one GPU on the page. */
  maxShownTenants: 16,
  maxShownPartitions: 16,
  /** Causes of a GPU's health on the page. */
  maxShownCauses: 4,
  /** Requests that wait on the page; further ones are counted. */
  maxShownWaiting: 50,
  /** GPUs in one answer to Prometheus, about 3 kB each; further ones are counted. */
  maxMetricGpus: 1_024,
} as const;
