import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** Puts an `nvidia-smi` of a machine with three GPUs into a folder; it answers from captures in its own format. */
export function fakeNvidiaSmi(folder: string): void {
  const fixtures = path.resolve('test/fixtures/gpu');
  const script = `#!/bin/sh
case "$1" in
  --help-query-gpu) exec cat ${fixtures}/nvidia-help.txt;;
  --query-gpu=*) exec cat ${fixtures}/nvidia-query.csv;;
  --query-compute-apps=*) echo "gpu_uuid, pid, used_gpu_memory [MiB], process_name"
    echo "GPU-1a2b3c4d-0002-4000-8000-00000000000b, 7, 512 MiB, python train.py";;
esac
`;
  const file = path.join(folder, 'nvidia-smi');
  writeFileSync(file, script);
  chmodSync(file, 0o755);
}
