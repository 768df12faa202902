// The row of small pictures to choose from.

const BADGES = { waiting: "…", asking: "…", failed: "!" };

/** Make a picture's place in the strip, a list item with a button around `picture.thumb`. */
export function makeItem(picture, select) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(picture.thumb, document.createElement("span"));
  button.addEventListener("click", () => select(picture));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

/** Bring a picture's place up to date, with its number of faces. */
export function showItem({ item, name, state }, faces, isSelected) {
  const button = item.firstChild;
  button.lastChild.textContent = state === "done" ? faces : BADGES[state];
  button.dataset.state = state;
  button.setAttribute("aria-label", `${name}: ${inWords(state, faces)}`);
  button.setAttribute("aria-current", String(isSelected));
}

function inWords(state, faces) {
  if (state === "done") return faces === 1 ? "1 face" : `${faces} faces`;
  return state === "failed" ? "failed" : "being examined";
}
