// The ways in for files: chosen, dropped anywhere on the page, pasted.

/** Call `take(files)` for whatever comes in, and `refuse(words)` for a drop without files. */
export function listen(input, curtain, take, refuse) {
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // or the same file could not be chosen again
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length > 0) take(files);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault(); // or the browser would open the file instead of this page
    curtain.hidden = !event.dataTransfer.types.includes("Files");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) curtain.hidden = true; // it has left the window, and not one element for another
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    curtain.hidden = true;
    const files = [...event.dataTransfer.files];
    if (files.length > 0) take(files);
    else refuse("That was no file. Save the picture first, then drop the file here.");
  });
}
