// Passkeys: asks the server what is wanted, the browser for it, and sends what
// it answers with the form. Without scripts the forms are not shown.
(() => {
  document.addEventListener("submit", event => {
    const form = event.target.closest("form[data-passkey]");
    if (!form || form.elements.credential.value) return;
    event.preventDefault();
    event.stopPropagation();
    answer(form).catch(error => {
      const line = form.querySelector("[data-passkey-error]");
      line.textContent = error.name === "NotAllowedError" ? "Nothing was confirmed, or it took too long. Try again." : "This did not work: " + error.message;
      line.hidden = false;
    });
  }, true);

  async function answer(form) {
    if (!window.PublicKeyCredential?.parseCreationOptionsFromJSON) throw new Error("this browser has no passkeys.");
    const asked = await fetch(form.dataset.begin, { method: "POST", headers: { Accept: "application/json" } });
    if (asked.status === 403) return form.submit(); // the server asks first who it is, and keeps what was typed
    if (!asked.ok) throw new Error("the server did not answer. Reload the page.");
    const { publicKey } = await asked.json();
    const credential = form.dataset.passkey === "create"
      ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(publicKey) })
      : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(publicKey) });
    form.elements.credential.value = JSON.stringify(credential.toJSON());
    form.submit();
  }
})();
