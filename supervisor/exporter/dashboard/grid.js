// A table of any length: only the rows that can be seen exist. Arrow keys move, Enter opens, x picks.
class Grid {
  constructor({columns, label, open, pick, phone, more}) {
    Object.assign(this, {columns, open, pick, more, items: [], rows: new Map(), active: -1});
    this.body = h("div", {class: "body", role: "rowgroup"});
    this.element = h("div", {class: "grid", role: "grid", "aria-label": label, tabIndex: 0, onkeydown: e => this.key(e)},
      h("div", {class: "r head", role: "row"}, columns.map(c => h("span", {class: c.cls || "", role: "columnheader"}, c.head ? c.head() : c.name))), this.body);
    this.element.style.setProperty("--cols", columns.map(c => c.width).join(" "));
    this.element.style.setProperty("--phone", phone);
    this.body.addEventListener("click", e => this.click(e));
    this.again = () => this.paint();
  }

  mount() { addEventListener("scroll", this.again, {passive: true}); addEventListener("resize", this.again); }
  unmount() { removeEventListener("scroll", this.again); removeEventListener("resize", this.again); }

  show(items) {
    this.items = items;
    this.element.setAttribute("aria-rowcount", items.length + 1);
    if (this.active >= items.length) this.active = items.length - 1;
    this.paint();
  }

  paint() {
    const height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) || 36;
    this.height = height;
    this.body.style.height = this.items.length * height + "px";
    const top = this.body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / height) - 6), last = Math.min(this.items.length, Math.ceil((innerHeight - top) / height) + 6);
    for (const [i, row] of this.rows) if (i < first || i >= last) { row.remove(); this.rows.delete(i); }
    for (let i = first; i < last; i++) {
      let row = this.rows.get(i);
      if (!row) {
        row = h("div", {class: "r", role: "row", id: `row-${i}`, "aria-rowindex": i + 2}, this.columns.map(c => h("span", {class: c.cls || "", role: "gridcell"})));
        row.at = i;
        row.style.transform = `translateY(${i * height}px)`;
        this.rows.set(i, row);
        this.body.append(row);
      }
      const item = this.items[i];
      this.columns.forEach((c, n) => c.cell(row.children[n], item));
      cls(row, `r${this.open ? " link" : ""}${i === this.active ? " active" : ""}${this.pick && this.pick.has(item) ? " picked" : ""}`);
    }
    if (this.more && last > this.items.length - 30) this.more();
  }

  click(e) {
    const row = e.target.closest(".r");
    if (!row || e.target.closest("button, a")) return;
    this.active = row.at;
    if (this.pick && e.target.closest(".pick")) this.pick.toggle(this.items[row.at], e.shiftKey ? this.items : null);
    else if (this.open && !String(getSelection())) this.open(this.items[row.at]);
    this.paint();
  }

  key(e) {
    if (e.target !== this.element || e.ctrlKey || e.metaKey || e.altKey) return;
    const page = Math.max(1, Math.floor(innerHeight / (this.height || 36)) - 4);
    const steps = {ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity};
    if (e.key in steps) this.move(Math.min(this.items.length - 1, Math.max(0, this.active + steps[e.key])));
    else if (e.key === "Enter" && this.open && this.items[this.active]) this.open(this.items[this.active]);
    else if ((e.key === "x" || e.key === " ") && this.pick && this.items[this.active]) this.pick.toggle(this.items[this.active]);
    else return;
    e.preventDefault();
    this.paint();
  }

  move(to) {
    this.active = to;
    const top = this.body.getBoundingClientRect().top + to * this.height, room = 90;
    if (top < room) scrollBy(0, top - room);
    else if (top + this.height > innerHeight - 10) scrollBy(0, top + this.height - innerHeight + 10);
    this.element.setAttribute("aria-activedescendant", `row-${to}`);
  }
}
