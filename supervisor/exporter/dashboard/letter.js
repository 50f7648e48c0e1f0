// One job in full, at the side of the page: error, traceback, payload; and what can be done with it.
function facts(pairs) {
  return h("dl", {class: "facts"}, pairs.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== 0).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function indented(payload) { try { return JSON.stringify(JSON.parse(payload), null, 2); } catch { return payload; } }
// Numbers that JSON.parse would round, and repeated keys, must survive an edit: such a payload is shown as it is.
function faithful(payload) {
  try { const squeeze = s => s.replace(/\s+/g, ""); return squeeze(JSON.stringify(JSON.parse(payload))) === squeeze(payload) ? indented(payload) : payload; } catch { return payload; }
}

function copy(what) { return h("button", {class: "small", type: "button", onclick: async () => { try { await navigator.clipboard.writeText(what); toast("Copied"); } catch { toast("The browser does not allow copying here.", true); } }}, "Copy"); }

async function openJob(row, reload) {
  let job;
  try { job = await desk.get("/api/job", {state: row.state, queue: row.queue, ref: row.ref}); }
  catch (error) { toast(error.code === 404 ? "It is not there any more." : error.message, true); if (error.code === 404) reload(); return; }
  const dead = job.state === "dead", error = job.error, payload = job.json ? faithful(job.payload) : job.payload;
  const done = box => { box.close(); reload(); };
  const one = (action, message) => async e => {
    const box = e.target.closest("dialog");
    if (action === "drop" && !await confirmed("Drop this dead letter?", "It is deleted for good.", "Drop", true)) return;
    const answer = await desk.act(action, {letters: [[job.queue, job.ref]]});
    if (!answer) return;
    toast(answer.jobs ? message : answer.kept.length ? answer.kept[0].why : "It is not there any more.", !answer.jobs);
    done(box);
  };
  const buttons = !desk.possible ? [h("span", {class: "dim left"}, "Actions are off: set http.token")] : dead
    ? [h("button", {class: "danger left", type: "button", onclick: one("drop", "Dropped")}, "Drop"), job.editable && h("button", {type: "button", onclick: e => { e.target.closest("dialog").close(); editJob(job, payload, reload); }}, "Edit payload…"), h("button", {class: "main", type: "button", onclick: one("retry", "Retried")}, "Retry")]
    : [h("button", {class: "danger left", type: "button", onclick: async e => { const box = e.target.closest("dialog"); if (await cancelJob(job)) done(box); }}, "Cancel job"),
      h("button", {class: "main", type: "button", onclick: async e => { const box = e.target.closest("dialog"); const answer = await desk.act("promote", {queue: job.queue, ref: job.ref}); if (answer) { toast(answer.jobs ? "It runs as soon as a worker is free" : "It is not scheduled any more", !answer.jobs); done(box); } }}, "Run now")];
  dialog("side", [job.type || "(no type)", " ", h("span", {class: dead ? "badge bad" : "badge"}, dead ? "dead" : "scheduled")], [
    error ? h("div", {class: "oops"}, h("b", {}, error.kind || "Error"), error.message) : job.message && h("div", {class: "oops"}, h("b", {}, job.kind), job.message),
    facts([["Id", h("span", {class: "mono"}, job.id || "–")], ["Queue", job.queue], [dead ? "Died" : "Due", dead ? `${moment(job.at)}, ${ago(job.at)}` : moment(job.at)], ["Enqueued", job.enqueued_at && `${moment(job.enqueued_at)}, ${ago(job.enqueued_at)}`],
      ["Attempts", job.attempt && `${job.attempt}${job.max_attempts ? ` of ${job.max_attempts}` : ""}`], ["Crashes", job.crashes], ["Unique key", job.unique], ["Time limit", job.time_limit && span(job.time_limit)], ["Expires", job.expires_at && moment(job.expires_at)],
      ["Headers", Object.keys(job.headers || {}).length && Object.entries(job.headers).map(([k, v]) => h("div", {class: "mono"}, `${k}: ${v}`))], ["Size", bytes(job.bytes)]]),
    error && error.causes && h("div", {}, h("h3", {}, "Earlier crashes"), h("pre", {}, error.causes.join("\n"))),
    error && error.traceback && h("div", {}, h("h3", {}, "Traceback", copy(error.traceback)), h("pre", {class: "trace", tabIndex: 0}, error.traceback)),
    h("div", {}, h("h3", {}, job.json ? "Payload" : "Payload (raw)", copy(job.payload)), h("pre", {tabIndex: 0}, payload)),
  ].filter(Boolean), buttons.filter(Boolean), {label: `${job.type} ${job.id}`});
}

function openWaiting(job, reload) {
  dialog("side", [job.type || "(no type)", " ", h("span", {class: "badge"}, "waiting")], [
    job.message && h("div", {class: "oops"}, h("b", {}, job.kind), job.message),
    facts([["Id", h("span", {class: "mono"}, job.id || "none: it was pushed without one")], ["Queue", job.queue], ["Enqueued", job.enqueued_at && `${moment(job.enqueued_at)}, ${ago(job.enqueued_at)}`], ["Attempts", job.attempt], ["Crashes", job.crashes]]),
    h("div", {}, h("h3", {}, "Payload"), h("pre", {tabIndex: 0}, indented(job.payload))),
  ].filter(Boolean), !desk.possible || !job.id ? [] : [h("button", {class: "danger left", type: "button", onclick: async e => { const box = e.target.closest("dialog"); if (await cancelJob(job)) { box.close(); reload(); } }}, "Cancel job")]);
}

async function cancelJob(job) {
  if (!await confirmed("Cancel this job?", "It does not run any more. If a worker has it already it finishes, but is not repeated.", "Cancel job", true)) return false;
  const answer = await desk.act("cancel", {queue: job.queue, id: job.id});
  if (answer) toast({cancelled: "Cancelled", marked: "A worker has it: it is dropped if it is ever claimed again", dead: "It is dead already"}[answer.result] || answer.result, answer.result === "dead");
  return Boolean(answer);
}

function editJob(job, payload, reload) {
  const area = h("textarea", {value: payload, rows: Math.min(26, Math.max(8, payload.split("\n").length + 1)), spellcheck: false, "aria-label": "Payload"});
  const fault = h("p", {class: "bad", role: "alert"});
  const check = () => {
    let wrong = "";
    if (job.json) try { JSON.parse(area.value); } catch (error) { wrong = error.message; }
    text(fault, wrong);
    for (const button of buttons) button.disabled = Boolean(wrong);
    return !wrong;
  };
  const save = retry => async e => {
    const box = e.target.closest("dialog");
    if (!check()) return;
    const answer = await desk.act("edit", {queue: job.queue, ref: job.ref, payload: area.value, retry});
    if (!answer) return;
    toast(answer.gone ? "It is not there any more." : answer.retried ? "Saved and retried" : retry ? answer.kept[0].why : "Saved", Boolean(answer.gone || retry && !answer.retried));
    box.close(); reload();
  };
  const buttons = [h("button", {type: "button", onclick: save(false)}, "Save"), h("button", {class: "main", type: "button", onclick: save(true)}, "Save and retry")];
  area.addEventListener("input", check);
  dialog("side", ["Edit the payload of ", job.type], [h("p", {class: "dim"}, job.json ? "JSON. The other fields stay as they are; nothing is retried unless you say so." : "Raw text, as the handler gets it."), area, fault], buttons, {label: "Edit payload"});
  area.focus(); area.setSelectionRange(0, 0);
}
