// One song and its predicted curve, moving: the page that `python -m dsaml predict --html` writes.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const root = document.getElementById("dsaml-song"), data = window.dsamlPlayer;
  const { make, x, at, chart, plane, transport } = window.dsamlParts;
  const [song] = data.songs;
  const curve = { values: song.values, sd: song.sd, color: "var(--dp-model)", dash: "" };
  const charts = [0, 1].map((d) => chart(d, 220)), space = plane(), word = make("p", { class: "dp-verdict" });

  const signed = (number) => (number < 0 ? "−" : "+") + Math.abs(number).toFixed(2);
  const moment = (now) => {
    for (const { cursor } of charts) {
      cursor.setAttribute("x1", x(now));
      cursor.setAttribute("x2", x(now));
    }
    space.dots([curve], now);
    const [arousal, valence] = at(curve.values, now), step = Math.min(song.values.length - 1, Math.floor(now / data.step));
    const numbers = [arousal, valence].map((value, d) => signed(value) + (song.sd ? ` ± ${song.sd[step][d].toFixed(2)}` : ""));
    word.textContent = `${valence < 0 ? "unpleasant" : "pleasant"} and ${arousal < 0 ? "calm" : "excited"}: `
      + `arousal ${numbers[0]}, valence ${numbers[1]}`;
  };
  const plays = transport("dp-song", () => {}, moment);
  for (const { svg, name, lines, line, band } of charts) {
    lines.replaceChildren(...(song.sd ? [band(curve)] : []), line(curve));
    svg.setAttribute("aria-label", `${name} over the song: the model's prediction${song.sd ? " and where nine of ten labels are expected" : ""}`);
    svg.addEventListener("click", (event) => {
      const { left, width } = svg.getBoundingClientRect();
      plays.seek(((event.clientX - left) / width) * data.seconds);
    });
  }
  space.svg.setAttribute("aria-label", "valence to the right, arousal upwards, at this moment");
  const shaded = song.sd ? ["Shaded: where the model expects nine of ten labels of one person."] : ["This model gives no uncertainty."];
  const later = data.start ? [`The page begins at ${data.start} s of the song.`] : [];
  root.replaceChildren(
    plays.audio, plays.row, word,
    make("div", { class: "dp-views" }, make("div", {}, ...charts.map(({ figure }) => figure)), space.figure),
    ...[...data.notes, ...shaded, ...later].map((note) => make("p", {}, note)),
  );
  plays.load(song);
});
