// Questions: each becomes a block of buttons or a text, with the keys that answer it.

function make(tag, given, ...inside) {
  const found = document.createElement(tag);
  for (const [key, value] of Object.entries(given || {})) {
    if (key === "class") found.className = value;
    else if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
    else if (value !== false) found.setAttribute(key, value === true ? "" : value);
  }
  found.append(...inside.filter(part => part !== null));  // texts become text nodes
  return found;
}

function letter(place) { return "ABCDEFGHI"[place]; }

// Small whole numbers are their own keys; other points are counted from 1, the tenth is 0.
function pointKeys(points) {
  const own = points.every(([value]) => Number.isInteger(value) && value >= 0 && value <= 9);
  return points.map(([value], i) => own ? String(value) : i < 9 ? String(i + 1) : i === 9 ? "0" : "");
}

function answered(question, value) {
  if (question.kind === "rank") return Array.isArray(value) && value.every(rank => rank > 0);
  return !(value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length));
}

// Ranks [1, 1, 2] by place -> tiers [[0, 1], [2]], the best first; and back.
function toTiers(ranks) {
  const used = [...new Set(ranks)].sort((a, b) => a - b);
  return used.map(rank => ranks.flatMap((other, place) => other === rank ? [place] : []));
}
function toRanks(tiers) {
  const ranks = [];
  tiers.forEach((tier, i) => tier.forEach(place => { ranks[place] = i + 1; }));
  return ranks;
}
function toServer(question, value) {
  if (!answered(question, value)) return null;
  return question.kind === "rank" ? toTiers(value) : value;
}
function fromServer(question, value) {
  return question.kind === "rank" && Array.isArray(value) ? toRanks(value) : value;
}

// A question's block. set(value) is called with each new value, now(value) shows one, key(k) answers whether it took it.
function makeAsked(question, item, set, wanted) {
  const box = make("fieldset", {class: "question", "data-question": question.name});
  box.append(make("legend", {dir: "auto"}, question.ask));
  const kinds = {rate: choice, pair: choice, flag: choice, rank: ranking, write: writing, correct: writing};
  return {box, question, ...kinds[question.kind](question, item, set, box, wanted)};
}

function choice(question, item, set, box) {
  let value = null;
  const many = question.kind === "flag";
  const points = question.kind !== "pair" ? question.points.map(([point, name]) => [point, name])
    : [[0, "A is better"], [1, "B is better"], ["tie", "Equally good"]];
  const keys = question.kind === "pair" ? ["1", "2", "0"] : pointKeys(points);
  const pick = point => {
    if (many) {
      const kept = Array.isArray(value) ? value : [];
      set(kept.includes(point) ? kept.filter(other => other !== point) : [...kept, point]);
    } else set(value === point ? null : point, value !== point);
  };
  const buttons = points.map(([point, name], i) => make("button", {
    type: "button", class: "point", "aria-pressed": "false", onclick: () => pick(point)},
  keys[i] ? make("kbd", {}, keys[i]) : null,
  make("span", {dir: "auto"}, question.kind === "pair" || (name && String(point) === keys[i]) ? name : String(point)),
  name && question.kind !== "pair" && String(point) !== keys[i] ? make("small", {dir: "auto"}, name) : null));
  box.append(make("div", {class: "points " + question.kind}, ...buttons));
  return {
    now(next) {
      value = next;
      buttons.forEach((button, i) => button.setAttribute("aria-pressed",
        String(many ? Array.isArray(value) && value.includes(points[i][0]) : value === points[i][0])));
    },
    key(key) {
      const i = question.kind === "pair" && key === "t" ? 2 : keys.indexOf(key);
      if (i < 0 || key === "") return false;
      pick(points[i][0]);
      return true;
    },
    focus() { (buttons.find(b => b.getAttribute("aria-pressed") === "true") || buttons[0]).focus({preventScroll: true}); },
  };
}

function ranking(question, item, set, box) {
  const count = item.answers.length;
  let ranks = [], at = 0;
  const rows = item.answers.map((_, place) => {
    const buttons = Array.from({length: count}, (_, i) => make("button", {
      type: "button", class: "rank", "aria-pressed": "false", "aria-label": letter(place) + " is number " + (i + 1),
      onclick: () => { at = place; put(i + 1); }}, String(i + 1)));
    return {row: make("div", {class: "ranked"}, make("span", {class: "letter"}, letter(place)), ...buttons), buttons};
  });
  box.append(...rows.map(row => row.row),
    make("p", {class: "note"}, "The same number twice is a tie. A number ranks the marked answer and goes to the next; " +
      "\u2191 and \u2193 mark another."));
  function put(rank) {
    const next = Array.from({length: count}, (_, i) => ranks[i] || 0);
    next[at] = next[at] === rank ? 0 : rank;
    const open = next.findIndex((found, i) => !found && i > at);
    at = open >= 0 ? open : next.includes(0) ? next.indexOf(0) : at;
    set(next, true);
  }
  function mark() { rows.forEach(({row}, i) => row.classList.toggle("at", i === at)); }
  return {
    now(value) {
      ranks = Array.isArray(value) ? value : [];
      rows.forEach(({buttons}, place) => buttons.forEach((button, i) =>
        button.setAttribute("aria-pressed", String(ranks[place] === i + 1))));
      mark();
    },
    key(key) {
      if (key === "ArrowDown" || key === "ArrowUp") {
        at = (at + (key === "ArrowDown" ? 1 : count - 1)) % count;
        mark();
        return true;
      }
      const rank = Number(key);
      if (!/^[1-9]$/.test(key) || rank > count) return false;
      put(rank);
      return true;
    },
    focus() { rows[at].buttons[0].focus({preventScroll: true}); },
  };
}

function writing(question, item, set, box) {
  const field = make("textarea", {dir: "auto", rows: "4", spellcheck: "true", "aria-label": question.ask,
    oninput: () => { grow(); set(field.value); tell(); }});
  const changed = make("span", {class: "quiet"});
  const again = make("button", {type: "button", class: "small", onclick: () => {
    field.value = item.original; grow(); set(field.value); tell(); field.focus();
  }}, "Start over from the original");
  box.append(field, make("p", {class: "under"}, changed, question.kind === "correct" ? again : null,
    make("span", {class: "quiet keyed"}, make("kbd", {}, "e"), " to write, ", make("kbd", {}, "Esc"), " to leave, ",
      make("kbd", {}, "Ctrl"), " ", make("kbd", {}, "Enter"), " to save")));
  function grow() { field.style.height = "auto"; field.style.height = field.scrollHeight + 2 + "px"; }
  function tell() {
    if (question.kind !== "correct") return;
    changed.textContent = field.value === item.original ? "As the original" : "Changed";
    again.hidden = field.value === item.original;
  }
  return {
    now(value) {
      const text = value === null || value === undefined ? "" : value;
      if (field.value !== text) field.value = text;
      grow();
      tell();
    },
    key(key) { if (key === "e") field.focus(); return key === "e"; },
    focus() { field.focus({preventScroll: true}); },
  };
}
