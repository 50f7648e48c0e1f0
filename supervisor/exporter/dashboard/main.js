// Which view is shown, by the address after #, and the keys that work everywhere.
const VIEWS = {queues: queuesView, workers: workersView, pending: jobsView("pending"), scheduled: jobsView("scheduled"), dead: jobsView("dead"), system: systemView};
const NAMES = {queues: "Queues", workers: "Workers", pending: "Waiting", scheduled: "Scheduled", dead: "Dead", system: "System"};
let view = null, listener = null, inSight = null;

function link(name, query) { const q = new URLSearchParams(Object.entries(query || {}).filter(([, value]) => value)); return `#/${name}${String(q) ? "?" + q : ""}`; }
function route() { const [name, query] = location.hash.replace(/^#\/?/, "").split("?"); return [name in VIEWS ? name : "queues", new URLSearchParams(query || "")]; }
function remember_query(query) { history.replaceState(null, "", link(route()[0], query)); }

function go() {
  const [name, query] = route();
  if (view && view.unmake) view.unmake();
  store.listeners.delete(listener);
  tip.hidden = true;
  view = VIEWS[name];
  document.title = `${view.title} · jqd`;
  $("main").replaceChildren(view.make(query));
  scrollTo(0, 0);
  listener = now => view.draw(now);
  store.listeners.add(listener);
  view.draw(store.now);
  for (const tab of $("tabs").children) {
    tab.dataset.name === name ? tab.setAttribute("aria-current", "page") : tab.removeAttribute("aria-current");
    if (tab.dataset.name === name) inSight = tab;
  }
}

function tabs() {
  $("tabs").replaceChildren(...Object.entries(NAMES).map(([name, shown], i) => h("a", {href: link(name), "data-name": name, title: `${shown} (${i + 1})`}, shown, h("span", {class: "n", hidden: true}))));
  store.listeners.add(now => {
    if (!now) return;
    const sum = state => Object.values(now.queues).reduce((n, q) => n + q[state], 0);
    const numbers = {workers: now.workers_total, pending: sum("pending"), scheduled: sum("scheduled"), dead: sum("dead")};
    for (const tab of $("tabs").children) {
      const n = numbers[tab.dataset.name], badge = tab.lastChild;
      badge.hidden = !n;
      text(badge, count(n || 0)); cls(badge, tab.dataset.name === "dead" ? "n bad" : "n");
    }
    // On a phone the tabs scroll; their width is known once their numbers are.
    if (inSight) { $("tabs").scrollLeft = inSight.offsetLeft - $("tabs").offsetLeft - ($("tabs").clientWidth - inSight.offsetWidth) / 2; inSight = null; }
    text($("hostname"), store.hello ? store.hello.hostname : "");
    if (Boolean(store.hello) && desk.shown !== desk.possible) { desk.shown = desk.possible; desk.show(); }
  });
}

const THEMES = {auto: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11", light: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9", dark: "M13 9.6A5.5 5.5 0 0 1 6.4 3a5.5 5.5 0 1 0 6.6 6.6z"};
const darkSystem = matchMedia("(prefers-color-scheme: dark)");
function theme(chosen) {
  if (chosen) try { localStorage.setItem("jqd.theme", chosen); } catch { /* not kept, then */ }
  let mode = chosen;
  if (!mode) try { mode = localStorage.getItem("jqd.theme"); } catch { mode = null; }
  if (!(mode in THEMES)) mode = "auto";
  document.documentElement.dataset.theme = mode === "auto" ? (darkSystem.matches ? "dark" : "light") : mode;
  const button = $("theme"), next = {auto: "light", light: "dark", dark: "auto"}[mode];
  button.title = `Colours: ${mode === "auto" ? "as the system" : mode}`;
  button.setAttribute("aria-label", button.title);
  button.replaceChildren(icon(THEMES[mode]));
  button.onclick = () => theme(next);
}

function help() {
  const keys = [["1 – 6", "views"], ["/", "filter"], ["↑ ↓  j k", "move"], ["Enter", "open"], ["x", "pick (Shift-click: a range)"], ["r", "retry what is picked"], ["Esc", "close, forget the picks"], ["t", "colours"], ["?", "this"]];
  dialog("box", "Keys", h("dl", {class: "facts"}, keys.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])));
}

addEventListener("keydown", e => {
  if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]")) return;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName) && e.target.type !== "checkbox";
  if (typing) { if (e.key === "Escape") e.target.blur(); return; }
  const n = Number(e.key);
  if (n >= 1 && n <= 6) location.hash = link(Object.keys(VIEWS)[n - 1]);
  else if (e.key === "/" && view.filter) { view.filter.focus(); view.filter.select(); e.preventDefault(); }
  else if (e.key === "?") help();
  else if (e.key === "t") $("theme").click();
  else if (view.grid && ["ArrowDown", "ArrowUp", "j", "k"].includes(e.key) && document.activeElement !== view.grid.element) { view.grid.element.focus({preventScroll: true}); view.grid.key({...e, key: e.key, target: view.grid.element, preventDefault: () => e.preventDefault()}); }
  else if (view.key) view.key(e);
});
addEventListener("hashchange", go);
darkSystem.addEventListener("change", () => theme());
document.body.append(tip);
$("help").onclick = help;
$("key").onclick = () => { if (desk.token) { desk.forget(); toast("The token is forgotten"); go(); } else desk.ask(); };
theme(); desk.show(); tabs(); go(); live.open();
