// Files are chosen, dropped anywhere on the page, or pasted.

/** Call `take(files)` for the files, and `refuse(message)` for a drop without files. */
export function listen(input, curtain, take, refuse) {
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // otherwise the same file could not be chosen again
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length > 0) take(files);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault(); // otherwise the browser would open the file instead of this page
    curtain.hidden = !event.dataTransfer.types.includes("Files");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) curtain.hidden = true; // it has left the window, not just an element
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    curtain.hidden = true;
    const files = [...event.dataTransfer.files];
    if (files.length > 0) take(files);
    else refuse("That was not a file. Save the picture first, then drop the file here.");
  });
}
