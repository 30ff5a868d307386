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
  // the children of a list are its items
  document.querySelectorAll(".citation-list > *").forEach((entry) => entry.setAttribute("role", "listitem"));
});
