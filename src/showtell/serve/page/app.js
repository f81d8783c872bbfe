// The page: which talk is open, what is on its way, and what lies beside it.

import { html, render, useCallback, useEffect, useMemo, useRef, useState } from "./vendor/preact-htm.js";
import * as api from "./api.js";
import { Compose } from "./compose.js";
import { Album, Elsewhere, Gallery, Large, Start, Talks, Who } from "./rooms.js";
import { Side, useTheme } from "./side.js";
import { Coming, Turn } from "./talk.js";

const nothing = { id: null, title: "", model: null, turns: [], votes: {}, pending: null };
const turn = (speaker, element) => ({ speaker, elements: [element] });
const texts = (speaker, words) =>
  words.split("\n").filter((line) => line.trim()).map((text) => turn(speaker, { type: "text", text }));

function App() {
  const [models, setModels] = useState([]);
  const [talks, setTalks] = useState(null);
  const [talk, setTalk] = useState(nothing);
  const [live, setLive] = useState(null); // the answer on its way: {text, due}
  const [beside, setBeside] = useState(null); // "menu", "gallery", "album"
  const [large, setLarge] = useState(null);
  const [problem, setProblem] = useState(null); // {told, again}: what went wrong, what was said
  const [notes, setNotes] = useState([]);
  const [said, setSaid] = useState(""); // for screen readers
  const [draft, setDraft] = useState(null);
  const [dial, setDial] = useState(null);
  const [wantsKey, setWantsKey] = useState(false);
  const [model, setModel] = useState(localStorage.getItem("model") || "");
  const [theme, setTheme] = useTheme();
  const stop = useRef(null);
  const opened = useRef(0); // how many talks were: what comes late of another is not shown here
  const main = useRef();
  const top = useRef(0); // of main's scrolling
  const follows = useRef(true); // whether the last words are in sight
  const busy = live !== null;

  const failed = useCallback((error) => {
    if (error.name === "AbortError") return;
    if (error.status === 401) setWantsKey(true);
    else setProblem({ told: error.message });
  }, []);
  const complain = useCallback((told) => setProblem({ told }), []);
  const refresh = useCallback(() => api.talks().then(setTalks, failed), []);
  const still = () => {
    const number = opened.current;
    return () => opened.current === number;
  };
  const address = (id) => history.replaceState(null, "", id ? `#${id}` : location.pathname);

  const open = useCallback(async (id) => {
    stop.current?.abort();
    opened.current += 1;
    const here = still();
    follows.current = true;
    setLive(null);
    setProblem(null);
    setNotes([]);
    setBeside(null);
    address(id);
    if (!id) return setTalk(nothing);
    try {
      const found = await api.talk(id);
      if (here()) setTalk({ ...found, waits: Boolean(found.pending) });
      if (!found.pending) return;
      const later = await api.settled(id); // it was left in the middle of an answer
      if (here()) setTalk(later);
    } catch (error) {
      if (!here()) return;
      address(null);
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
  const follow = () => {
    if (follows.current) main.current.scrollTop = main.current.scrollHeight;
  };
  useEffect(() => {
    const grown = new ResizeObserver(follow); // words, and photos when they are here
    grown.observe(main.current.firstElementChild);
    return () => grown.disconnect();
  }, []);
  useEffect(() => {
    document.title = talk.title ? `${talk.title} · showtell` : "showtell";
  }, [talk.title]);

  async function send({ text, photos }) {
    const here = still();
    const add = (...turns) =>
      here() && setTalk((before) => ({ ...before, pending: null, turns: [...before.turns, ...turns] }));
    const controller = new AbortController();
    stop.current = controller;
    follows.current = true;
    setProblem(null);
    setNotes([]);
    add(
      ...texts("user", text),
      ...photos.map((url, k) =>
        turn("user", { type: "photo", id: `sent-${k}`, origin: "user", url, alt: "a photo of yours" })),
    );
    setLive({ text: "", due: null });
    let id = talk.id;
    let heard = "";
    let words = ""; // since the last photo
    let wrong = null;
    function tell(told) {
      if (told.event === "begin") id = told.conversation;
      if (told.event === "words") words += told.words;
      if (told.event === "photo") {
        add(...texts("agent", words), turn("agent", { type: "photo", ...told }));
        heard += `${words} Photo: ${told.alt}. `;
        words = "";
      }
      if (!here()) return;
      if (told.event === "begin") address(id);
      if (told.event === "words") setLive((before) => ({ ...before, text: words }));
      if (told.event === "due") {
        setLive((before) => ({ ...before, due: { ...told, step: 0, of: 0 } }));
        setSaid("A photo is on its way.");
      }
      if (told.event === "preview") {
        const { step, of, url } = told;
        setLive((before) => ({ ...before, due: { ...before.due, step, of, url: url ?? before.due?.url } }));
      }
      if (told.event === "photo") setLive({ text: "", due: null });
      if (told.event === "end") setNotes(told.notes);
    }
    try {
      const who = talk.model ?? model;
      await api.say({ text, photos, conversation: id, model: who, signal: controller.signal }, tell);
    } catch (error) {
      wrong = error;
    }
    heard += words;
    const kept = await api.talks().catch(() => null);
    if (kept) setTalks(kept);
    const began = !wrong || heard || wrong.name === "AbortError";
    const found = id && (await (began ? api.settled : api.talk)(id).catch(() => null));
    if (!here()) return;
    if (found) setTalk(wrong && !heard ? { ...found, pending: null } : found);
    else if (wrong) setTalk((before) => ({ ...before, turns: talk.turns }));
    if (wrong && wrong.name !== "AbortError") {
      setProblem({ told: wrong.message, again: heard ? null : { text, photos } });
      if (!heard) setDraft({ text, photos });
      if (wrong.status === 401) setWantsKey(true);
    }
    setSaid(heard);
    setLive(null);
  }

  function tryAgain(once) {
    setDraft({ text: "", photos: [] });
    send(once);
  }

  async function again(words) {
    if (!talk.id) return;
    const here = still();
    follows.current = true;
    setProblem(null);
    setLive({ text: "", due: { step: 0, of: 0 } });
    try {
      const seed = Math.floor(Math.random() * 2 ** 31);
      await api.paint(words, { model: talk.model, seed, conversation: talk.id });
      const found = await api.talk(talk.id);
      if (here()) setTalk(found);
    } catch (error) {
      if (here()) failed(error);
    }
    if (here()) setLive(null);
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

  function choose(id) {
    setModel(id);
    setTalk((before) => ({ ...before, model: before.id ? id : null }));
  }

  const photos = talk.turns.flatMap((each) => each.elements.filter((element) => element.type === "photo"));
  const chosen = models.find((each) => each.id === (talk.model ?? model)) ?? models[0];
  const empty = talk.turns.length === 0 && !talk.pending && !busy;
  const toggle = (name) => () => setBeside(beside === name ? null : name);
  const close = () => setBeside(null);
  const waiting = !busy && talk.pending;
  const turns = useMemo(
    () =>
      [...talk.turns, ...(waiting ? texts("user", waiting) : [])].map(
        (each, k) => html`<${Turn} key=${k} turn=${each} votes=${talk.votes} busy=${busy}
          onVote=${voted} onAgain=${again} onSee=${setLarge} />`,
      ),
    [talk, busy],
  );

  return html`<div class="page">
    <a class="skip" href="#message" onClick=${(event) => {
      event.preventDefault();
      document.querySelector("#message textarea").focus();
    }}>Skip to the message</a>
    <${Side} open=${beside === "menu"} dial=${dial} theme=${theme} onDial=${turnDial} onTheme=${setTheme}
      onNew=${() => open(null)} onClose=${close}>
      <${Talks} talks=${talks} open=${talk.id} onOpen=${open} onDelete=${removed} onRename=${renamed}
        onExport=${(id, form) => api.exported(id, form).catch(failed)} />
      <${Elsewhere} />
    <//>
    <div class="middle">
      <header>
        <button class="round menu" aria-label="Conversations" aria-expanded=${beside === "menu"}
          onClick=${toggle("menu")}>☰</button>
        <${Who} models=${models} chosen=${chosen} busy=${busy} onChoose=${choose} />
        <span class="room" />
        <button aria-expanded=${beside === "gallery"} onClick=${toggle("gallery")}>
          Photos${photos.length ? ` (${photos.length})` : ""}</button>
        <button aria-expanded=${beside === "album"} onClick=${toggle("album")}>Album</button>
      </header>
      <main ref=${main} tabindex="-1" onScroll=${({ target }) => {
        const near = target.scrollHeight - target.scrollTop - target.clientHeight < 80;
        if (near || target.scrollTop < top.current) follows.current = near; // only who goes up stays there
        top.current = target.scrollTop;
      }}><div>
        ${empty
          ? html`<${Start} model=${chosen} onSay=${(text) => send({ text, photos: [] })} onSee=${setLarge} />`
          : html`<ol class="turns" aria-label="What was said">${turns}${busy && html`<${Coming} live=${live} />`}</ol>`}
        ${waiting && !talk.waits && html`<p class="note" role="status">This was not answered.
          <button onClick=${() => tryAgain({ text: waiting, photos: [] })}>Try again</button></p>`}
        ${notes.map((note) => html`<p class="note" role="note">${note}</p>`)}
        ${problem && html`<p class="problem" role="alert">${problem.told}
          ${problem.again && html`<button onClick=${() => tryAgain(problem.again)}>Try again</button>`}
          <button onClick=${() => setProblem(null)}>Close</button></p>`}
      </div></main>
      <div class="hidden" aria-live="polite">${said}</div>
      <footer id="message">
        <${Compose} busy=${busy} draft=${draft} onSend=${send} onStop=${() => stop.current?.abort()} onProblem=${complain} />
        <p class="fine">${empty ? "Enter sends, Shift+Enter begins a line, Esc stops." : chosen?.showtell.limits}</p>
      </footer>
    </div>
    ${beside === "gallery" && html`<${Gallery} photos=${photos} onSee=${setLarge} onClose=${close} />`}
    ${beside === "album" && html`<${Album} onSee=${setLarge} onClose=${close} />`}
    ${large && html`<${Large} photo=${large} onClose=${() => setLarge(null)} />`}
    ${wantsKey && html`<div class="veil" role="dialog" aria-modal="true" aria-label="A key"><form class="key" onSubmit=${(event) => {
      event.preventDefault();
      api.useKey(new FormData(event.target).get("key"));
      begin();
    }}>
      <label>This server asks for a key<input name="key" type="password" autocomplete="current-password" autofocus /></label>
      <button class="main">Open</button>
    </form></div>`}
  </div>`;
}

render(html`<${App} />`, document.getElementById("app"));
