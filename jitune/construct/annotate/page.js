// The page: one item at a time, answered by keyboard or by hand.

const annotator = new URLSearchParams(location.search).get("annotator") || "";
let status = null, states = [], recent = [], number = 0, item = null, values = {}, asked = [], active = 0;
let store = null, saver = null, ready = new Map(), warned = false, drafting = 0, refusal = null;
let spent = 0, since = 0;

// Item and answers

function fetchItem(n) {
  if (!ready.has(n)) {
    const url = "/api/item?" + new URLSearchParams({annotator: status.annotator, number: n});
    const found = ask(url);
    found.catch(() => ready.delete(n));
    ready.set(n, found);
  }
  return ready.get(n);
}

// The item with what this browser knows better than the server: answers that wait to be sent, and the newest draft.
async function load(n) {
  const found = {...await fetchItem(n)};
  for (const event of saver.pending()) if (event.item === found.item) {
    found.answer = event.kind === "undo" ? null : {state: event.state, values: event.answers || {}};
  }
  const kept = store.get("draft/" + found.item);
  found.start = kept || found.draft || (found.answer && found.answer.values) || {};
  return found;
}

async function show(n) {
  n = Math.min(Math.max(0, n), states.length - 1);
  $("item").setAttribute("aria-busy", "true");
  let found;
  for (let pause = 500; ; pause = Math.min(5000, 2 * pause)) {
    try { found = await load(n); break; } catch (error) {
      refusal = error.status === 400 ? error.text : refusal;
      banner(saver.pending().length, error.text);
      if (error.status === 400) return;
      await new Promise(done => setTimeout(done, pause));
    }
  }
  keepDraft();
  number = n; item = found; values = {}; warned = false;
  $("missing").textContent = "";
  $("item").replaceChildren(...itemParts(found));
  asked = status.questions.filter(q => found.asked.includes(q.name)).map(question => {
    const given = found.start[question.name];
    const first = question.kind === "correct" && (given === undefined || given === null) ? found.original : given;
    values[question.name] = fromServer(question, first === undefined ? null : first);
    return makeAsked(question, found, (value, go) => change(question, value, go));
  });
  $("asked").replaceChildren(...asked.map(one => one.box));
  asked.forEach((one, i) => {
    one.now(values[one.question.name]);
    one.box.addEventListener("focusin", () => activate(i));
  });
  active = Math.max(0, asked.findIndex(one => !answered(one.question, values[one.question.name])));
  activate(active);
  $("item").removeAttribute("aria-busy");
  window.scrollTo(0, 0);
  document.activeElement.blur();
  if (asked.every(one => ["write", "correct"].includes(one.question.kind))) asked[0].focus();
  spent = 0; since = document.hidden ? 0 : performance.now();
  history.replaceState(null, "", "#" + (n + 1));
  progress();
  for (const next of [n + 1, n + 2]) if (next < states.length) fetchItem(next).catch(() => {});
}

function itemParts(found) {
  const names = {user: "User", assistant: "Assistant", system: "System", tool: "Tool", text: "Text"};
  const parts = found.messages.map(message => make("article", {class: "said " + (names[message.role] ? message.role : "")},
    make("h2", {class: "label"}, names[message.role] || message.role),
    message.thought ? make("details", {}, make("summary", {}, "Reasoning"), words(message.thought)) : null,
    message.text || !message.calls ? words(message.text) : null,
    message.calls ? make("pre", {tabindex: "0"}, message.calls) : null));
  if (found.tools) parts.unshift(make("details", {}, make("summary", {}, "Tools"), make("pre", {tabindex: "0"}, found.tools)));
  if (found.answers.length) parts.push(make("div", {class: "compared"}, ...found.answers.map((text, place) =>
    make("article", {class: "said assistant"}, make("h2", {class: "label"}, "Answer " + letter(place)), words(text)))));
  return parts;
}

function words(text) {
  if (!text) return make("p", {class: "note"}, "(nothing)");
  const shown = make("p", {class: "text", dir: "auto"}, text);
  return text.length < 600 ? shown : make("div", {class: "clamped", tabindex: "0", role: "region", "aria-label": "Text"}, shown);
}

function change(question, value, go) {
  values[question.name] = value;
  const at = asked.findIndex(one => one.question === question);
  if (!["write", "correct"].includes(question.kind)) asked[at].now(value);
  warned = false;
  $("missing").textContent = "";
  const single = asked.length === 1 && ["rate", "pair"].includes(question.kind);
  if (single && go) return submit("done");
  store.set("draft/" + item.item, toSend());
  clearTimeout(drafting);
  const size = JSON.stringify(values).length;  // long texts are sent less often: each draft stands in the log
  drafting = setTimeout(keepDraft, 1500 + size / 50);
  draftDue = true;
  const moves = go && answered(question, value) && question.kind !== "flag";
  if (moves) {
    const next = asked.findIndex((one, i) => i > at && !answered(one.question, values[one.question.name]));
    activate(next >= 0 ? next : at);
  }
}

