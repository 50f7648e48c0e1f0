// View: this jqd, its last reload, Redis, and all hosts.
const systemView = {
  title: "System",
  make() {
    const card = (name, body) => h("section", {class: "card"}, h("h2", {}, name), body);
    this.jqd = h("div", {class: "pad"}); this.reload = h("div", {class: "pad"}); this.redis = h("div", {class: "pad"}); this.hosts = h("div", {});
    this.jqdBadge = h("span", {class: "badge"}); this.redisBadge = h("span", {class: "badge"}); this.reloadBadge = h("span", {class: "badge"});
    return h("div", {class: "cols"}, card(["This jqd ", this.jqdBadge], this.jqd), card(["Redis ", this.redisBadge], this.redis), card(["Last reload ", this.reloadBadge], this.reload), card("Hosts", this.hosts));
  },

  draw(now) {
    if (!now) return;
    this.drawJqd(now); this.drawReload(now); this.drawRedis(now); this.drawHosts(now);
  },

  put(e, key, ...children) { const k = JSON.stringify(key); if (e.drawn !== k) { e.drawn = k; e.replaceChildren(...children.flat(Infinity).filter(Boolean)); } },

  drawJqd(now) {
    const j = now.jqd;
    const ok = j && !now.wrong.length && j.ready >= j.desired && !j.draining;
    cls(this.jqdBadge, `badge ${ok ? "good" : "warn"}`); text(this.jqdBadge, !j ? "no word yet" : j.draining ? "draining" : ok ? "well" : now.wrong.length ? "needs attention" : `${j.ready}/${j.desired} ready`);
    if (!j) return;
    this.put(this.jqd, [j.ready, j.desired, j.generation, j.roles, j.restarts, now.wrong, store.hello && store.hello.version],
      facts([["Version", store.hello && store.hello.version], ["Host", store.hello && store.hello.hostname], ["Workers ready", `${j.ready} of ${j.desired}`], ["Generation", j.generation]]),
      h("div", {}, j.roles.map(role => [h("span", {class: `badge ${role.state === "ready" ? "good" : "warn"}`}, role.state === "ready" ? role.name : `${role.name} ${role.state}`), " "])),
      h("div", {}, h("h3", {}, "Workers that ended since jqd started"), j.restarts.length ? facts(j.restarts.map(([pool, cause, n]) => [`${pool}: ${cause}`, count(n)])) : h("p", {class: "dim"}, "none")),
      now.wrong.map(reason => h("p", {class: "bad"}, reason)));
  },

  drawReload(now) {
    const j = now.jqd, last = j && j.last_reload, minute = Math.floor(now.at / 10000);
    cls(this.reloadBadge, `badge ${!last ? "" : last.result === "ok" ? "good" : "bad"}`); text(this.reloadBadge, !last ? "none" : last.result === "ok" ? "ok" : last.result.replace("_", " "));
    this.put(this.reload, [last, j && j.reloads, minute], last
      ? [facts([["When", `${moment(last.at * 1000)}, ${ago(last.at * 1000)}`], ["Since the start", Object.entries(j.reloads).map(([result, n]) => `${n} ${result.replace("_", " ")}`).join(", ")]]), last.error && h("pre", {tabIndex: 0}, last.error), last.result !== "ok" && h("p", {class: "dim"}, "jqd goes on with the configuration and the code it had.")]
      : h("p", {class: "dim"}, "There was no reload since jqd started. Send SIGHUP (systemctl reload jqd) to take up a new configuration and new code."));
  },

  drawRedis(now) {
    const r = now.redis;
    cls(this.redisBadge, `badge ${now.error ? "bad" : "good"}`); text(this.redisBadge, now.error ? "not reachable" : "connected");
    if (!r) { this.put(this.redis, now.error, h("p", {class: "dim"}, now.error || "not asked yet")); return; }
    const full = r.maxmemory ? r.used_memory / r.maxmemory : 0;
    this.put(this.redis, [r, now.error], now.error && h("p", {class: "bad"}, now.error),
      facts([["Address", h("span", {class: "mono"}, r.where)], ["Server", r.name && `${r.name}, ${r.role}`], ["Up", r.uptime_in_seconds && span(r.uptime_in_seconds)], ["Round trip", `${r.round_trip_ms.toFixed(2)} ms`], ["Commands", r.instantaneous_ops_per_sec !== undefined && rate(r.instantaneous_ops_per_sec)], ["Clients", r.connected_clients],
        ["Memory", r.used_memory !== undefined && h("div", {class: "span"}, `${bytes(r.used_memory)} ${r.maxmemory ? `of ${bytes(r.maxmemory)}` : "(no maxmemory)"}`, r.maxmemory ? h("div", {class: `gauge${full > 0.9 ? " bad" : full > 0.75 ? " warn" : ""}`}, this.bar(full)) : "")],
        ["Append-only file", r.appendonly === undefined ? "" : r.write_error ? h("span", {class: "bad"}, "cannot be written") : r.appendonly ? "on" : h("span", {class: "warn"}, "off: a crash of Redis loses accepted jobs")],
        ["Eviction", r.policy && (r.policy === "noeviction" ? "never" : h("span", {class: "bad"}, `${r.policy}: removes jobs silently`))], ["Replicas", r.connected_slaves]]));
  },
  bar(share) { const i = h("i", {}); i.style.width = Math.min(100, share * 100) + "%"; return i; },

  drawHosts(now) {
    const rows = now.hosts.map(host => [host.id, host.hostname, host.master_pid, host.workers, host.here, Math.max(0, Math.round((serverNow() - host.at_ms) / 1000))]);
    this.put(this.hosts, rows, rows.length ? h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Host"), h("th", {class: "num"}, "Master"), h("th", {class: "num"}, "Workers"), h("th", {class: "num"}, "Last word"))),
      h("tbody", {}, rows.map(([id, name, pid, workers, here, age]) => h("tr", {title: id}, h("td", {}, name || id, " ", here && h("span", {class: "badge run"}, "this one")), h("td", {class: "num dim"}, pid || "–"), h("td", {class: "num"}, count(workers)), h("td", {class: `num ${age > 9 ? "warn" : "dim"}`}, `${span(age)} ago`)))))
      : h("p", {class: "empty"}, "No host with workers is known."));
  },
};
