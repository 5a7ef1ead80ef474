// Adds up the test runner's own counts from its JSON reports, after what failed and why; fails when nothing ran or something failed.
import { readdirSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';

/** Of a failure's message: its first lines are what was expected, the rest is where. */
const toldLines = 12;
const escapes = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');

function tell(file, test, message = '') {
  const lines = message.replace(escapes, '').split('\n').slice(0, toldLines);
  console.log(`FAILED ${relative(process.cwd(), file)}: ${test}\n${lines.map((line) => `  ${line}`).join('\n')}`);
}

const folder = process.argv[2];
let passed = 0;
let failed = 0;
let skipped = 0;
for (const name of readdirSync(folder)) {
  const report = JSON.parse(readFileSync(`${folder}/${name}`, 'utf8'));
  passed += report.numPassedTests;
  failed += report.numFailedTests;
  skipped += report.numPendingTests + report.numTodoTests;
  for (const suite of report.testResults) {
    if (suite.status === 'failed' && suite.assertionResults.length === 0) {
      failed += 1;
      tell(suite.name, 'the file itself', suite.message);
    }
    for (const test of suite.assertionResults) {
      if (test.status === 'failed') tell(suite.name, test.fullName, test.failureMessages[0]);
    }
  }
}
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(passed === 0 || failed > 0 ? 1 : 0);