let draftDue = false;
function keepDraft() {
  clearTimeout(drafting);
  if (!draftDue || !item) return;
  draftDue = false;
  saver.draft({kind: "draft", event: newId(), annotator: status.annotator, item: item.item, draft: toSend()});
}

function toSend() {
  return Object.fromEntries(asked.map(({question}) => [question.name, toServer(question, values[question.name])]));
}

function submit(state) {
  if (!item || $("item").hasAttribute("aria-busy")) return;
  const open = asked.filter(one => !answered(one.question, values[one.question.name]));
  if (state === "done" && open.length && !warned) {
    warned = true;
    $("missing").textContent = (open.length === asked.length ? "Nothing is answered" : "Not answered: " +
      open.map(one => one.question.ask).join(" ")) + ". Save again to leave it empty, or skip the item.";
    activate(asked.indexOf(open[0]));
    return;
  }
  clearTimeout(drafting);
  draftDue = false;
  const answers = state === "done" ? toSend() : {};
  const seconds = Math.round(10 * (spent + (since ? performance.now() - since : 0)) / 1000) / 10;
  store.remove("draft/" + item.item);
  states[number] = state === "skipped" ? "s" : Object.values(answers).every(value => value === null) ? "e" : "l";
  recent.push(number);
  ready.delete(number);
  saver.add({kind: "answer", event: newId(), annotator: status.annotator, item: item.item, state, answers, seconds, number});
  const next = openAfter(number);
  if (next < 0) { progress(); show(number); } else show(next);
}

async function undo() {
  if (!recent.length || $("item").hasAttribute("aria-busy")) return;
  const n = recent.pop();
  let found;
  try { found = await load(n); } catch (error) { recent.push(n); banner(saver.pending().length, error.text); return; }
  if (!found.answer) return show(n);
  if (found.answer.state !== "skipped") store.set("draft/" + found.item, found.answer.values);
  states[n] = ".";
  ready.delete(n);
  saver.add({kind: "undo", event: newId(), annotator: status.annotator, item: found.item, number: n});
  show(n);
}

// The next item without an answer, from here on and then from the beginning; -1 where there is none.
function openAfter(n) {
  const later = states.indexOf(".", n + 1);
  return later >= 0 ? later : states.indexOf(".");
}

// What is around the item

function activate(i) {
  active = Math.min(Math.max(0, i), asked.length - 1);
  asked.forEach((one, place) => one.box.classList.toggle("active", place === active));
}

function progress() {
  const count = letter => states.filter(state => state === letter).length;
  const [labelled, empty, skipped] = [count("l"), count("e"), count("s")], done = labelled + empty + skipped;
  for (const [name, value] of Object.entries({labelled, empty, skipped})) {
    document.querySelector("#track ." + name).style.width = 100 * value / states.length + "%";
  }
  $("track").setAttribute("aria-valuemax", states.length);
  $("track").setAttribute("aria-valuenow", done);
  const words = {".": "open", l: "answered", e: "left empty", s: "skipped"}[states[number]];
  const parts = ["Item " + (number + 1) + " of " + states.length + ", " + words, labelled + " answered"];
  if (empty) parts.push(empty + " empty");
  if (skipped) parts.push(skipped + " skipped");
  $("count").textContent = done === states.length ? "All " + done + " items are done. " + parts.join(" \u00b7 ") : parts.join(" \u00b7 ");
  $("count").classList.toggle("finished", done === states.length);
  $("back").disabled = number === 0;
  $("forward").disabled = number === states.length - 1;
  $("undo").disabled = !recent.length;
  $("open").disabled = openAfter(number) < 0;
}

function banner(waiting, trouble) {
  const saved = $("saved");
  saved.className = "saved " + (trouble ? "away" : waiting ? "busy" : "");
  saved.textContent = trouble ? waiting + " not saved yet" : waiting ? "Saving\u2026" : "Saved";
  const parts = [];
  if (refusal) parts.push(refusal);
  if (trouble) parts.push("Not saved: " + trouble + ". " + (waiting ? waiting + (waiting === 1 ? " answer is" : " answers are") +
    (store.fragile ? " held by this page only: do not close it." : " kept in this browser and sent as soon as it can be.")
    : "It is tried again."));
  $("banner").textContent = parts.join(" ");
  $("banner").hidden = !parts.length;
}

const told = {
  state: banner,
  saved(event, reply) {
    ready.delete(event.number);
    const later = saver.pending().some(other => other.item === event.item);
    if (!later) states[event.number] = reply.state;
    refusal = null;
    progress();
  },
  refused(event, why) {  // it becomes a draft again, with the reason
    if (event.kind === "answer" && event.state !== "skipped") store.set("draft/" + event.item, event.answers);
    states[event.number] = ".";
    ready.delete(event.number);
    refusal = "Item " + (event.number + 1) + " was not saved: " + why + ".";
    show(event.number);
  },
};

