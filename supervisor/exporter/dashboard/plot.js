// One small plot: the last quarter of an hour of one number. A gap in the data is a gap in the line.
const tip = h("div", {class: "tip", hidden: true});

class Plot {
  constructor(kind, show, least) {
    this.show = show; this.least = least;
    this.area = h("path", {class: "area"}); this.line = h("path", {class: "line"});
    this.svg = h("svg", {class: `plot ${kind}`, viewBox: "0 0 180 30", preserveAspectRatio: "none", role: "img"},
      h("line", {class: "base", x1: 0, x2: 180, y1: 29.5, y2: 29.5}), this.area, this.line);
    this.kind = kind; this.values = [];
    this.svg.addEventListener("pointermove", e => this.point(e));
    this.svg.addEventListener("pointerleave", () => { tip.hidden = true; });
  }

  update(values, at, label) {
    this.values = values; this.at = at;
    const known = values.filter(v => v !== null), top = Math.max(this.least, ...known) * 1.06;
    const x = i => (180 - (values.length - 1 - i)).toFixed(1), y = v => (29.5 - v / top * 28).toFixed(1);
    let line = "", area = "", open = -1;
    for (let i = 0; i <= values.length; i++) {
      const v = i < values.length ? values[i] : null;
      if (v === null || v === undefined) {
        if (open >= 0) area += `L${x(i - 1)} 29.5Z`;
        open = -1;
      } else {
        if (open < 0) { line += `M${x(i)} ${y(v)}`; area += `M${x(i)} 29.5L${x(i)} ${y(v)}`; open = i; }
        else { line += `L${x(i)} ${y(v)}`; area += `L${x(i)} ${y(v)}`; }
      }
    }
    if (line !== this.drawn) {
      this.drawn = line;
      this.line.setAttribute("d", line); this.area.setAttribute("d", area);
      this.svg.setAttribute("class", `plot ${this.kind}${known.some(v => v > 0) ? "" : " flat"}`);
      this.svg.setAttribute("aria-label", known.length ? `${label}: now ${this.show(known[known.length - 1])}, at most ${this.show(Math.max(...known))}` : `${label}: no data yet`);
    }
  }

  point(e) {
    const box = this.svg.getBoundingClientRect();
    const i = this.values.length - 1 - Math.round((1 - (e.clientX - box.left) / box.width) * 180);
    const v = this.values[i];
    tip.hidden = v === null || v === undefined;
    if (tip.hidden) return;
    text(tip, `${this.show(v)} · ${ago(this.at[i])}`);
    tip.style.left = Math.min(Math.max(e.clientX, 70), innerWidth - 70) + "px";
    tip.style.top = box.top + "px";
  }
}
