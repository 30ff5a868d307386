// Two things that screen readers stumble over in the theme and in the bibliography.
document.addEventListener("DOMContentLoaded", () => {
  // the name of the search button is the text that it shows
  document.querySelectorAll(".search-button-field").forEach((button) => button.removeAttribute("aria-label"));
  // the colour switch shows no text, so its label must not look like one that contradicts it
  document.querySelectorAll(".theme-switch-button svg").forEach((icon) => icon.setAttribute("aria-hidden", "true"));
  // the children of a list are its items
  document.querySelectorAll(".citation-list > *").forEach((entry) => entry.setAttribute("role", "listitem"));
});