const KEYS = [["1 2 3 \u2026", "choose a point, an answer or a reason"], ["0 or t", "both answers are equally good"],
  ["\u2191 \u2193", "another answer of a ranking, or another question"], ["Tab", "another question or button"],
  ["e", "write in the text field"], ["Esc", "leave the text field"], ["Enter", "save and go to the next open item"],
  ["Ctrl Enter", "the same, while writing"], ["s", "skip: saved as skipped, not as empty"],
  ["u", "take the latest answer back"], ["\u2190 or p", "the item before"], ["\u2192 or n", "the item after"],
  ["g", "the next open item"], ["h", "guidelines"], ["?", "these keys"]];

function onKey(event) {
  const writes = event.target.matches("textarea, input");
  if ($("keys").open || event.isComposing) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); return submit("done"); }
  if (writes) { if (event.key === "Escape") event.target.blur(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inside = event.target.matches("button, summary, a, .clamped, pre");
  if (inside && event.key === " ") return;
  if (event.target.matches("summary, a") && event.key === "Enter") return;
  if (event.target.matches(".clamped, pre") && event.key.startsWith("Arrow")) return;  // they scroll
  const done = act(event.key, event.repeat);
  if (done) event.preventDefault();
}

function act(key, repeats) {
  const small = key.length === 1 ? key.toLowerCase() : key;
  if (key === "ArrowLeft" || small === "p") { if (number > 0) show(number - 1); return true; }
  if (key === "ArrowRight" || small === "n") { if (number < states.length - 1) show(number + 1); return true; }
  if (repeats) return false;  // a key that is held answers one item, not ten
  if (asked[active] && asked[active].key(small)) return true;
  if (small === "e") return asked.some(one => one.key("e"));
  if (key === "ArrowDown" || key === "ArrowUp") { activate(active + (key === "ArrowDown" ? 1 : -1)); return asked.length > 1; }
  const actions = {Enter: () => submit("done"), s: () => submit("skipped"), u: undo, h: guide, "?": keys,
    g: () => { const next = openAfter(number); if (next >= 0) show(next); }};
  if (!actions[small]) return false;
  actions[small]();
  return true;
}

function guide() { if (!$("guidelines").hidden) $("guidelines").open = !$("guidelines").open; }
function keys() { $("keys").showModal(); }

// Beginning

function login(why) {
  $("login").hidden = false;
  $("refused").textContent = why || "";
  $("anybody").hidden = $("enter").hidden = config.names.length > 0;
  const go = name => { location.search = new URLSearchParams({annotator: name}); };
  $("names").replaceChildren(...config.names.map(name =>
    make("button", {type: "button", class: "point", dir: "auto", onclick: () => go(name)}, name)));
  $("login").addEventListener("submit", event => {
    event.preventDefault();
    if ($("name").value.trim()) go($("name").value.trim()); else $("name").focus();
  });
}

async function begin() {
  document.title = config.title;
  if (!annotator) return login("");
  for (let pause = 500; !status; pause = Math.min(5000, 2 * pause)) {
    try { status = await ask("/api/status?" + new URLSearchParams({annotator})); } catch (error) {
      if (error.status) return login(error.text);
      $("refused").textContent = "The server does not answer; it is asked again.";
      $("login").hidden = false;
      await new Promise(done => setTimeout(done, pause));
    }
  }
  $("login").hidden = true;
  store = makeStore("jitune-annotate/" + status.log + "/" + status.annotator + "/");
  saver = makeSaver(store, told);
  states = [...status.states];
  recent = status.recent;
  for (const event of saver.pending()) if (event.number < states.length) {
    states[event.number] = event.kind === "undo" ? "." : event.state === "skipped" ? "s" : "l";
    if (event.kind === "answer") recent.push(event.number);
  }
  $("who").textContent = status.annotator;
  for (const id of ["top", "work", "bar"]) $(id).hidden = false;
  if (!states.length) { $("count").textContent = "There is nothing to annotate for this name."; return; }
  $("keylist").replaceChildren(...KEYS.flatMap(([key, what]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)]));
  const wide = matchMedia("(min-width: 60rem)").matches;
  $("guidelines").open = wide || states.every(state => state === ".");
  const clicks = {back: () => show(number - 1), forward: () => show(number + 1), undo, help: keys, save: () => submit("done"),
    skip: () => submit("skipped"), open: () => act("g"), close: () => $("keys").close()};
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { spent += since ? performance.now() - since : 0; since = 0; keepDraft(); }
    else { since = performance.now(); saver.retry(); }
  });
  addEventListener("online", () => saver.retry());
  addEventListener("beforeunload", event => { if (store.fragile) event.preventDefault(); });
  saver.work();
  const asked = Number(location.hash.slice(1)) - 1, open = openAfter(-1);
  await show(asked >= 0 && asked < states.length ? asked : open >= 0 ? open : 0);
}

begin();
