// The live picture: one stream of events, what it last said, and how old that is.
const store = {hello: null, now: null, history: {at: [], queues: {}}, received: 0, offset: 0, listeners: new Set()};
const STALE = 4000;
const serverNow = () => Date.now() + store.offset;

const live = {
  source: null,
  open() {
    this.source = new EventSource("/api/live");
    this.source.addEventListener("hello", e => {
      const hello = JSON.parse(e.data);
      if (store.hello && store.hello.version !== hello.version) location.reload();
      store.hello = hello;
      store.history = hello.history;
    });
    this.source.addEventListener("now", e => {
      const now = JSON.parse(e.data);
      store.now = now; store.received = performance.now(); follow(now.at - Date.now());
      if (now.point) remember(now.point);
      draw();
    });
    this.source.onerror = () => {
      // A refusal (too many watch) is final for an EventSource; a cut is not.
      if (this.source.readyState === EventSource.CLOSED) setTimeout(() => this.open(), 5000);
      draw();
    };
  },
};

// The exporter's clock against ours: the event that came quickest tells it best.
function follow(offset) { store.offset = store.synced && offset < store.offset ? store.offset + (offset - store.offset) * 0.02 : offset; store.synced = true; }

function remember(point) {
  const past = store.history;
  if (past.at.length && past.at[past.at.length - 1] >= point.at) return;
  const before = past.at.length;
  past.at.push(point.at);
  for (const name of Object.keys(point.queues)) past.queues[name] ??= Array(before).fill([null, null, null, null]);
  for (const [name, points] of Object.entries(past.queues)) points.push(point.queues[name] || [null, null, null, null]);
  if (past.at.length > (past.kept || 180)) {
    past.at.shift();
    for (const points of Object.values(past.queues)) points.shift();
  }
}

function draw() {
  showPulse();
  for (const listener of store.listeners) listener(store.now);
}

function showPulse() {
  const now = store.now, age = now ? performance.now() - store.received : 0;
  const stale = !now ? performance.now() > STALE : age > STALE;
  document.documentElement.classList.toggle("stale", stale && Boolean(now));
  const trouble = [];
  if (stale) trouble.push(now ? `Not live: nothing heard from the exporter for ${span(age / 1000)}. What you see is from ${moment(now.at)}. Trying again.` : "No answer from the exporter yet. Trying again.");
  else if (now) {
    if (now.error) trouble.push(now.age === null ? `Redis: ${now.error}` : `Redis: ${now.error}. Numbers of queues are ${span(now.age)} old.`);
    if (now.jqd && now.jqd.draining) trouble.push("This jqd is draining: it finishes what runs and takes no new jobs.");
    trouble.push(...now.wrong);
  }
  const banner = $("banner");
  banner.hidden = !trouble.length;
  text(banner, trouble.join(" · "));
  cls(banner, stale || (now && now.error) ? "banner bad" : "banner");
  cls($("pulse"), "pulse " + (!now && !stale ? "" : stale ? "off" : now.error ? "late" : "on"));
  text($("pulse"), !now && !stale ? "connecting" : stale ? "stale" : now.error ? "Redis down" : "live");
}
setInterval(showPulse, 500);
