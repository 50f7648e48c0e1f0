// Elements and words. Whatever comes from a job is put into the page as text; nothing is ever parsed as HTML.
const $ = id => document.getElementById(id);

function h(tag, props, ...children) {
  const svg = tag === "svg" || tag === "path" || tag === "line";
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (name === "class") e.setAttribute("class", value);
    else if (name in e && !svg && name !== "list") e[name] = value;
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false));
  return e;
}

const text = (e, value) => { const s = String(value ?? ""); if (e.textContent !== s) e.textContent = s; return e; };
const cls = (e, name) => { if (e.className !== name) e.className = name; return e; };
const icon = (...paths) => h("svg", {viewBox: "0 0 16 16", "aria-hidden": "true"}, ...paths.map(d => h("path", {d})));

const whole = new Intl.NumberFormat("en-US");
function count(n) {
  if (n === null || n === undefined) return "–";
  if (Math.abs(n) < 1e6) return whole.format(Math.round(n));
  return n < 1e9 ? (n / 1e6).toFixed(n < 1e7 ? 2 : 1) + " M" : (n / 1e9).toFixed(2) + " G";
}
function rate(n) { return n === null || n === undefined ? "–" : n === 0 ? "0/s" : n < 10 ? n.toFixed(n < 1 ? 2 : 1) + "/s" : count(n) + "/s"; }
function span(s) {
  if (s === null || s === undefined) return "–";
  if (s < 0) s = 0;
  if (s < 1) return Math.round(s * 1000) + " ms";
  if (s < 10) return s.toFixed(1) + " s";
  if (s < 100) return Math.round(s) + " s";
  if (s < 5400) return (s / 60).toFixed(s < 600 ? 1 : 0) + " min";
  if (s < 129600) return (s / 3600).toFixed(s < 36000 ? 1 : 0) + " h";
  return (s / 86400).toFixed(s < 864000 ? 1 : 0) + " d";
}
function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (n >= 1000 && i < 4) { n /= 1000; i++; }
  return (n >= 100 || i === 0 ? Math.round(n) : n.toFixed(1)) + " " + units[i];
}
const pad = n => String(n).padStart(2, "0");
function moment(ms) {
  const d = new Date(ms);
  return Number.isNaN(d.getTime()) ? "–" : `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}
const ago = ms => span((serverNow() - ms) / 1000) + " ago";
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many || one + "s"}`;

function toast(message, bad) {
  const e = h("div", {class: bad ? "toast bad" : "toast"}, message);
  $("toasts").append(e);
  setTimeout(() => e.remove(), bad ? 9000 : 4500);
}

function dialog(kind, title, body, buttons, options = {}) {
  const close = h("button", {class: "icon", type: "button", title: "Close (Esc)", "aria-label": "Close", onclick: () => box.close()}, "✕");
  const box = h("dialog", {class: kind, "aria-label": options.label || (typeof title === "string" ? title : "")},
    h(options.onsubmit ? "form" : "div", {class: "in", method: "dialog", onsubmit: options.onsubmit && (e => { e.preventDefault(); options.onsubmit(box); })},
      h("header", {}, h("h2", {}, title), close), h("div", {class: "text"}, body), buttons && buttons.length ? h("footer", {}, buttons) : null));
  box.addEventListener("close", () => { box.remove(); options.onclose && options.onclose(); });
  box.addEventListener("click", e => { if (e.target === box) box.close(); });
  document.body.append(box);
  box.showModal();
  return box;
}
