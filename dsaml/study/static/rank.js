// Four curves without names, the song, and ranks that are given once each. Curves: the step's data; charts: parts.js.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const { make, x, y, chart, transport } = window.dsamlParts;
  const [song] = window.dsamlPlayer.songs, root = document.getElementById("song"), said = document.getElementById("said");
  const LOOKS = [["#0173b2", ""], ["#9a5b00", "14 4"], ["#027a5a", "4 4"], ["#b0479c", "14 4 3 4"]]; // told apart without colour too
  const letter = (k) => String.fromCharCode(65 + k);
  const charts = [0, 1].map((d) => chart(d, 220));
  for (const { d, name, height, svg, figure, lines, line } of charts) {
    const curves = song.curves.map((values, k) => {
      const [color, dash] = LOOKS[k], at = Math.round(values.length * (0.25 + 0.2 * k)); // letters beside each other
      const place = { x: x(at * window.dsamlPlayer.step), y: Math.max(24, y(values[at][d], height) - 6), style: `color: ${color}` };
      return make("g", {}, line({ values, color, dash }), make("text", { ...place, class: "letter" }, letter(k)));
    });
    lines.replaceChildren(...curves);
    svg.setAttribute("aria-label", `${name} over the song, curves ${song.curves.map((_, k) => letter(k)).join(", ")}`);
    figure.querySelector("figcaption").remove();
    document.querySelector(`[data-chart="${name}"]`).append(figure);
  }
  document.querySelectorAll("[data-swatch]").forEach((place) => {
    const [color, dash] = LOOKS[place.dataset.swatch];
    place.append(make("svg", { viewBox: "0 0 36 8", class: "dp-swatch", "aria-hidden": "true" },
      make("path", { d: "M0,4L36,4", style: `color: ${color}`, "stroke-dasharray": dash, class: "dp-line" })));
  });

  const plays = transport("song", () => {}, (now) => {
    for (const { cursor } of charts) {
      cursor.setAttribute("x1", x(now));
      cursor.setAttribute("x2", x(now));
    }
  });
  const fieldsets = document.querySelectorAll("fieldset.ranks");
  const open = () => fieldsets.forEach((fieldset) => { fieldset.disabled = false; });
  if (document.querySelector(".ranks input:checked")) open(); // it was heard before a reload
  plays.audio.addEventListener("ended", open);
  plays.audio.addEventListener("error", () => {
    if (!plays.audio.getAttribute("src")) return;
    said.textContent = "Your browser cannot play the song. Please try another browser.";
  });
  fieldsets.forEach((fieldset) => fieldset.addEventListener("change", ({ target }) => {
    fieldset.querySelectorAll("input:checked").forEach((other) => {
      if (other !== target && other.value === target.value) other.checked = false; // each rank once
    });
  }));
  root.replaceChildren(plays.audio, plays.row);
  plays.load(song);
});
