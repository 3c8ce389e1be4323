// What the wizard does beyond forms and links: copying the device code, and
// finding and selecting accounts. Every page works without it.
(() => {
  document.documentElement.classList.add("js");

  async function copy(button) {
    const text = document.querySelector(button.dataset.copy)?.textContent.trim();
    if (!text) return;
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.querySelector(button.dataset.copy));
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  }

  const boxes = form => [...form.querySelectorAll("tbody input[type=checkbox]")];
  const shown = box => !box.closest("tr").hidden;

  function count(form) {
    const all = boxes(form), chosen = all.filter(b => b.checked).length;
    const visible = all.filter(shown), picked = visible.filter(b => b.checked).length;
    form.querySelector("[data-count]").textContent = `${chosen} of ${all.length} selected`;
    const every = form.querySelector("[data-all]");
    every.checked = visible.length > 0 && picked === visible.length;
    every.indeterminate = picked > 0 && picked < visible.length;
  }

  function filter(form, words) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of form.querySelectorAll("tbody tr")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every(w => text.includes(w));
    }
    count(form);
  }

  document.addEventListener("click", event => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
    if (event.target.closest("[data-print]")) window.print();
  });
  document.addEventListener("input", event => {
    const form = event.target.closest("[data-accounts]");
    if (form && event.target.matches("[data-filter]")) filter(form, event.target.value);
  });
  document.addEventListener("change", event => {
    const form = event.target.closest("[data-accounts]");
    if (!form) return;
    if (event.target.matches("[data-all]")) {
      boxes(form).filter(shown).forEach(b => { b.checked = event.target.checked; });
    }
    count(form);
  });
  document.addEventListener("keydown", event => {
    // Enter in the filter finds; it does not send the form.
    if (event.key === "Enter" && event.target.matches("[data-filter]")) event.preventDefault();
  });
})();
