// The row of small pictures to choose from.

const BADGES = { waiting: "…", asking: "…", failed: "!" };

/** Bring the strip up to date: a button for each picture, whose small picture is `picture.thumb`, a canvas. */
export function showStrip(list, pictures, selected, count, select) {
  list.hidden = pictures.length < 2;
  for (const item of [...list.children]) {
    if (!pictures.some((picture) => picture.item === item)) item.remove();
  }
  for (const picture of pictures) {
    picture.item ??= list.appendChild(makeItem(picture, select));
    const button = picture.item.firstChild;
    const badge = picture.state === "done" ? String(count(picture)) : BADGES[picture.state];
    button.lastChild.textContent = badge;
    button.dataset.state = picture.state;
    button.setAttribute("aria-label", `${picture.name}: ${inWords(picture, badge)}`);
    button.setAttribute("aria-current", String(picture === selected));
  }
}

function makeItem(picture, select) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(picture.thumb, document.createElement("span"));
  button.addEventListener("click", () => select(picture));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function inWords(picture, badge) {
  if (picture.state === "done") return badge === "1" ? "1 face" : `${badge} faces`;
  return picture.state === "failed" ? "failed" : "being examined";
}
