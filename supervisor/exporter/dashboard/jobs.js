// Views: jobs that wait, are scheduled, or are dead: pages of them, filtered by the exporter, as many as one scrolls to.
const PHONES = '"type when" auto "main main" auto / minmax(0, 1fr) auto';
const area = (e, name) => { if (!e.placed) { e.placed = true; e.style.gridArea = matchMedia("(max-width: 700px)").matches ? name : ""; } return e; };

function jobsView(state) {
  const dead = state === "dead", ranked = dead || state === "scheduled";
  return {
    title: {dead: "Dead letters", scheduled: "Scheduled", pending: "Waiting"}[state],
    make(query) {
      this.picked = new Picked(() => this.tools());
      const columns = [
        dead && {name: "", width: "20px", cls: "pick off", head: () => "", cell: (e, j) => { if (!e.firstChild) e.append(h("input", {type: "checkbox", tabIndex: -1, "aria-label": "pick"})); e.firstChild.checked = this.picked.has(j); }},
        {name: {dead: "Died", scheduled: "Due", pending: "Enqueued"}[state], width: "84px", cls: "dim", cell: (e, j) => { const ms = j.at || j.enqueued_at; area(e, "when").title = ms ? moment(ms) : ""; text(e, !ms ? "–" : state === "scheduled" ? (ms <= serverNow() ? "now" : "in " + span((ms - serverNow()) / 1000)) : ago(ms)); }},
        {name: "Type", width: "minmax(130px, .9fr)", cell: (e, j) => { text(area(e, "type"), j.type || "(no type)"); e.title = j.id; }},
        dead || state === "scheduled" ? {name: dead ? "Error" : "Last error", width: "minmax(200px, 2.2fr)", cell: (e, j) => { if (!area(e, "main").firstChild) e.append(h("span", {class: "bad"}), h("span", {class: "dim"})); text(e.children[0], j.kind || ""); text(e.children[1], j.message ? " " + j.message : ""); e.title = j.message || ""; }} : null,
        {name: "Payload", width: "minmax(140px, 1.5fr)", cls: ranked ? "mono dim off" : "mono dim", cell: (e, j) => { text(area(e, "main"), j.payload); e.title = j.payload; }},
        {name: "Attempts", width: "64px", cls: "num off", cell: (e, j) => text(e, j.crashes ? `${j.attempt} +${j.crashes}✝` : j.attempt)},
        {name: "Queue", width: "minmax(70px, .6fr)", cls: "off dim", cell: (e, j) => text(e, j.queue)},
      ].filter(Boolean);
      this.grid = new Grid({label: this.title, phone: PHONES, columns, pick: dead ? this.picked : null, open: j => ranked ? openJob(j, () => this.load()) : openWaiting(j, () => this.load()), more: () => this.next()});
      this.jobs = []; this.seen = new Set(); this.cursor = null; this.loading = 0; this.counted = null;
      this.filter = h("input", {class: "grow mono", type: "search", spellcheck: false, autocomplete: "off", value: query.get("where") || "", placeholder: "type=email:welcome error~=timeout age>1h attempt>=3   ( / )", "aria-label": "Filter", onchange: () => this.load(), oninput: () => { clearTimeout(this.soon); this.soon = setTimeout(() => this.load(), 350); }});
      this.queue = h("select", {"aria-label": "Queue", onchange: () => this.load()});
      this.wanted = query.get("queue") || "";
      this.fault = h("div", {class: "fault", role: "alert", hidden: true});
      this.note = h("span", {class: "note"});
      this.changed = h("button", {class: "small", type: "button", hidden: true, onclick: () => this.load()}, "Changed: reload");
      this.buttons = h("span", {});
      this.none = h("div", {class: "empty", hidden: true});
      this.grid.mount();
      this.drawQueues(store.now);
      this.load();
      return h("div", {}, h("div", {class: "tools"}, this.filter, this.queue, this.note, this.changed, this.buttons, this.fault), h("section", {class: "card"}, this.grid.element, this.none));
    },
    unmake() { clearTimeout(this.soon); this.loading++; this.grid.unmount(); },

    get where() { return this.filter.value.trim(); },
    get total() { const queues = store.now ? store.now.queues : {}; return Object.entries(queues).reduce((n, [name, q]) => n + (!this.queue.value || name === this.queue.value ? q[state] : 0), 0); },

    drawQueues(now) {
      const names = now ? Object.keys(now.queues).sort() : [], options = ranked ? ["", ...names] : names;
      const wanted = this.queue.options.length ? this.queue.value : this.wanted;
      if (this.options === options.join("\n") || !now) return;
      this.options = options.join("\n");
      this.queue.replaceChildren(...options.map(name => h("option", {value: name}, name || "all queues")));
      const fullest = names.reduce((a, b) => !a || now.queues[b][state] > now.queues[a][state] ? b : a, "");
      this.queue.value = options.includes(wanted) && (wanted || ranked) ? wanted : ranked ? "" : fullest;
    },

    draw(now) {
      if (!now) return;
      const first = !this.options;
      this.drawQueues(now);
      if (first && !ranked) this.load();
      const total = this.total;
      if (this.counted !== null && total !== this.counted && !this.loading_now) {
        // What one looks at must not move under one's hand: only an untouched list follows by itself.
        const quiet = scrollY < 80 && !this.picked.size && this.grid.active < 1 && !document.querySelector("dialog[open]") && document.activeElement !== this.filter;
        if (quiet && performance.now() - (this.loaded || 0) > 2500) this.load(true);
        else if (!quiet) this.changed.hidden = false;
      }
      this.tools();
      this.grid.paint();
    },

    async load(quietly) {
      const mine = ++this.loading;
      clearTimeout(this.soon);
      remember_query({where: this.where, queue: this.queue.options.length ? this.queue.value : this.wanted});
      this.loading_now = true;
      this.fetching = null;
      try {
        if (!ranked && !this.queue.value) return;
        const page = await this.page("");
        if (mine !== this.loading) return;
        this.jobs = []; this.seen = new Set();
        if (!quietly) { this.grid.active = -1; this.picked.clear(); }
        this.fault.hidden = true; this.changed.hidden = true;
        this.counted = this.total; this.loaded = performance.now();
        this.take(page);
      } catch (error) { if (mine === this.loading) this.refused(error); }
      finally { if (mine === this.loading) this.loading_now = false; }
    },

    page(cursor) { return desk.get("/api/jobs", {state, queue: this.queue.options.length ? this.queue.value : this.wanted, where: this.where, cursor, limit: cursor ? 500 : 100}); },

    take(page) {
      for (const job of page.jobs) {
        const key = job.ref ? job.queue + job.ref : job.id || Symbol();
        if (!this.seen.has(key)) { this.seen.add(key); this.jobs.push(job); }
      }
      this.cursor = page.cursor;
      this.none.hidden = this.jobs.length > 0 || this.cursor !== null;
      this.none.replaceChildren(h("b", {}, this.where ? "Nothing fits this filter" : {dead: "No dead letters", scheduled: "Nothing is scheduled", pending: "Nothing waits"}[state]), this.where ? "" : {dead: "Jobs that used up their attempts would be here.", scheduled: "Delayed jobs and retries would be here.", pending: "This queue is empty."}[state]);
      this.tools();
      this.grid.show(this.jobs);
    },

    async next() {
      if (this.cursor === null || this.fetching || this.loading_now) return;
      const mine = this.loading, asked = this.fetching = this.cursor;
      try {
        const page = await this.page(asked);
        if (mine !== this.loading) return;
        this.fetching = null;
        this.take(page);
      } catch (error) { if (mine === this.loading) { this.fetching = null; this.cursor = null; this.refused(error); } }
    },

    refused(error) {
      this.none.hidden = error.code !== 401;
      this.fault.hidden = error.code === 401;
      if (error.code === 401) {
        this.jobs = []; this.grid.show([]); this.tools();
        const fields = desk.fields(this.tried ? "That token is not the one in http.token." : null);
        this.none.replaceChildren(h("b", {}, "Locked"), "Payloads are shown to those who have the token of this jqd.",
          h("br", {}), h("form", {onsubmit: e => { e.preventDefault(); this.tried = true; desk.save(fields.token.value, fields.by.value.trim()); this.load(); }}, fields.all, h("button", {class: "main", type: "submit"}, "Unlock")));
      } else text(this.fault, error.message.replace(/^--where, /, "Filter, "));
    },

    tools() {
      const more = this.cursor !== null, shown = this.jobs.length, total = this.total;
      const said = this.where ? `${count(shown)}${more ? "+" : ""} of ${count(total)} fit` : plural(total, "job");
      text(this.note, this.picked.size ? `${count(this.picked.size)} picked · ${said}` : said);
      const key = `${this.picked.size}|${Boolean(shown)}|${desk.possible}`;
      if (!dead || key === this.drawn) return;
      this.drawn = key;
      const some = this.picked.size > 0, what = some ? `${count(this.picked.size)} picked` : this.where ? "all that fit" : "all";
      this.buttons.replaceChildren(...(!desk.possible || !shown ? [] : [
        h("button", {type: "button", onclick: () => this.bulk("retry")}, `Retry ${what}…`), " ",
        h("button", {class: "danger", type: "button", onclick: () => this.bulk("drop")}, `Drop ${what}…`)]));
    },

    async bulk(action) {
      const chosen = [...this.picked.jobs.values()], order = chosen.length ? null : {all: true, where: this.where, queue: this.queue.value};
      const where = order ? `${this.where ? `all dead letters with ${this.where}` : "all dead letters"} of ${this.queue.value || "all queues"}` : plural(chosen.length, "dead letter");
      const words = action === "retry" ? "They go back into their queues with their attempts forgotten, and run as soon as workers are free." : "They are deleted for good. There is no way back.";
      if (!await confirmed(`${action === "retry" ? "Retry" : "Drop"} ${where}?`, words, action === "retry" ? "Retry" : "Drop", action === "drop")) return;
      await runBulk(action, order, chosen, this.total);
      this.load();
    },

    key(e) {
      if (e.key === "r" && dead && (this.picked.size || this.grid.items[this.grid.active])) {
        if (!this.picked.size) this.picked.toggle(this.grid.items[this.grid.active]);
        this.bulk("retry");
      } else if (e.key === "Escape" && this.picked.size) { this.picked.clear(); this.grid.paint(); }
    },
  };
}

