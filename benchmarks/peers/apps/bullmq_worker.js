// BullMQ: one worker process, 50 jobs at once, finished jobs removed. What its jobs do is as in counting.py.
const fs = require("fs");
const path = require("path");
const { Worker } = require("bullmq");
const folder = process.env.BENCH_DIR;
const url = new URL(process.env.BENCH_URL);



// Python processes take slots from the beginning, these from the end.
const slot = 131071 - Number(process.argv[2]);
const counts = fs.openSync(path.join(folder, "counts"), "r+");
const word = Buffer.alloc(8);
let count = 0, waiting = false;
function flush() {
  waiting = false;
  word.writeBigUInt64LE(BigInt(count));
  fs.writeSync(counts, word, 0, 8, slot * 8);
}
const work = {
  noop() {
    count += 1;
    if (!waiting) { waiting = true; setTimeout(flush, 1); }
  },
  latency(job) {
    fs.appendFileSync(path.join(folder, "late"), `${process.hrtime.bigint() - BigInt(job.data.at)}\n`);
  },
  async slow() {
    fs.appendFileSync(path.join(folder, "slow"), `${process.pid} ${process.hrtime.bigint()}\n`);
    await new Promise((resolve) => setTimeout(resolve, 3000));
  },
};
const worker = new Worker("bench", async (job) => work[job.name](job), {
  connection: { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null },
  concurrency: 50,
  removeOnComplete: { count: 0 },
});
worker.on("error", (error) => console.error(error));
process.on("SIGTERM", () => worker.close(true).then(() => process.exit(0)));
