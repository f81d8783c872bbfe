// The page: which talk is open, what is on its way, and what lies beside it.

import { html, render, useCallback, useEffect, useReducer, useRef, useState } from "./vendor/preact-htm.js";
import * as api from "./api.js";
import { Compose } from "./compose.js";
import { Album, Gallery, Large, Start, Talks } from "./rooms.js";
import { Coming, Turn } from "./talk.js";

const nothing = { id: null, title: "", model: null, turns: [], votes: {}, pending: null };

function answered(live, told) {
  switch (told.event) {
    case "words":
      return { ...live, text: live.text + told.words };
    case "due":
      return { ...live, due: { ...told, step: 0, of: 0 } };
    case "preview":
      return { ...live, due: { ...live.due, step: told.step, of: told.of, url: told.url ?? live.due?.url } };
    case "photo":
      return { ...live, due: null, photo: told };
    default:
      return live;
  }
}

function App() {
  const [models, setModels] = useState([]);
  const [talks, setTalks] = useState(null);
  const [talk, setTalk] = useState(nothing);
  const [live, tell] = useReducer((state, told) => (told === null || told.text !== undefined && !told.event ? told : state && answered(state, told)), null);
  const [beside, setBeside] = useState(null); // "menu", "gallery", "album"
  const [large, setLarge] = useState(null);
  const [problem, setProblem] = useState(null);
  const [notes, setNotes] = useState([]);
  const [said, setSaid] = useState(""); // for screen readers
  const [draft, setDraft] = useState(null);
  const [dial, setDial] = useState(null);
  const [wantsKey, setWantsKey] = useState(false);
  const [model, setModel] = useState(localStorage.getItem("model") || "");
  const stop = useRef(null);
  const end = useRef();
  const busy = live !== null;

  const failed = useCallback((error) => {
    if (error.name === "AbortError") return;
    if (error.status === 401) setWantsKey(true);
    else setProblem(error.message);
  }, []);

  const refresh = useCallback(() => api.talks().then(setTalks, failed), []);

  const open = useCallback(async (id) => {
    stop.current?.abort();
    setProblem(null);
    setNotes([]);
    setBeside(null);
    history.replaceState(null, "", id ? `#${id}` : location.pathname);
    if (!id) return setTalk(nothing);
    try {
      setTalk(await api.talk(id));
    } catch (error) {
      history.replaceState(null, "", location.pathname);
      setTalk(nothing);
      failed(error);
    }
  }, []);

  const begin = useCallback(async () => {
    try {
      const found = await api.models();
      setModels(found);
      setModel((name) => (found.some((each) => each.id === name) ? name : found[0]?.id));
      setWantsKey(false);
      setDial(await api.settings());
      await refresh();
      if (location.hash.length > 1) await open(location.hash.slice(1));
    } catch (error) {
      failed(error);
    }
  }, []);

  useEffect(() => void begin(), []);
  useEffect(() => localStorage.setItem("model", model ?? ""), [model]);
  useEffect(() => end.current?.scrollIntoView({ block: "end" }), [talk.turns.length, live]);
  useEffect(() => {
    document.title = talk.title ? `${talk.title} · showtell` : "showtell";
  }, [talk.title]);

  async function send({ text, photos }) {
    setProblem(null);
    setNotes([]);
    const mine = [
      ...(text ? [{ type: "text", text }] : []),
      ...photos.map((url, k) => ({ type: "photo", id: `sent-${k}`, origin: "user", url, alt: "a photo of yours" })),
    ];
    const shown = mine.map((element) => ({ speaker: "user", elements: [element] }));
    setTalk((before) => ({ ...before, pending: null, turns: [...before.turns, ...shown] }));
    tell({ text: "", due: null, photo: null });
    stop.current = new AbortController();
    let id = talk.id;
    let heard = "";
    let ended = null;
    try {
      await api.say(
        { text, photos, conversation: id, model: talk.model ?? model, signal: stop.current.signal },
        (told) => {
          if (told.event === "end") ended = told;
          if (told.event === "words") heard += told.words;
          if (told.event === "photo") heard += ` Photo: ${told.alt}.`;
          tell(told);
          if (told.event === "photo") {
            const photo = { type: "photo", ...told };
            setTalk((before) => ({ ...before, turns: [...before.turns, { speaker: "agent", elements: [photo] }] }));
          }
        },
      );
      id = ended.conversation;
      setNotes(ended.notes);
    } catch (error) {
      if (error.name !== "AbortError") {
        setProblem(error.message);
        if (!heard) setDraft({ text, photos });
        if (error.status === 401) setWantsKey(true);
      } else {
        await new Promise((done) => setTimeout(done, 300)); // until what was said is kept
      }
    }
    setSaid(heard);
    stop.current = null;
    const kept = await api.talks().catch(() => null);
    if (kept) setTalks(kept);
    id = id ?? kept?.[0]?.id ?? null;
    if (id) {
      history.replaceState(null, "", `#${id}`);
      await api.talk(id).then(setTalk, failed);
    } else {
      setTalk(nothing);
    }
    tell(null);
  }

  async function again(words) {
    if (!talk.id) return;
    setProblem(null);
    tell({ text: "", due: { step: 0, of: 0 }, photo: null });
    try {
      const seed = Math.floor(Math.random() * 2 ** 31);
      await api.paint(words, { model: talk.model, seed, conversation: talk.id });
      setTalk(await api.talk(talk.id));
    } catch (error) {
      failed(error);
    }
    tell(null);
  }

  async function voted(photo, vote) {
    const number = { up: 1, down: -1, none: 0 }[vote];
    setTalk((before) => ({ ...before, votes: { ...before.votes, [photo.id]: number } }));
    await api.vote(talk.id, photo.id, vote).catch(failed);
  }

  async function turnDial(kind) {
    const asked = { ...dial, dial: kind };
    setDial(asked);
    await api.set(asked).then(setDial, failed);
  }

  async function removed(id) {
    if (!confirm("Delete this conversation and its photos for good?")) return;
    await api.remove(id).then(refresh, failed);
    if (id === talk.id) open(null);
  }

  async function renamed(id, before) {
    const title = prompt("Title of this conversation", before)?.trim();
    if (!title) return;
    await api.rename(id, title).then(refresh, failed);
    if (id === talk.id) setTalk((was) => ({ ...was, title }));
  }

  const photos = talk.turns.flatMap((turn) => turn.elements.filter((each) => each.type === "photo"));
  const chosen = models.find((each) => each.id === (talk.model ?? model));
  const side = html`<${Talks} talks=${talks} open=${talk.id} onOpen=${open} onDelete=${removed}
    onRename=${renamed} onExport=${(id, form) => api.exported(id, form).catch(failed)} />`;

  return html`<div class="page">
    <a class="skip" href="#message">Skip to the message</a>
    <nav class="side ${beside === "menu" ? "open" : ""}" aria-label="Conversations">
      <div class="brand"><img src="icon.svg" alt="" /><span>showtell</span>
        <button class="round close" aria-label="Close" onClick=${() => setBeside(null)}>×</button></div>
      <button class="new" onClick=${() => open(null)}>New conversation</button>
      ${side}
      <label class="dial">When photos come
        <select value=${dial?.dial ?? "proactive"} onChange=${(event) => turnDial(event.target.value)}>
          <option value="proactive">when they fit</option>
          <option value="offer">offered in words first</option>
          <option value="asked">only when I ask</option>
        </select></label>
    </nav>
    <div class="middle">
      <header>
        <button class="round menu" aria-label="Conversations" aria-expanded=${beside === "menu"}
          onClick=${() => setBeside("menu")}>☰</button>
        <label class="who"><span class="hidden">Who answers</span>
          <select value=${talk.model ?? model} disabled=${busy}
            onChange=${(event) => {
              setModel(event.target.value);
              setTalk((before) => ({ ...before, model: before.id ? event.target.value : null }));
            }}>
            ${models.map((each) => html`<option key=${each.id} value=${each.id}>${each.id}</option>`)}
          </select>
        </label>
        <span class="room" />
        <button aria-expanded=${beside === "gallery"} onClick=${() => setBeside(beside === "gallery" ? null : "gallery")}>
          Photos${photos.length ? ` (${photos.length})` : ""}</button>
        <button aria-expanded=${beside === "album"} onClick=${() => setBeside(beside === "album" ? null : "album")}>Album</button>
      </header>
      <main>
        ${talk.turns.length === 0 && !busy
          ? html`<${Start} model=${chosen} onSay=${(text) => send({ text, photos: [] })} />`
          : html`<ol class="turns">
              ${talk.turns.map((turn, k) => html`<${Turn} key=${k} turn=${turn} votes=${talk.votes} busy=${busy}
                onVote=${voted} onAgain=${again} onSee=${setLarge} />`)}
              ${busy && html`<${Coming} live=${live} />`}
            </ol>`}
        ${talk.pending && !busy && html`<p class="note" role="status">“${talk.pending}” was not answered.
          <button onClick=${() => send({ text: talk.pending, photos: [] })}>Try again</button></p>`}
        ${notes.map((note) => html`<p class="note" role="note">${note}</p>`)}
        ${problem && html`<p class="problem" role="alert">${problem}
          <button onClick=${() => setProblem(null)}>Close</button></p>`}
        <div ref=${end} />
      </main>
      <div class="hidden" aria-live="polite">${said}</div>
      <footer id="message">
        <${Compose} busy=${busy} draft=${draft} onSend=${send} onStop=${() => stop.current?.abort()} onProblem=${setProblem} />
        <p class="fine">${chosen?.showtell.limits ?? ""}</p>
      </footer>
    </div>
    ${beside === "gallery" && html`<${Gallery} photos=${photos} onSee=${setLarge} onClose=${() => setBeside(null)} />`}
    ${beside === "album" && html`<${Album} onSee=${setLarge} onClose=${() => setBeside(null)} />`}
    ${large && html`<${Large} photo=${large} onClose=${() => setLarge(null)} />`}
    ${wantsKey && html`<div class="veil"><form class="key" onSubmit=${(event) => {
      event.preventDefault();
      api.useKey(new FormData(event.target).get("key"));
      begin();
    }}>
      <label>This server asks for a key<input name="key" type="password" autocomplete="current-password" /></label>
      <button class="main">Open</button>
    </form></div>`}
  </div>`;
}

render(html`<${App} />`, document.getElementById("app"));