class Picked {
  constructor(changed) { this.jobs = new Map(); this.changed = changed; }
  get size() { return this.jobs.size; }
  has(job) { return this.jobs.has(job.queue + job.ref); }
  toggle(job, all) {
    if (all && this.last) {
      const [a, b] = [all.indexOf(this.last), all.indexOf(job)].sort((x, y) => x - y);
      if (a >= 0) for (const one of all.slice(a, b + 1)) this.jobs.set(one.queue + one.ref, one);
    } else if (!this.jobs.delete(job.queue + job.ref)) this.jobs.set(job.queue + job.ref, job);
    this.last = job;
    this.changed();
  }
  clear() { this.jobs.clear(); this.last = null; this.changed(); }
}

async function runBulk(action, order, chosen, total) {
  const done = {jobs: 0, gone: 0, kept: []};
  let stopped = false;
  const bar = h("progress", {max: order ? Math.max(1, total) : chosen.length, value: 0}), said = h("p", {class: "dim"});
  const box = dialog("box", action === "retry" ? "Retrying" : "Dropping", [bar, said], [h("button", {type: "button", onclick: () => box.close()}, "Stop")], {onclose: () => { stopped = true; }});
  let cursor = "", at = 0, seen = 0;
  while (!stopped) {
    const part = order ? {...order, cursor} : {letters: chosen.slice(at, at + 100).map(j => [j.queue, j.ref])};
    const answer = await desk.act(action, part);
    if (!answer) break;
    done.jobs += answer.jobs; done.gone += answer.gone; done.kept.push(...answer.kept);
    at += 100; seen += answer.jobs + answer.gone + answer.kept.length; cursor = answer.cursor;
    bar.value = seen; text(said, `${count(done.jobs)} so far`);
    if (order ? cursor === null : at >= chosen.length) break;
  }
  box.close();
  const kept = done.kept.length ? `, ${count(done.kept.length)} kept: ${done.kept[0].why}` : "";
  toast(`${count(done.jobs)} ${action === "retry" ? "retried" : "dropped"}${done.gone ? `, ${count(done.gone)} were gone` : ""}${kept}`, Boolean(done.kept.length));
}
