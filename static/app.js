// What pages do beyond forms and links: menus and tooltips that close,
// confirmations in a dialog, countdowns, times in the reader's own zone.
// Every page works without it.
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // Times stand in the page as UTC; here they become the reader's own.
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  function localTimes(within) {
    for (const t of within.querySelectorAll("time[data-local]")) {
      const at = new Date(t.dateTime);
      if (isNaN(at)) continue;
      if (t.dataset.local === "text") t.textContent = full.format(at);
      t.title = full.format(at);
    }
  }

  // <span data-countdown="2026-11-23T10:00:00Z" data-unit="minutes">
  function countdowns() {
    for (const el of document.querySelectorAll("[data-countdown]")) {
      const left = Math.max(0, new Date(el.dataset.countdown) - Date.now());
      const minutes = Math.floor(left / 60000), seconds = Math.floor(left / 1000) % 60;
      el.textContent = el.dataset.unit === "minutes" ? `${Math.ceil(left / 60000)} min` : `${minutes}:${String(seconds).padStart(2, "0")}`;
      if (left === 0 && el.dataset.then) location.assign(el.dataset.then);
    }
  }
  setInterval(countdowns, 1000);

  function closeMenus(except) {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (menu !== except) menu.open = false;
  }

  // A link with data-dialog leads to a page that asks; here it asks in a dialog.
  async function ask(link) {
    const dialog = document.getElementById("dialog");
    const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
    const asked = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-question]");
    if (!answer.ok || !asked) return location.assign(link.href);
    dialog.replaceChildren(document.adoptNode(asked));
    window.htmx?.process(dialog);
    dialog.returnFocus = link;
    dialog.showModal();
  }

  document.addEventListener("click", event => {
    const link = event.target.closest("a[data-dialog]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      closeMenus();
      ask(link).catch(() => location.assign(link.href));
      return;
    }
    if (event.target.closest("dialog [data-close]")) {
      event.preventDefault();
      event.target.closest("dialog").close();
      return;
    }
    if (event.target.matches("dialog")) event.target.close(); // beside it
    closeMenus(event.target.closest("details.menu"));
  });

  document.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
    for (const tip of document.querySelectorAll(".tip:hover, .tip:focus-within")) tip.classList.add("closed");
  });
  for (const name of ["mouseout", "focusout"]) {
    document.addEventListener(name, event => {
      const tip = event.target.closest?.(".tip.closed");
      if (tip && !tip.contains(event.relatedTarget)) tip.classList.remove("closed");
    });
  }

  // What a live part of a page replaces keeps its open menus.
  window.htmx?.registerExtension?.("holdfast-open", {
    htmx_before_morph_attr: (elt, detail) => !(elt.tagName === "DETAILS" && detail?.attrName === "open"),
  });

  // A page that htmx put in place starts as one that was loaded: at its top,
  // with the focus before its content.
  document.addEventListener("htmx:after:swap", event => {
    localTimes(document);
    if (event.detail?.ctx?.target === document.body) {
      const main = document.querySelector("main");
      if (main && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
  });

  localTimes(document);
  countdowns();
})();
