// What lies beside a talk: its beginning, the list of talks, all photos of one, the album, a photo large.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact-htm.js";
import * as api from "./api.js";
import { origins, Picture } from "./talk.js";

// Who answers, each with a line of what it can and cannot do.
export function Who({ models, chosen, busy, onChoose }) {
  const [open, setOpen] = useState(false);
  const box = useRef();
  if (!chosen) return null;
  const leave = (event) => !box.current.contains(event.relatedTarget) && setOpen(false);
  function keyed(event) {
    if (event.key !== "Escape" || !open) return;
    setOpen(false);
    box.current.querySelector("button").focus();
  }
  return html`<div class="who" ref=${box} onFocusOut=${leave} onKeyDown=${keyed}>
    <button aria-expanded=${open} disabled=${busy} onClick=${() => setOpen(!open)}>
      <span class="hidden">Who answers: </span>${chosen.id}<span class="down" aria-hidden="true">▾</span></button>
    ${open &&
    html`<ul class="choices">
      ${models.map(
        (each) => html`<li key=${each.id}><button aria-pressed=${each === chosen} onClick=${() => {
          setOpen(false);
          onChoose(each.id);
        }}><b>${each.id}</b><span>${each.showtell.limits}</span></button></li>`,
      )}
    </ul>`}
  </div>`;
}

export function Start({ model, onSay, onSee }) {
  const [photos, setPhotos] = useState([]); // four of the album that it shares from, if it does
  const shares = model?.showtell.album;
  useEffect(() => {
    const some = ({ data }) => data.filter((_, k) => k % Math.ceil(data.length / 4) === 0);
    if (shares) api.album("").then((answer) => setPhotos(some(answer)), () => {});
    else setPhotos([]);
  }, [shares]);
  if (!model) return html`<div class="start"><h1>showtell</h1><p class="quiet">One moment…</p></div>`;
  return html`<div class="start">
    <h1>Say something, or ask to see it.</h1>
    <p>${model.showtell.limits}</p>
    ${photos.length > 0 &&
    html`<div class="strip"><${Grid} photos=${photos} onSee=${onSee} /></div>`}
    <ul class="openings" aria-label="Ways to begin">
      ${model.showtell.openings.slice(0, 4).map(
        (text) => html`<li key=${text}><button onClick=${() => onSay(text)}>${text}</button></li>`,
      )}
    </ul>
  </div>`;
}

export function Talks({ talks, open, onOpen, onDelete, onRename, onExport }) {
  if (talks === null) return html`<p class="quiet">…</p>`;
  if (talks.length === 0) return html`<p class="quiet">What you say is kept on this server, and listed here.</p>`;
  return html`<ul class="talks">
    ${talks.map(
      (each) => html`<li key=${each.id} class=${each.id === open ? "here" : ""}>
        <button class="title" aria-current=${each.id === open ? "page" : null} onClick=${() => onOpen(each.id)}>
          ${each.title || "A conversation"}</button>
        ${each.id === open &&
        html`<div class="acts">
          <button onClick=${() => onRename(each.id, each.title)}>Rename</button>
          <button onClick=${() => onExport(each.id, "html")}>As a page</button>
          <button onClick=${() => onExport(each.id, "jsonl")}>As data</button>
          <button class="danger" onClick=${() => onDelete(each.id)}>Delete</button>
        </div>`}
      </li>`,
    )}
  </ul>`;
}

// Talks that other clients keep themselves: their photos lie here, and can be removed here.
export function Elsewhere() {
  const [kept, setKept] = useState(null);
  const load = () => api.elsewhere().then(setKept, () => setKept([]));
  return html`<details class="elsewhere" onToggle=${(event) => event.target.open && load()}>
    <summary>Photos of other clients</summary>
    ${kept?.length === 0 && html`<p class="quiet">Clients that keep a talk themselves leave its photos here. None has.</p>`}
    <ul>${kept?.map((each) => {
      const when = new Date(each.updated * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      return html`<li key=${each.id}>A talk of ${when}
        <button class="danger" aria-label=${`Delete the photos of the talk of ${when}`}
          onClick=${() => api.remove(each.id).then(load, load)}>Delete</button></li>`;
    })}</ul>
  </details>`;
}

