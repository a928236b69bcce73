// Asks the browser for a passkey, and sends its answer by the form that the button stands in.
"use strict";

const problem = (button, text) => {
  const place = button.form.querySelector("[data-passkey-problem]");
  place.textContent = text;
  place.hidden = text === "";
};

const optionsOf = async (button) => {
  if (button.dataset.passkeyOptions) return JSON.parse(button.dataset.passkeyOptions);
  const answer = await fetch(button.dataset.passkeyOptionsUrl, { method: "POST", headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
};

const use = async (button) => {
  problem(button, "");
  button.disabled = true;
  try {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(await optionsOf(button));
    const credential = await navigator.credentials.get({ publicKey });
    button.form.elements.passkey.value = JSON.stringify(credential);
    button.form.submit();
  } catch (error) {
    // Cancelled, timed out, or none is here: browsers do not tell which.
    const cancelled = error.name === "NotAllowedError";
    problem(button, cancelled ? "No passkey was used. Try again, or log in another way." : "That did not work. Load this page again.");
    button.disabled = false;
  }
};

if (window.PublicKeyCredential?.parseRequestOptionsFromJSON) {
  for (const button of document.querySelectorAll("button[data-passkey]")) {
    button.closest("[data-passkey-box]").hidden = false;
    button.addEventListener("click", () => use(button));
  }
}
