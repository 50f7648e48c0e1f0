"""The page at `/`: what jqd is, where the numbers are, and the numbers, fetched from /stats every two seconds.

One constant, nothing fetched from elsewhere; whatever comes from a job or a queue's name is written as text, never as HTML.
"""

import base64
import hashlib

_SCRIPT = """
const cell = (tag, text) => { const e = document.createElement(tag); e.textContent = text; return e; };
const row = (tag, texts) => { const r = document.createElement("tr"); r.append(...texts.map(t => cell(tag, t))); return r; };
const states = ["pending", "scheduled", "processing", "dead"];
async function show() {
  const note = document.getElementById("note"), table = document.getElementById("queues");
  try {
    const answer = await fetch("/stats", {cache: "no-store"});
    const stats = await answer.json();
    if (!answer.ok) throw new Error(stats.error || answer.statusText);
    const rows = Object.entries(stats.queues || {}).map(([name, q]) =>
      row("td", [name, ...states.map(s => q[s] ?? 0), q.latency_seconds == null ? "" : q.latency_seconds.toFixed(2) + " s"]));
    table.replaceChildren(row("th", ["queue", ...states, "latency"]), ...rows);
    note.textContent = (stats.workers || []).length + " workers";
  } catch (error) { note.textContent = String(error.message || error); }
}
show(); setInterval(show, 2000);
"""

HTML = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>jqd</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color-scheme: light dark }}
table {{ border-collapse: collapse; width: 100% }} th, td {{ text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #8884 }}
th:first-child, td:first-child {{ text-align: left }}
</style>
<h1>jqd</h1>
<p>Runs background jobs from Redis lists and keeps their processes alive. This is the exporter of one host.</p>
<p><a href="/metrics">/metrics</a> · <a href="/stats">/stats</a> · <a href="/healthz">/healthz</a> · <a href="/livez">/livez</a></p>
<table id="queues"></table><p id="note">…</p>
<script>{_SCRIPT}</script></html>
"""

_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; script-src 'sha256-{_HASH}'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy: only this script, talking only to us."""
