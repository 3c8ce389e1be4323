// What pages do beyond forms and links. Every page works without it.
(() => {
  document.documentElement.classList.add("js");

  // Times are written by the server in UTC and shown in the reader's own zone.
  const zone = root => {
    for (const t of root.querySelectorAll("time[datetime]:not([data-shown])")) {
      const at = new Date(t.getAttribute("datetime"));
      if (isNaN(at)) continue;
      t.dataset.shown = "";
      t.title = at.toLocaleString(undefined, { dateStyle: "full", timeStyle: "medium" });
      if (t.dataset.style === "time") {
        t.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
      }
    }
  };

  // A countdown says how long something still lasts.
  const countdown = () => {
    for (const t of document.querySelectorAll("[data-until]")) {
      const left = Math.max(0, Math.round((Date.parse(t.dataset.until) - Date.now()) / 1000));
      const text = t.dataset.unit === "minutes" ? `${Math.ceil(left / 60)} min` : `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
      if (t.textContent !== text) t.textContent = text;
    }
  };

  // A form with data-confirm opens the dialog that names what it touches.
  document.addEventListener("click", event => {
    const opener = event.target.closest("[data-dialog]");
    if (opener) {
      const dialog = document.getElementById(opener.dataset.dialog);
      if (dialog?.showModal) {
        event.preventDefault();
        dialog.showModal();
      }
      return;
    }
    if (event.target.closest("[data-close]")) event.target.closest("dialog")?.close();
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  zone(document);
  countdown();
  setInterval(countdown, 1000);
  for (const name of ["htmx:after:swap", "htmx:after:settle"]) {
    document.addEventListener(name, () => { zone(document); countdown(); });
  }
})();
