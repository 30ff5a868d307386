// What screen readers stumble over in the theme and in the bibliography.
document.addEventListener("DOMContentLoaded", () => {
  // the search button and the heads of hidden cells are named by the text that they show
  document.querySelectorAll(".search-button-field, details.hide > summary").forEach((one) => one.removeAttribute("aria-label"));
  // the colour switch shows no text: the titles that its icons get later must not contradict its label
  document.querySelectorAll(".theme-switch-button").forEach((button) => {
    const quiet = () =>
      button.querySelectorAll("svg:not([aria-hidden])").forEach((icon) => {
        icon.setAttribute("aria-hidden", "true");
        icon.removeAttribute("role");
        icon.querySelectorAll("title").forEach((title) => title.remove());
      });
    quiet();
    new MutationObserver(quiet).observe(button, { childList: true, subtree: true });
  });
  // what opens a part of the table of contents shows an arrow alone
  document.querySelectorAll("nav summary").forEach((summary) => {
    if (!summary.textContent.trim()) summary.setAttribute("aria-label", "show or hide the pages below");
  });
  // the children of a list are its items
  document.querySelectorAll(".citation-list > *").forEach((entry) => entry.setAttribute("role", "listitem"));
  // figures that are wide: in a frame that can scroll; small pictures stay as they are
  document.querySelectorAll("article img").forEach((picture) => {
    if (picture.closest("a, .figure-frame, .no-frame") || !/^data:image|\.svg|\.png/.test(picture.getAttribute("src"))) return;
    const frame = document.createElement("div");
    frame.className = "figure-frame";
    picture.replaceWith(frame);
    frame.append(picture);
  });
  // tables and equations without a frame get one
  document.querySelectorAll("article table").forEach((table) => {
    if (table.closest(".pst-scrollable-table-container, .output, .dp-scroll, .figure-frame")) return;
    const frame = document.createElement("div");
    frame.className = "figure-frame";
    table.replaceWith(frame);
    frame.append(table);
  });
  const frames = ".figure-frame, .pst-scrollable-table-container, .cell_output .output, .dp-scroll, article div.math";
  const mark = () => document.querySelectorAll(frames).forEach((frame) => {
    frame.classList.remove("scrolls");
    const wide = frame.scrollWidth > frame.clientWidth + 1;
    frame.classList.toggle("scrolls", wide);
    if (!wide) return;
    frame.tabIndex = 0;
    frame.setAttribute("role", "region");
    if (!frame.hasAttribute("aria-label")) frame.setAttribute("aria-label", "wider than the page: scroll sideways");
  });
  mark();
  addEventListener("load", mark);
  addEventListener("resize", mark);
  new MutationObserver(mark).observe(document.querySelector("article") ?? document.body, { childList: true, subtree: true });
});
