// What was said: turns, photos with what one can do with them, and why they came.

import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact-htm.js";
import { marked } from "./vendor/marked.js";
import DOMPurify from "./vendor/purify.js";
import * as api from "./api.js";

// Model text is markdown of strangers: no picture of it is loaded, no style, no form.
const clean = {
  ALLOWED_TAGS: ["p", "br", "em", "strong", "del", "code", "pre", "ul", "ol", "li", "blockquote", "a"],
  ALLOWED_ATTR: ["href"],
};
const literal = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
marked.use({ renderer: { html: ({ text }) => literal(text), image: ({ text }) => literal(text) } });
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("rel", "noopener noreferrer nofollow");
    node.setAttribute("target", "_blank");
  }
});

export function Text({ children }) {
  const text = String(children);
  const safe = useMemo(() => DOMPurify.sanitize(marked.parse(text, { breaks: true }), clean), [text]);
  return html`<div class="text" dangerouslySetInnerHTML=${{ __html: safe }} />`;
}

const percent = (chance) => (chance == null ? "unknown" : `${(100 * chance).toFixed(chance < 0.1 ? 1 : 0)}%`);

export function Why({ decision, photo, hits = [] }) {
  const box = useRef();
  useEffect(() => box.current?.scrollIntoView({ block: "nearest" }), []);
  if (!decision) return null;
  const chance = decision.chance ?? decision.p_share;
  return html`<dl class="why" ref=${box}>
    ${decision.reason && html`<dt>Reason</dt><dd>${decision.reason}</dd>`}
    <dt>Chance of a photo</dt>
    <dd>
      ${percent(chance)}${decision.threshold != null &&
      html` <span class="quiet">shared from ${percent(decision.threshold)} on</span>`}
      ${chance != null &&
      html`<meter min="0" max="1" value=${chance} aria-label="chance of a photo">${percent(chance)}</meter>`}
    </dd>
    ${hits.length > 0 &&
    html`<dt>Found in the album</dt>
      <dd>
        <ol class="hits">
          ${hits.map(
            (hit) => html`<li key=${hit.id}>
              <${Picture} path=${`/v1/album/${encodeURIComponent(hit.id)}`} alt="" small />
              <span>${hit.score.toFixed(2)}</span>
            </li>`,
          )}
        </ol>
      </dd>`}
    ${photo?.origin === "painted" &&
    html`<dt title="The gradient by which this photo would train the model's words">What the photo asks of each word</dt>
      <dd><${Words} photo=${photo} /></dd>`}
  </dl>`;
}

// What the photo's loss would ask of each word: shown when it is asked for, since it takes a second.
function Words({ photo }) {
  const [told, setTold] = useState(null);
  const ask = () => {
    setTold("One moment…");
    api.pulls(photo.id).then(setTold, (error) => setTold(error.message));
  };
  if (told === null) return html`<button onClick=${ask}>Show</button>`;
  if (typeof told === "string") return html`<span class="quiet" role="status">${told}</span>`;
  const most = Math.max(...told.map(({ share }) => share));
  return html`<ol class="pulls">${told.map(
    ({ word, share }, k) => html`<li key=${k}><span>${word}</span>
      <meter min="0" max=${most} value=${share} aria-label=${`share of “${word}”`} />
      <span class="quiet">${percent(share)}</span></li>`,
  )}</ol>`;
}

export function Picture({ path, alt, small, onLoad }) {
  const [src, setSrc] = useState(); // null would be set as "", and that is an error of the image
  const [tiny, setTiny] = useState(false);
  const [gone, setGone] = useState(false);
  useEffect(() => {
    let still = true;
    setGone(false);
    if (path) api.source(path).then((found) => still && setSrc(found), () => still && setGone(true));
    return () => (still = false);
  }, [path]);
  if (!path || gone) return html`<span class="gone">${small ? "" : "This photo is not here any more."}</span>`;
  return html`<img
    class=${tiny ? "tiny" : ""}
    src=${src}
    alt=${alt}
    decoding="async"
    onError=${() => setGone(true)}
    onLoad=${(event) => {
      setTiny(event.target.naturalWidth <= 128);
      onLoad?.();
    }}
  />`;
}

export const origins = { user: "Yours", album: "From the album", painted: "Painted" };

