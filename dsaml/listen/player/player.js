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
  const { make, x, place, chart, plane, transport, table } = window.dsamlParts;
  const shown = new Set(["average", ...data.listeners.slice(0, 2).map(({ id }) => `own ${id}`)]); // at first: two who differ
  const charts = [0, 1].map((d) => chart(d, 180)), space = plane(), curvesTable = table("curves to show");
  const wave = make("div", { class: "dp-wave" });
  let song = data.songs[0], surfer = null;

  const gainOf = (who) => song.shown.find(({ id }) => id === who);
  // Every curve of this song that can be drawn: {key, label, values, color, dash}
  const curves = () => {
    const all = [
      { key: "average", label: "average of all", values: song.average, color: "inherit", dash: "" },
      { key: "before", label: "model before", values: song.before, color: "inherit", dash: "2 4" },
    ];
    for (const { id, color } of data.listeners) {
      const after = gainOf(id)?.after;
      if (song.listeners[id]) all.push({ key: `own ${id}`, label: `own curve of ${id}`, values: song.listeners[id], color, dash: "" });
      if (after) all.push({ key: `after ${id}`, label: `model after, for ${id}`, values: after, color, dash: "7 4" });
    }
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
      svg.setAttribute("aria-label", `${name} over the song, from −1 to 1: ${names}`);
      lines.replaceChildren(...visible().map(line));
    }
    space.svg.setAttribute("aria-label", `valence to the right, arousal upwards, at this moment: ${names}`);
  };

  const box = (key, label) => {
    if (!curves().some((curve) => curve.key === key)) return "–";
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
    const rows = data.listeners.map(({ id, color, support }) => {
      const dot = make("span", { class: "dp-key", style: `background: ${color}`, "aria-hidden": "true" });
      const gain = gainOf(id);
      const scores = gain ? [gain.ccc_before, gain.ccc_after].map((value) => value.toFixed(2)) : ["–", "–"];
      return [
        make("th", { scope: "row" }, dot, ` ${id}`), box(`own ${id}`, `own curve of ${id}`),
        box(`after ${id}`, `model after, for ${id}`), ...scores, support === song.id ? "this one" : support];
    });
    curvesTable.fill(
      ["listener", "own curve ━", "model after ╍", "CCC before", "CCC after", "annotated song"],
      [[everybody, named("average", "average of all ━"), named("before", "model before ┈"), "", "", ""], ...rows]);
  };
  const named = (key, text) => make("label", {}, box(key, text), ` ${text}`);

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
  }, drawMoment, { Song: data.songs, "Annotated song: what the model was given of a listener": data.supports });
  for (const { svg } of charts) {
    svg.addEventListener("click", (event) => plays.seek(place(svg, event).right * data.seconds));
  }

  root.replaceChildren(
    plays.songs, plays.audio, wave, plays.row,
    make("div", { class: "dp-views" }, make("div", {}, ...charts.map(({ figure }) => figure)), space.figure),
    curvesTable.frame,
  );
  plays.load(song);
});
