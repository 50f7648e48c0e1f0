// The producer's side of BullMQ: as run.py.
const { Queue } = require("bullmq");
const url = new URL(process.env.BENCH_URL);
const queue = new Queue("bench", { connection: { host: url.hostname, port: Number(url.port) } });
const [action, text] = process.argv.slice(2);
const n = Number(text);
const options = { removeOnComplete: true };

async function main() {
  if (action !== "slow") await queue.add("noop", {}, options);
  const start = process.hrtime.bigint();
  if (action === "one") {
    for (let i = 1; i < n; i++) await queue.add("noop", {}, options);
  } else if (action === "many") {
    for (let first = 1; first < n; first += 10000) {
      const some = Math.min(10000, n - first);
      await queue.addBulk(Array.from({ length: some }, () => ({ name: "noop", data: {}, opts: options })));
    }
  } else if (action === "latency") {
    for (let i = 0; i < n; i++) {
      await queue.add("latency", { at: String(process.hrtime.bigint()) }, options);
      await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 20));
    }
  } else {
    await queue.add("slow", {}, options);
  }
  console.log(JSON.stringify({ seconds: Number(process.hrtime.bigint() - start) / 1e9 }));
  await queue.close();
}
main();
