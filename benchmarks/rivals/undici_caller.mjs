// Node's undici in the place of http_callers.py: the same plan on standard input, the same result.
// The package is taken from the folder that NODE_PATH names.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const { Agent, request } = createRequire(import.meta.url)(process.env.NODE_PATH + "/undici");
const plan = JSON.parse(readFileSync(0));
const ca = plan.authority ? readFileSync(plan.authority) : undefined;
const dispatcher = new Agent({ connect: { ca }, pipelining: 1, keepAliveTimeout: 60_000 });
const body = Buffer.from('{"id":"evt_","type":"bench.t1","data":{"text":"' + "x".repeat(350) + '"}}');
const headers = {
  "Content-Type": "application/json", "User-Agent": "benchmark", Accept: "*/*", "Accept-Encoding": "identity",
  "webhook-id": "evt_0191f0f0f0f0f0f0", "webhook-timestamp": "1764000000",
  "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=", "X-Webhook-Event": "bench.t1",
};
let next = 0;
async function call(url) {
  const answer = await request(url, { method: "POST", body, headers, dispatcher });
  if (answer.statusCode !== 200) throw new Error(String(answer.statusCode));
  await answer.body.dump();
}
async function warmUp(some) { for (const url of some) await call(url); }
async function work(until) {
  let done = 0;
  while (performance.now() < until) { await call(plan.urls[next++ % plan.urls.length]); done += 1; }
  return done;
}
const ticks = 100; // a second, as /proc counts on every Linux that is in use
function serverSeconds() {
  const fields = readFileSync(`/proc/${plan.server}/stat`, "utf8").replace(/.*\) /s, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticks;
}
const once = plan.urls.values();
await Promise.all(Array.from({ length: 16 }, () => warmUp(once)));
let result;
for (const seconds of [plan.seconds / 4, plan.seconds]) {
  const began = performance.now(), cpu = process.cpuUsage(), server = serverSeconds();
  const counts = await Promise.all(
    Array.from({ length: plan.concurrency }, () => work(began + seconds * 1000)),
  );
  const used = process.cpuUsage(cpu);
  result = {
    requests: counts.reduce((a, b) => a + b), seconds: (performance.now() - began) / 1000,
    cpu_seconds: (used.user + used.system) / 1e6, server_seconds: serverSeconds() - server,
  };
}
console.log(JSON.stringify(result));
process.exit(0);
