// The API key, if the service requires one. It is kept in memory until the tab is closed.

const line = document.getElementById("key-line");
const field = document.getElementById("key");

/** Return the header with the key, if there is one. */
export function keyHeader() {
  const key = field.value.replace(/[^\x21-\x7e]/g, ""); // only what a header can hold
  return key ? { "X-API-Key": key } : {};
}

/** Show the field for the key, since the service requires one. */
export function askForKey() {
  line.hidden = false;
}

/** Call `changed` when the key changes. */
export function listenToKey(changed) {
  field.addEventListener("change", changed);
}
