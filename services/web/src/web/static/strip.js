// The row of thumbnails to choose from.

const BADGES = { waiting: "…", asking: "…", failed: "!" };

/** Create an image's list item, with a button around `image.thumb`. */
export function makeItem(image, select) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(image.thumb, document.createElement("span"));
  button.addEventListener("click", () => select(image));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

/** Update an image's list item, with its number of faces. */
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
