// View: all queues, each with four plots.
const PLOTS = [
  {name: "Waiting", kind: "", index: 0, show: count, least: 4},
  {name: "Latency", kind: "warn", index: 1, show: span, least: 0.1},
  {name: "Throughput", kind: "good", index: 2, show: rate, least: 1},
  {name: "Failures", kind: "bad", index: 3, show: rate, least: 0.2},
];

const queuesView = {
  title: "Queues",
  make() {
    this.tiles = {};
    this.cards = new Map();
    const tile = (id, name) => { const b = h("b", {}), em = h("em", {}); this.tiles[id] = {b, em}; return h("div", {class: "tile"}, h("small", {}, name), b, em); };
    this.list = h("div", {role: "rowgroup"});
    this.none = h("div", {class: "empty", hidden: true}, h("b", {}, "No queues yet"), "They appear with the first job, or when a pool of the configuration serves them.");
    return h("div", {},
      h("section", {class: "tiles", "aria-label": "Summary"}, tile("pending", "Waiting"), tile("busy", "Running"), tile("done", "Done"), tile("failed", "Failed runs"), tile("scheduled", "Scheduled"), tile("dead", "Dead"), tile("workers", "Workers")),
      h("section", {class: "card queues", role: "table", "aria-label": "Queues"},
        h("div", {class: "q head", role: "row"}, ["Queue", ...PLOTS.map(p => p.name), "Scheduled", "Dead", ""].map(name => h("span", {role: "columnheader"}, name))), this.list, this.none));
  },

  draw(now) {
    if (!now) return;
    const names = Object.keys(now.queues).sort(), past = store.history;
    const last = name => recent(past.queues[name] || []);
    this.none.hidden = names.length > 0;
    names.forEach((name, i) => {
      let card = this.cards.get(name);
      if (!card) this.cards.set(name, card = this.card(name));
      if (this.list.children[i] !== card.row) this.list.insertBefore(card.row, this.list.children[i] || null);
      this.fill(card, name, now.queues[name], last(name), past);
    });
    for (const [name, card] of this.cards) if (!now.queues[name]) { card.row.remove(); this.cards.delete(name); }
    const sum = f => names.reduce((n, name) => n + (f(now.queues[name], last(name)) || 0), 0), known = names.some(name => last(name).done !== null);
    const busy = now.workers.filter(w => w.seconds !== undefined).length;
    const set = (id, value, more) => { text(this.tiles[id].b, value); text(this.tiles[id].em, more || ""); };
    set("pending", count(sum(q => q.pending)), this.oldest(now, names));
    set("busy", count(busy), "");
    set("done", known ? rate(sum((_, p) => p.done)) : "–");
    const failed = sum((_, p) => p.failed), all = failed + sum((_, p) => p.done);
    set("failed", known ? rate(failed) : "–", known && failed ? (100 * failed / all).toFixed(failed / all < 0.1 ? 1 : 0) + " %" : "");
    set("scheduled", count(sum(q => q.scheduled)));
    set("dead", count(sum(q => q.dead)));
    this.tiles.dead.b.className = sum(q => q.dead) ? "bad" : "";
    this.tiles.failed.b.className = failed ? "bad" : "";
    set("workers", count(now.workers_total), now.jqd ? `${now.jqd.ready}/${now.jqd.desired} ready here` : "");
  },

  oldest(now, names) {
    const ages = names.map(name => now.queues[name].pending ? now.queues[name].latency_seconds : null).filter(s => s !== null);
    return ages.length ? `oldest ${span(Math.max(...ages))}` : "";
  },

  card(name) {
    const c = {plots: PLOTS.map(p => new Plot(p.kind, p.show, p.least)), values: PLOTS.map(() => h("b", {}))};
    c.paused = h("span", {class: "badge warn cut", hidden: true}); c.broken = h("span", {class: "badge bad cut", hidden: true});
    c.serving = h("span", {class: "dim cut"});
    c.scheduled = h("a", {href: link("scheduled", {queue: name})}); c.dead = h("a", {href: link("dead", {queue: name})});
    c.act = h("button", {class: "small", type: "button", onclick: () => c.isPaused ? resumeQueue(name) : pauseQueue(name)});
    const cell = (...inner) => h("div", {role: "cell", ...inner.shift()}, ...inner);
    c.row = h("div", {class: "q", role: "row"},
      cell({class: "name"}, h("a", {href: link("pending", {queue: name}), class: "cut", title: "Jobs that wait"}, name), h("div", {class: "row"}, c.paused, c.broken, c.serving)),
      PLOTS.map((p, i) => cell({class: "metric"}, c.values[i], h("span", {}, p.name), c.plots[i].svg)),
      cell({class: "num count", "data-label": "Scheduled"}, c.scheduled), cell({class: "num count", "data-label": "Dead"}, c.dead), cell({class: "acts"}, c.act));
    return c;
  },

  fill(c, name, q, point, past) {
    const points = past.queues[name] || [], live = [q.pending, q.pending ? q.latency_seconds : 0, point.done, point.failed];
    PLOTS.forEach((p, i) => {
      text(c.values[i], i === 1 && !q.pending ? "–" : p.show(live[i]));
      cls(c.values[i], live[i] ? (i === 3 ? "bad" : "") : "zero");
      c.plots[i].update(points.map(point => point[p.index]), past.at, `${name}, ${p.name}`);
    });
    c.isPaused = q.paused !== null;
    c.paused.hidden = !c.isPaused; text(c.paused, q.paused ? `paused: ${q.paused}` : "paused"); c.paused.title = q.paused || "";
    c.broken.hidden = !q.broken; text(c.broken, q.broken || "");
    text(c.serving, q.processing ? `${count(q.processing)} processing` : ""); c.serving.hidden = !q.processing;
    text(c.scheduled, count(q.scheduled)); cls(c.scheduled, q.scheduled ? "" : "faint");
    text(c.dead, count(q.dead)); cls(c.dead, q.dead ? "bad" : "faint");
    c.act.hidden = !desk.possible;
    text(c.act, c.isPaused ? "Resume" : "Pause");
    c.act.setAttribute("aria-label", `${c.isPaused ? "Resume" : "Pause"} ${name}`);
  },
};

// Rates as numbers: of the last 15 s, and of the last minute for failures, which are rare.
function recent(points) {
  const mean = (i, n) => { const known = points.slice(-n).map(p => p[i]).filter(v => v !== null); return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null; };
  return {done: mean(2, 3), failed: mean(3, 12)};
}

async function pauseQueue(name) {
  const reason = h("input", {placeholder: "shown to everybody", maxLength: 200});
  if (!await confirmed(`Pause ${name}?`, "No worker takes jobs of this queue from now on, on any host. What runs finishes; what is enqueued waits.", "Pause", false, h("label", {class: "f"}, h("span", {}, "Reason"), reason))) return;
  if (await desk.act("pause", {queue: name, reason: reason.value.trim()})) toast(`${name} is paused`);
}
async function resumeQueue(name) { if (await desk.act("resume", {queue: name})) toast(`${name} is resumed`); }
