/**
 * Loads one server over keep-alive connections, each with one request at a time. `node http-load.mjs port path connections seconds idle`; one line of JSON.
 * Reads no more of an answer than where it ends, so that the client costs as little as may be.
 */
import { connect } from 'node:net';
import { quantile } from '../wasm/measure.mjs';

const [port, path, connections, seconds, idle] = process.argv.slice(2).map((one, i) => (i === 1 ? one : Number(one)));
const body = '{"a":19,"b":23}';
const request = Buffer.from(
  `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
);
const expected = '{"sum":42}';

const opened = (count, then) =>
  Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise((resolve, reject) => {
          const socket = connect({ port, host: '127.0.0.1', noDelay: true }, () => resolve(then(socket)));
          socket.once('error', reject);
        }),
    ),
  );

const waiting = idle > 0 ? await opened(idle, (socket) => socket) : [];
let counting = false;
let ending = false;
let done = 0;
let all = 0;
let wrong = 0;
const times = [];

const working = await opened(connections, (socket) => {
  let began = 0;
  let text = '';
  const ask = () => {
    began = performance.now();
    socket.write(request);
  };
  socket.on('data', (piece) => {
    text += piece.latin1Slice();
    const end = text.indexOf('\r\n\r\n');
    if (end < 0 || text.length < end + 4 + expected.length) return;
    if (!text.startsWith('HTTP/1.1 200') || !text.endsWith(expected)) wrong++;
    text = '';
    all++;
    if (counting) {
      done++;
      times.push(performance.now() - began);
    }
    if (!ending) ask();
  });
  socket.on('close', () => {
    if (!ending) wrong++;
  });
  ask();
  return socket;
});

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
await sleep(500 * Math.min(2, seconds));
counting = true;
const began = performance.now();
const cpu = process.cpuUsage();
await sleep(seconds * 1000);
counting = false;
const tookMs = performance.now() - began;
const { user, system } = process.cpuUsage(cpu);
ending = true;
for (const socket of [...waiting, ...working]) socket.destroy();
const rate = (done * 1000) / tookMs;
const clientCpu = (user + system) / 1000 / tookMs;
console.log(JSON.stringify({ rate, all, wrong, clientCpu, p50: quantile(times, 0.5), p99: quantile(times, 0.99) }));
process.exit();
