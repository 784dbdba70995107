// Saving: every answer is kept in this browser until the server says that it is on its disk.

const $ = id => document.getElementById(id);
const config = JSON.parse($("config").textContent);

// What is kept in this browser: one key an answer, so that two tabs do not undo each other's list.
function makeStore(place) {
  const memory = new Map();  // where the browser keeps nothing, or no more
  return {
    get fragile() { return memory.size > 0; },
    set(key, value) {
      const text = JSON.stringify(value);
      try { localStorage.setItem(place + key, text); memory.delete(key); }
      catch (error) { memory.set(key, text); }
    },
    get(key) {
      let text = memory.get(key);
      if (text === undefined) try { text = localStorage.getItem(place + key); } catch (error) { text = null; }
      try { return text ? JSON.parse(text) : null; } catch (error) { return null; }
    },
    remove(key) {
      memory.delete(key);
      try { localStorage.removeItem(place + key); } catch (error) { /* nothing is kept there */ }
    },
    keys(start) {
      const found = new Set([...memory.keys()].filter(key => key.startsWith(start)));
      try {
        for (let i = 0; i < localStorage.length; i++) {
          const key = localStorage.key(i);
          if (key.startsWith(place + start)) found.add(key.slice(place.length));
        }
      } catch (error) { /* nothing is kept there */ }
      return [...found].sort();
    },
  };
}

// Also where the page is not on loopback and has no randomUUID.
function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

async function ask(path, body) {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), 30000);
  try {
    const reply = await fetch(path, body === undefined ? {signal: stop.signal} : {
      method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json"}, signal: stop.signal});
    const found = await reply.json();
    return reply.ok ? found : Promise.reject({status: reply.status, text: found.error || reply.statusText});
  } catch (error) {
    throw {status: 0, text: "the server does not answer"};
  } finally { clearTimeout(timer); }
}

// Sends what is kept, in its order, one after the other; tries again for as long as it takes.
// told.state(waiting, trouble): for the eye. told.saved(event, reply). told.refused(event, why): it can never be saved.
function makeSaver(store, told) {
  let busy = false, trouble = "", pause = 0, timer = 0, draft = null;
  const waiting = () => store.keys("event/");
  const tell = () => told.state(waiting().length, trouble);

  async function work() {
    if (busy) return;
    busy = true;
    clearTimeout(timer);
    try {
      for (;;) {
        const key = waiting()[0], event = key ? store.get(key) : draft;
        tell();
        if (!event) { if (key) { store.remove(key); continue; } break; }
        if (!key) draft = null;
        try {
          const reply = await ask("/api/event", event);
          trouble = ""; pause = 0;
          if (key) { store.remove(key); told.saved(event, reply); }
        } catch (error) {
          if (error.status === 400 || error.status === 413) {  // no use to try again
            if (key) { store.remove(key); told.refused(event, error.text); }
            continue;
          }
          if (!key) draft = draft || event;
          trouble = error.text;
          pause = Math.min(5000, pause ? 2 * pause : 500);
          timer = setTimeout(work, pause);
          break;
        }
      }
    } finally { busy = false; tell(); }
  }

  let last = 0;
  return {
    work,
    pending: () => waiting().map(key => store.get(key)).filter(Boolean),
    draft(event) { draft = event; work(); },
    add(event) {
      draft = draft && draft.item === event.item ? null : draft;
      last = Math.max(Date.now(), last + 1);  // keys sort as events came
      store.set("event/" + String(last).padStart(15, "0") + "/" + event.event, event);
      work();
    },
    retry() { pause = 0; work(); },
  };
}
