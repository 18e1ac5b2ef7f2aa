// Keeps a page as it is now: whenever something was committed, and every few seconds for what only grows old, the same
// address is asked again, and what has changed of it takes the place of what is shown. Without this file the page is
// the same, as of when it was loaded.
"use strict";

(() => {
  const LEAST_MS = 2000;               // between two askings, and for so long a reading serves all (shared.py)
  const every = 1000 * Number(document.getElementById("main").dataset.every || 3);
  let stream = null, asking = false, again = false, changed = false, askedAt = 0, timer = null, failed = false;

  function say(text, state) {
    const place = document.getElementById("liveness");
    if (place) { place.textContent = text; place.className = state; }
  }

  // What a reader has opened stays open, where he is he stays, and what he marks is not taken away under his hand.
  function isMarked(element) {
    const marked = window.getSelection();
    return marked && !marked.isCollapsed && element.contains(marked.anchorNode);
  }

  function isTouched(one) {
    if (one.type === "hidden") return false;
    if (one.type === "checkbox") return one.checked !== one.defaultChecked;
    if (one.tagName !== "SELECT") return one.value !== one.defaultValue;
    return one.selectedIndex !== Math.max([...one.options].findIndex((choice) => choice.defaultSelected), 0);
  }

  function replace(old, fresh) {
    const open = new Set([...old.querySelectorAll("details[open]")].map((one) => one.dataset.key));
    for (const one of fresh.querySelectorAll("details")) if (open.has(one.dataset.key)) one.open = true;
    if (old.innerHTML === fresh.innerHTML || isMarked(old)) return;
    if (old.querySelector("form") && (old.contains(document.activeElement) ||
      [...old.querySelectorAll("input, select, textarea")].some(isTouched))) return;   // somebody fills in a form
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const path = focused && pathOf(focused, old);
    old.replaceChildren(...fresh.childNodes);
    if (path) old.querySelector(path)?.focus({ preventScroll: true });
  }

  function pathOf(element, root) {
    const parts = [];
    for (let one = element; one !== root; one = one.parentElement) {
      parts.unshift(`:nth-child(${1 + [...one.parentElement.children].indexOf(one)})`);
    }
    return `:scope > ${parts.join(" > ")}`;
  }

  async function ask() {
    timer = null;
    if (document.hidden) return;
    if (asking) { again = true; return; }
    const settles = changed;        // what others have read a moment ago may be of before the change: once more then
    changed = false;
    asking = true;
    askedAt = Date.now();
    try {
      const headers = { Accept: "text/html", "Corro-Again": "1" };   // what others with this page open have read will do
      const answer = await fetch(location.href, { headers, signal: AbortSignal.timeout(15000) });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const here = new Set([...document.querySelectorAll("[data-live]")].map((one) => one.id));
      const there = [...fresh.querySelectorAll("[data-live]")].map((one) => one.id);
      if (there.some((id) => !here.has(id))) {                // it has become another page: the record is gone, or back
        document.getElementById("main").replaceChildren(...fresh.getElementById("main").childNodes);
      }
      for (const id of here) {
        const one = fresh.getElementById(id), old = document.getElementById(id);
        if (one && old) replace(old, one);
      }
      document.title = fresh.title;
      failed = false;
      say(stream && stream.readyState === EventSource.OPEN ? "live" : "every few seconds", "good");
    } catch (error) {
      failed = true;
      say("the server does not answer: what is shown is old", "bad");
    } finally {
      asking = false;
      plan(again ? 0 : settles ? LEAST_MS + 200 : every);
      again = false;
    }
  }

  function plan(inMs) {
    const at = Math.max(inMs, askedAt + LEAST_MS - Date.now());
    if (timer !== null) clearTimeout(timer);
    timer = setTimeout(ask, at);
  }

  // A hidden page holds no connection: a browser has six for an address.
  function listen() {
    if (document.hidden) {
      if (stream) stream.close();
      stream = null;
      return;
    }
    if (stream) return;
    stream = new EventSource("/changes");
    stream.onmessage = () => { changed = true; plan(0); };
    stream.onerror = () => { if (failed) say("the server does not answer: what is shown is old", "bad"); };
    plan(0);
  }

  document.addEventListener("visibilitychange", listen);
  window.addEventListener("pagehide", () => { if (stream) stream.close(); stream = null; });
  window.addEventListener("pageshow", listen);
  listen();
})();
