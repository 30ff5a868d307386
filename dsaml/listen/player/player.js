// The book's player: a song, the curves of its listeners and of the model, and one moment that all views show.
// Data: data.js, written by dsaml/experiment/player.py. Waveform: wavesurfer.js, if it came with the book.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const root = document.getElementById("dsaml-player"), data = window.dsamlPlayer;
  if (!root) return;
  if (!data) {
    root.textContent = "The player's data are missing: build the book with 'make book'.";
    return;
  }
  const { WIDTH, make, x, chart, plane, transport, table } = window.dsamlParts;
  const COLORS = ["#0173b2", "#9a5b00", "#027a5a", "#b0479c", "#8a5a2b"]; // dark enough for text on white
  const shown = new Set(["average", "own 0", "own 4"]); // what is drawn at first: two who differ, and the average
  const charts = [0, 1].map((d) => chart(d, 150)), space = plane(), curvesTable = table("curves to show");
  const wave = make("div", { class: "dp-wave" });
  let song = data.songs[0], surfer = null;

  // Every curve that can be drawn: {key, label, values, color, dash}
  const curves = () => {
    const all = [
      { key: "average", label: "average listener", values: song.average, color: "inherit", dash: "" },
      { key: "before", label: "model before", values: song.before, color: "inherit", dash: "2 4" },
    ];
    song.shown.forEach(({ id, after }, k) => {
      all.push({ key: `own ${k}`, label: id, values: song.listeners[id], color: COLORS[k], dash: "" });
      all.push({ key: `after ${k}`, label: `model for ${id}`, values: after, color: COLORS[k], dash: "7 4" });
    });
    return all;
  };
  const visible = () => curves().filter((curve) => shown.has(curve.key));

  const drawMoment = (now) => {
    for (const { cursor } of charts) {
      cursor.setAttribute("x1", x(now));
      cursor.setAttribute("x2", x(now));
    }
    space.dots(visible(), now);
  };
  const drawLines = () => {
    const names = visible().map((curve) => curve.label).join(", ") || "no curve chosen";
    for (const { name, svg, lines, line } of charts) {
      svg.setAttribute("aria-label", `${name} over the song: ${names}`);
      lines.replaceChildren(...visible().map(line));
    }
    space.svg.setAttribute("aria-label", `valence to the right, arousal upwards, at this moment: ${names}`);
  };

  const box = (key, label) => {
    const input = make("input", { type: "checkbox", "data-curve": key, "aria-label": label });
    input.checked = shown.has(key);
    input.addEventListener("change", () => {
      if (input.checked) shown.add(key);
      else shown.delete(key);
      drawLines();
      plays.moment();
    });
    return input;
  };
  const drawTable = () => {
    const everybody = make("th", { scope: "row" }, "everybody");
    const rows = song.shown.map(({ id, support, ccc_before: before, ccc_after: after }, k) => {
      const look = { scope: "row", style: `color: ${COLORS[k]}`, title: `personalized on song ${support}` };
      const boxes = [box(`own ${k}`, `own curve of ${id}`), box(`after ${k}`, `model personalized for ${id}`)];
      return [make("th", look, `● ${id}`), ...boxes, before.toFixed(2), after.toFixed(2)];
    });
    curvesTable.fill(
      ["listener", "own curve ━", "model for them ╍", "CCC before", "after"],
      [[everybody, box("average", "average listener"), box("before", "model before personalization"), "", ""], ...rows]);
  };

  const plays = transport("dp-player", (next) => {
    song = next;
    if (surfer) surfer.destroy();
    wave.replaceChildren();
    surfer = window.WaveSurfer
      ? WaveSurfer.create({
        container: wave, media: plays.audio, peaks: [song.peaks], duration: data.seconds, height: 56, dragToSeek: true,
        waveColor: "#8a8a8a", progressColor: "#0173b2", cursorColor: "#c03030", normalize: true,
      })
      : null;
    drawTable();
    drawLines();
  }, drawMoment);
  for (const { svg } of charts) {
    svg.addEventListener("click", (event) => {
      const { left, width } = svg.getBoundingClientRect();
      plays.seek(((event.clientX - left) / width) * data.seconds);
    });
  }

  root.replaceChildren(
    plays.songs, plays.audio, wave, plays.row,
    make("div", { class: "dp-views" }, make("div", {}, ...charts.map(({ figure }) => figure)), space.figure),
    curvesTable.frame,
  );
  plays.load(song);
});
