// The operator: a token, asked for once and kept for this tab alone, and what can be done with it.
const desk = {
  get token() { return sessionStorage.getItem("jqd.token") || ""; },
  get by() { return sessionStorage.getItem("jqd.by") || ""; },
  get possible() { return Boolean(store.hello && store.hello.actions); },

  async fetch(path, options = {}) {
    const headers = {...options.headers};
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    let answer;
    try { answer = await fetch(path, {...options, headers, cache: "no-store"}); }
    catch { throw Object.assign(new Error("the exporter does not answer"), {code: 0}); }
    const body = await answer.json().catch(() => ({}));
    if (answer.status === 401) this.forget();
    if (!answer.ok) throw Object.assign(new Error(body.error || answer.statusText), {code: answer.status});
    return body;
  },

  get(path, query) { return this.fetch(`${path}?${new URLSearchParams(query)}`); },

  async act(action, order) {
    if (!this.possible) { toast("Actions are off: set http.token in the configuration.", true); return null; }
    if (!this.token && !await this.ask()) return null;
    const send = () => this.fetch(`/api/${action}`, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({...order, by: this.by})});
    try { return await send(); }
    catch (error) {
      if (error.code !== 401 || !await this.ask("That token is not the one in http.token.")) { toast(error.message, true); return null; }
      try { return await send(); } catch (again) { toast(again.message, true); return null; }
    }
  },

  save(token, by) {
    sessionStorage.setItem("jqd.token", token); sessionStorage.setItem("jqd.by", by);
    this.show();
  },
  forget() { sessionStorage.removeItem("jqd.token"); this.show(); },

  fields(why) {
    const by = h("input", {value: this.by, autocomplete: "username", maxLength: 100, placeholder: "for the log"});
    const token = h("input", {type: "password", autocomplete: "current-password", required: true});
    return {by, token, all: [why && h("p", {class: "bad"}, why), h("label", {class: "f"}, h("span", {}, "Your name"), by), h("label", {class: "f"}, h("span", {}, "Token (http.token)"), token)]};
  },

  ask(why) {
    return new Promise(resolve => {
      const fields = this.fields(why);
      let given = false;
      dialog("box", "Operator", [h("p", {class: "dim"}, "Changes need the token of this jqd. It is kept in this tab until you close it; each action is logged with your name."), fields.all],
        [h("button", {class: "main", type: "submit"}, "Continue")],
        {onsubmit: box => { given = true; this.save(fields.token.value, fields.by.value.trim()); box.close(); }, onclose: () => resolve(given)});
      fields.by.value ? fields.token.focus() : fields.by.focus();
    });
  },

  show() {
    const on = Boolean(this.token);
    const key = $("key");
    key.hidden = !this.possible;
    cls(key, on ? "icon on" : "icon");
    key.title = on ? `Operator${this.by ? " " + this.by : ""}: forget the token` : "Unlock actions with the token";
    key.setAttribute("aria-label", key.title);
    key.replaceChildren(icon("M3.5 7.5h9v6h-9z", on ? "M5.5 7.5V5a2.5 2.5 0 0 1 4.9-.7" : "M5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5"));
  },
};

function confirmed(title, words, button, danger, extra) {
  return new Promise(resolve => {
    let yes = false;
    const go = h("button", {class: danger ? "main danger" : "main", type: "submit"}, button);
    dialog("box", title, [h("p", {}, words), extra], [h("button", {type: "button", onclick: e => e.target.closest("dialog").close()}, "Cancel"), go],
      {onsubmit: box => { yes = true; box.close(); }, onclose: () => resolve(yes)});
    (extra && extra.querySelector && extra.querySelector("input") || go).focus();
  });
}