function Beside({ title, onClose, children }) {
  const box = useRef();
  // before anybody can type: focus that comes late would take the keys of what has it by then
  useLayoutEffect(() => {
    const before = document.activeElement;
    box.current.focus();
    return () => before?.focus?.();
  }, []);
  return html`<section class="beside" ref=${box} tabindex="-1" aria-label=${title}
    onKeyDown=${(event) => event.key === "Escape" && onClose()}>
    <div class="head"><h2>${title}</h2>
      <button class="round" aria-label="Close" onClick=${onClose}>×</button></div>
    ${children}
  </section>`;
}

const Grid = ({ photos, onSee, children }) => html`<ul class="grid">
  ${photos.map(
    (photo) => html`<li key=${photo.id}>
      <button class="bare" onClick=${() => onSee(photo)} aria-label=${`See large: ${photo.alt}`}>
        <${Picture} path=${photo.url} alt=${photo.alt} small /></button>
      ${children?.(photo)}
    </li>`,
  )}
</ul>`;

export function Gallery({ photos, onSee, onClose }) {
  return html`<${Beside} title="Photos of this conversation" onClose=${onClose}>
    ${photos.length
      ? html`<${Grid} photos=${photos} onSee=${onSee} />`
      : html`<p class="quiet">None yet. Ask for one, or drop one of yours into the talk.</p>`}
  <//>`;
}

export function Album({ onSee, onClose }) {
  const [query, setQuery] = useState("");
  const [found, setFound] = useState(null);
  const [told, setTold] = useState("");
  const asked = useRef(0); // what comes late of an earlier question is not shown
  const look = (words) => {
    const number = (asked.current += 1);
    const last = (work) => (given) => number === asked.current && work(given);
    return api.album(words).then(last((answer) => {
      setFound(answer);
      setTold(words && !answer.data.length ? `No photo of “${words}”. Say it in other words?` : "");
    }), last((error) => setTold(error.message)));
  };
  useEffect(() => void look(""), []);
  const add = async (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    let [count, said] = [0, ""];
    for (const file of files) {
      setTold(`Adding ${file.name}`);
      await api.addPhoto(file).then(({ new: own }) => (count += own), (error) => (said = error.message));
    }
    await look("");
    setTold(`${count} of ${files.length} added. ${said}`);
  };
  const remove = async (photo) => {
    if (!confirm(`Remove ${photo.caption || "this photo"} from your album for good?`)) return;
    await api.removePhoto(photo.id).then(() => look(query), (error) => setTold(error.message));
  };
  return html`<${Beside} title="Album" onClose=${onClose}>
    ${found && !found.album
      ? html`<p class="quiet">No album is open. Make one of a folder of photos and start the server with it:</p>
        <pre>showtell album add PHOTOS --into DIR
showtell serve --album DIR</pre>`
      : html`<form class="look" onSubmit=${(event) => {
            event.preventDefault();
            look(query);
          }}>
          <input type="search" value=${query} placeholder="A dog at the beach" aria-label="Search the album"
            onInput=${(event) => setQuery(event.target.value)} />
          <button>Search</button>
        </form>
        ${found?.adds && html`<label class="pick">Add to my album
          <input type="file" accept="image/*" multiple onChange=${add} /></label>`}
        <p class="quiet" role="status">${told}</p>
        ${found && html`<${Grid} photos=${found.data} onSee=${onSee}>
          ${(photo) => html`${photo.score != null && html`<span class="quiet">${photo.score.toFixed(2)}</span>`}
            ${photo.own && html`<button class="quiet" onClick=${() => remove(photo)}
              aria-label=${`Remove ${photo.alt}`}>Remove</button>`}`}
        <//>`}`}
  <//>`;
}

export function Large({ photo, onClose }) {
  const box = useRef();
  useEffect(() => {
    box.current.showModal();
  }, []);
  return html`<dialog class="large" ref=${box} onClose=${onClose} aria-label=${photo.alt}
    onClick=${(event) => event.target === box.current && box.current.close()}>
    <${Picture} path=${photo.url} alt=${photo.alt} />
    <p>${photo.caption} <span class="quiet">${origins[photo.origin]}</span></p>
    <button class="round" aria-label="Close" onClick=${() => box.current.close()}>×</button>
  </dialog>`;
}
