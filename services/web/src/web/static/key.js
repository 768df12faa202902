// The API key, where the service asks for one. It stays in this tab's memory, and is gone when the tab is.

const line = document.getElementById("key-line");
const field = document.getElementById("key");

/** Give the header that says the key, if there is one. */
export function keyHeader() {
  const key = field.value.replace(/[^\x21-\x7e]/g, ""); // of what was pasted, that which a header can hold
  return key ? { "X-API-Key": key } : {};
}

/** Show the field for the key: the service has refused a request for want of one. */
export function askForKey() {
  line.hidden = false;
}

/** Call `changed` when there is another key. */
export function listenToKey(changed) {
  field.addEventListener("change", changed);
}
