// The side of the page: conversations, when photos come, colours. On a phone it is a drawer.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact-htm.js";

// "" is as the system has it.
export function useTheme() {
  const [theme, setTheme] = useState(localStorage.getItem("theme") || "");
  useEffect(() => {
    localStorage.setItem("theme", theme);
    document.documentElement.dataset.theme = theme;
  }, [theme]);
  return [theme, setTheme];
}

export function Side({ open, dial, theme, onDial, onTheme, onNew, onClose, children }) {
  const first = useRef();
  useLayoutEffect(() => {
    if (!open) return;
    const before = document.activeElement;
    first.current.focus();
    return () => before?.focus?.();
  }, [open]);
  return html`${open && html`<div class="shade" onClick=${onClose} />`}
    <nav class="side ${open ? "open" : ""}" aria-label="Conversations"
      onKeyDown=${(event) => open && event.key === "Escape" && onClose()}>
      <div class="brand"><img src="icon.svg" alt="" /><span>showtell</span>
        <button class="round close" aria-label="Close" onClick=${onClose}>×</button></div>
      <button class="new" ref=${first} onClick=${onNew}>New conversation</button>
      ${children}
      <div class="set">
        <label>When photos come
          <select value=${dial?.dial ?? "proactive"} onChange=${(event) => onDial(event.target.value)}>
            <option value="proactive">when they fit</option>
            <option value="offer">offered in words first</option>
            <option value="asked">only when I ask</option>
          </select></label>
        <label>Colours
          <select value=${theme} onChange=${(event) => onTheme(event.target.value)}>
            <option value="">as the system</option>
            <option value="light">light</option>
            <option value="dark">dark</option>
          </select></label>
      </div>
    </nav>`;
}