export function Photo({ photo, decision, vote, busy, onVote, onAgain, onSee }) {
  const [open, setOpen] = useState(null); // "why" or "edit"
  const [words, setWords] = useState(photo.caption);
  const toggle = (name) => setOpen(open === name ? null : name);
  const field = useRef();
  useEffect(() => {
    if (open === "edit") field.current?.focus();
  }, [open]);
  if (photo.origin === "user") {
    return html`<figure class="photo mine">
      <button class="bare" onClick=${() => onSee(photo)} aria-label="See this photo large">
        <${Picture} path=${photo.url} alt=${photo.alt || "a photo of yours"} />
      </button>
    </figure>`;
  }
  return html`<figure class="photo ${photo.origin}">
    <button class="bare" onClick=${() => onSee(photo)} aria-label=${`See large: ${photo.alt}`}>
      <${Picture} path=${photo.url} alt=${photo.alt} />
    </button>
    <figcaption>
      <span class="tag">${origins[photo.origin]}</span>
      ${photo.caption && html`<span class="caption">${photo.caption}</span>`}
      ${photo.seed != null && html`<span class="quiet">seed ${photo.seed}</span>`}
    </figcaption>
    <div class="acts" role="group" aria-label="About this photo">
      <button aria-pressed=${vote === 1} title="A good photo"
        onClick=${() => onVote(photo, vote === 1 ? "none" : "up")}>Like</button>
      <button aria-pressed=${vote === -1} title="I did not want this photo"
        onClick=${() => onVote(photo, vote === -1 ? "none" : "down")}>Not this</button>
      <button aria-expanded=${open === "why"} onClick=${() => toggle("why")}>Why?</button>
      <button aria-expanded=${open === "edit"} onClick=${() => toggle("edit")}>
        ${photo.origin === "painted" ? "Edit and paint" : "Look for another"}
      </button>
    </div>
    ${open === "why" && html`<${Why} decision=${decision} photo=${photo} hits=${photo.hits} />`}
    ${open === "edit" &&
    html`<form class="edit" onSubmit=${(event) => {
      event.preventDefault();
      setOpen(null);
      onAgain(words);
    }}>
      <label>What it should show
        <textarea ref=${field} rows="2" value=${words} maxlength="2000"
          onInput=${(event) => setWords(event.target.value)} />
      </label>
      <button class="main" disabled=${busy || !words.trim()}>
        ${photo.origin === "painted" ? "Paint it" : "Look"}
      </button>
    </form>`}
  </figure>`;
}

export function Turn({ turn, votes, busy, onVote, onAgain, onSee }) {
  const [why, setWhy] = useState(false);
  const agent = turn.speaker === "agent";
  const hasPhoto = turn.elements.some((each) => each.type === "photo");
  return html`<li class="turn ${turn.speaker}">
    <span class="hidden">${agent ? "showtell:" : "You:"}</span>
    ${turn.elements.map((each) =>
      each.type === "text"
        ? html`<${Text}>${each.text}<//>`
        : html`<${Photo} key=${each.id} photo=${each} decision=${turn.decision} vote=${votes[each.id]}
            busy=${busy} onVote=${onVote} onAgain=${onAgain} onSee=${onSee} />`,
    )}
    ${agent && turn.decision && !hasPhoto &&
    html`<button class="whynot" aria-expanded=${why} onClick=${() => setWhy(!why)}>why no photo?</button>
      ${why && html`<${Why} decision=${turn.decision} />`}`}
  </li>`;
}

// The answer that is on its way: its turns so far, and a card for the photo that was decided on.
export function Coming({ live }) {
  const { due } = live;
  return html`<li class="turn agent coming">
    ${live.text.split("\n").filter(Boolean).map((line) => html`<${Text}>${line}<//>`)}
    ${!live.text && !due && html`<span class="dots" aria-label="showtell is thinking"><i /><i /><i /></span>`}
    ${due &&
    html`<figure class="photo card" aria-label="A photo is on its way">
      ${due.url ? html`<img class="preview tiny" src=${due.url} alt="" />` : html`<div class="blank" />`}
      <figcaption>
        <span class="tag">A photo is on its way</span>
        ${due.of > 1 && html`<progress max=${due.of} value=${due.step}>${due.step}/${due.of}</progress>`}
      </figcaption>
    </figure>`}
  </li>`;
}
