// Run in a built page by test_pages_in_browser.py: what is cut, what is hidden, what scrolls without saying so. Returns sentences.
() => {
  const name = (one) => {
    const text = one.textContent.trim().replace(/\s+/g, " ").slice(0, 50);
    return `${one.tagName.toLowerCase()}${one.className && one.getAttribute("class") ? `.${one.getAttribute("class").split(" ").join(".")}` : ""} "${text}"`;
  };
  const found = [], wide = innerWidth >= 1000, article = document.querySelector("article") ?? document.body;
  if (document.scrollingElement.scrollWidth > innerWidth) found.push(`the page is ${document.scrollingElement.scrollWidth} px wide`);
  const scrolls = (one) => ["auto", "scroll"].includes(getComputedStyle(one).overflowX);
  for (const pre of article.querySelectorAll("pre")) {
    if (wide && pre.checkVisibility() && pre.scrollWidth > pre.clientWidth + 1) found.push(`code is cut: ${name(pre)}`);
  }
  for (const one of article.querySelectorAll("*")) {
    if (!one.checkVisibility() || one.closest("svg, mjx-assistive-mml, .visually-hidden, .sr-only, .MathJax, pre") !== null) continue;
    const { right, left, width } = one.getBoundingClientRect();
    let box = one.parentElement, cut = null;
    for (; box && box !== document.body && !cut; box = box.parentElement) {
      if (scrolls(box)) { // what it holds can be reached
        if (box.scrollWidth > box.clientWidth + 1 && (box.tabIndex < 0 || !box.classList.contains("scrolls"))) {
          found.push(`scrolls without a hint: ${name(box)}`);
        }
        break;
      }
      if (getComputedStyle(box).overflowX !== "visible") cut = box.getBoundingClientRect();
    }
    if (!box || box === document.body) cut ??= { left: 0, right: innerWidth };
    if (cut && width > 1 && (right > cut.right + 1 || left < cut.left - 1)) found.push(`wider than what holds it: ${name(one)}`);
  }
  for (const picture of article.querySelectorAll("img")) {
    if (picture.checkVisibility() && picture.complete && !picture.naturalWidth) found.push(`a picture is missing: ${picture.alt}`);
  }
  return [...new Set(found)];
}
