// View: every worker of every host, what it runs and for how long.
const workersView = {
  title: "Workers",
  make(query) {
    this.query = query;
    const cell = render => (e, w) => render(e, w);
    this.grid = new Grid({
      label: "Workers", phone: '"who span" auto "runs runs" auto / minmax(0, 1fr) minmax(110px, 40%)',
      columns: [
        {name: "Worker", width: "minmax(150px, 1.1fr)", cell: cell((e, w) => { if (!e.firstChild) { e.append(h("i", {class: "dot"}), h("span", {})); e.style.gridArea = matchMedia("(max-width: 700px)").matches ? "who" : ""; } cls(e.children[0], "dot " + w.state.split(" ")[0]); text(e.children[1], `${w.pool}/${w.index}`); e.title = w.state; })},
        {name: "State", width: "88px", cls: "off dim", cell: (e, w) => text(e, w.state)},
        {name: "Runs", width: "minmax(180px, 2fr)", cell: (e, w) => { if (!e.firstChild) { e.append(h("span", {}), " ", h("span", {class: "mono faint"})); e.style.gridArea = matchMedia("(max-width: 700px)").matches ? "runs" : ""; } text(e.children[0], w.type || (matchMedia("(max-width: 700px)").matches ? w.state : "")); text(e.children[1], w.job || ""); e.title = w.job || ""; }},
        {name: "For", width: "minmax(150px, 1fr)", cell: (e, w) => this.span(e, w)},
        {name: "Queue", width: "minmax(80px, .7fr)", cls: "off", cell: (e, w) => text(e, w.queue || "")},
        {name: "Done", width: "70px", cls: "off num", cell: (e, w) => text(e, w.done === undefined ? "" : count(w.done))},
        {name: "Held", width: "48px", cls: "off num", cell: (e, w) => text(e, w.held || "")},
        {name: "Pid", width: "72px", cls: "off num dim", cell: (e, w) => text(e, w.pid || "")},
        {name: "Up", width: "64px", cls: "off num dim", cell: (e, w) => text(e, w.age === undefined || w.age === null ? "" : span(w.age))},
        {name: "Host", width: "minmax(90px, .8fr)", cls: "off dim", cell: (e, w) => text(e, w.host)},
      ],
    });
    this.filter = h("input", {class: "grow", type: "search", placeholder: "Filter by pool, type, job, host, queue   ( / )", value: query.get("q") || "", "aria-label": "Filter workers", oninput: () => { remember_query({q: this.filter.value}); this.draw(store.now); }});
    this.busy = h("input", {type: "checkbox", onchange: () => this.draw(store.now)});
    this.longest = h("input", {type: "checkbox", onchange: () => this.draw(store.now)});
    this.note = h("span", {class: "note"});
    this.pools = h("div", {class: "pools"});
    this.none = h("div", {class: "empty", hidden: true});
    this.grid.mount();
    return h("div", {}, h("section", {class: "card", "aria-label": "Pools"}, this.pools),
      h("div", {class: "tools"}, this.filter, h("label", {}, this.busy, "running only"), h("label", {}, this.longest, "longest first"), this.note),
      h("section", {class: "card"}, this.grid.element, this.none));
  },
  unmake() { this.grid.unmount(); },

  span(e, w) {
    if (!e.firstChild) {
      e.className = "span"; e.append(h("span", {}), h("div", {class: "gauge"}, h("i", {})));
      e.style.gridArea = matchMedia("(max-width: 700px)").matches ? "span" : "";
    }
    const [label, gauge] = e.children, share = w.limit ? w.seconds / w.limit : 0;
    text(label, w.seconds === undefined ? "" : span(w.seconds));
    gauge.hidden = !w.limit || w.seconds === undefined;
    cls(gauge, `gauge${share > 1 ? " bad" : share > 0.7 ? " warn" : ""}`);
    gauge.firstChild.style.width = Math.min(100, 100 * share) + "%";
    e.title = w.limit && w.seconds !== undefined ? `${span(w.seconds)} of at most ${span(w.limit)}` : "";
  },

  draw(now) {
    if (!now) return;
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = now.workers.filter(w => !this.busy.checked || w.seconds !== undefined);
    if (words.length) shown = shown.filter(w => { const all = `${w.pool}/${w.index} ${w.type || ""} ${w.job || ""} ${w.host} ${w.queue || ""} ${w.state} ${w.pid}`.toLowerCase(); return words.every(word => all.includes(word)); });
    if (this.longest.checked) shown = [...shown].sort((a, b) => (b.seconds ?? -1) - (a.seconds ?? -1));
    text(this.note, shown.length === now.workers_total ? plural(shown.length, "worker") : `${count(shown.length)} of ${plural(now.workers_total, "worker")}`);
    this.none.hidden = shown.length > 0;
    text(this.none, now.workers.length ? "No worker fits this filter." : "No worker is known.");
    this.grid.show(shown);
    this.drawPools(now);
  },

  drawPools(now) {
    const pools = Object.entries(now.busy);
    while (this.pools.children.length > pools.length) this.pools.lastChild.remove();
    pools.forEach(([name, busy], i) => {
      const e = this.pools.children[i] || this.pools.appendChild(h("div", {class: "pool"}, h("b", {}), h("span", {class: "dim"}), h("div", {class: "gauge", role: "img"}, h("i", {})), h("span", {})));
      const here = now.workers.filter(w => w.here && w.pool === name), running = here.filter(w => w.seconds !== undefined).length;
      text(e.children[0], name); text(e.children[1], `${running} of ${here.length} run`);
      cls(e.children[2], "gauge" + (busy > 0.95 ? " warn" : "")); e.children[2].firstChild.style.width = Math.round(100 * busy) + "%";
      e.children[2].setAttribute("aria-label", `busy ${Math.round(100 * busy)} %`);
      text(e.children[3], `${Math.round(100 * busy)} % busy`);
    });
  },
};
