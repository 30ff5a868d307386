// "Draw your curve": a reader draws what a song makes them feel, sees who feels alike, and the light model learns it in the page.
// Data: data.js, written by dsaml/experiment/player.py and dsaml/listen/page.py; or dsaml/listen/annotate.py, for one song of one's own,
// which nobody else has heard. Mathematics: light.js. Nothing leaves the page, unless `save` says where a curve is wanted.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const root = document.getElementById("dsaml-draw"), data = window.dsamlPlayer;
  if (!root || !data) return; // the player says that they are missing
  const { make, x, y, spot, place, chart, plane, transport, table } = window.dsamlParts;
  const { adapt, blank, ccc, clamp, count, drawn, fill, fromCsv, nearest, predict, rmse, toCsv } = window.dsamlLight;
  const NUDGE = 0.05, LEAP = 0.25, STEPS = Math.round(data.seconds / data.step);
  const KEYS = { // what a key adds to arousal and valence; where only one is drawn, to that one
    ArrowUp: [NUDGE, 0], ArrowDown: [-NUDGE, 0], ArrowRight: [0, NUDGE], ArrowLeft: [0, -NUDGE], PageUp: [LEAP, 0], PageDown: [-LEAP, 0],
  };
  const HELP = "Hold the mouse, pen or finger on the framed field and follow the song; or use the arrow keys, Page Up and Page Down. "
    + "Space starts and stops. Where you let go, the value stays; a touch before the start sets where you begin.";
  const MODES = {
    arousal: { dims: [0], label: "arousal over time", how: "Up is excited, down is calm." },
    valence: { dims: [1], label: "valence over time", how: "Up is pleasant, down is unpleasant." },
    both: { dims: [0, 1], label: "both at once, on the plane", how: "Up is excited, to the right is pleasant." },
  };
  const fresh = ({ initial }) => (initial ? initial.map((value) => [...value]) : blank(STEPS)); // a study lets a curve be adjusted
  const mine = Object.fromEntries(data.songs.map((item) => [item.id, item.drawn ?? fresh(item)]));
  const hand = [0, 0]; // arousal and valence, where pen or keys are
  let song = data.songs[0], mode = "arousal", drawing = false;
  let last = null, beside = []; // when the hand was written down before; the curves that are shown beside the reader's

  const charts = [0, 1].map((d) => chart(d, 220)), space = plane(), scores = table("how near others are to you");
  const how = make("p", { id: "dp-how" });
  const status = make("p", { role: "status" }), verdict = make("p", { role: "status", class: "dp-verdict" });
  const peek = make("input", { type: "checkbox", id: "dp-peek" });
  const file = make("input", { type: "file", accept: ".csv,text/csv", id: "dp-file" });
  const button = (text, action) => {
    const element = make("button", { type: "button" }, text);
    element.addEventListener("click", action);
    return element;
  };
  const say = (text) => { status.textContent = text; };
  const pad = () => (mode === "both" ? space : charts[MODES[mode].dims[0]]);
  const own = () => ({ label: "you", values: mine[song.id], color: "var(--dp-you)", dash: "" });

  // --- what is compared -----------------------------------------------------------------------------------------------------------

  const others = () => data.songs.filter(({ id }) => id !== song.id && drawn(mine[id]).length);
  const names = (songs) => songs.map(({ id }) => id).join(", ");
  const known = () => data.light && song.id in data.light.songs;
  // The light model's prediction of this song, after what was drawn of others.
  const predicted = (songs) => {
    const said = songs.map(({ id }) => ({ song: data.light.songs[id], curve: mine[id] }));
    const { mean, sd } = predict(data.light, adapt(data.light, said), data.light.songs[song.id]);
    return { values: mean, sd };
  };
  // Everybody who is shown beside the reader: {label, values, color, dash, sd?}.
  const compared = () => {
    const list = song.average ? [{ label: "average listener", values: song.average, color: "inherit", dash: "2 4" }] : [];
    if (known()) {
      const nobody = { label: "model for nobody in particular", color: "inherit", dash: "9 5" };
      const { values, sd } = predicted([]);
      list.push(song.average ? { ...nobody, values } : { ...nobody, values, sd }); // one band is enough
    }
    if (known() && others().length) {
      list.push({ label: `model for you, from song ${names(others())}`, ...predicted(others()), color: "var(--dp-model)", dash: "14 3" });
    }
    const dims = drawn(mine[song.id]);
    if (dims.length && Object.keys(song.listeners ?? {}).length) {
      const who = nearest(mine[song.id], song.listeners, dims);
      list.push({ label: `nearest listener: ${who}`, values: song.listeners[who], color: "var(--dp-near)", dash: "" });
    }
    return list;
  };
  // What is to be said when a passage is done.
  const judged = () => {
    if (data.task) return ""; // a step of a study: nobody is compared
    const dims = drawn(mine[song.id]), common = dims.filter((d) => others().some(({ id }) => drawn(mine[id]).includes(d)));
    if (data.save && dims.length === 1) return `Now draw ${charts[1 - dims[0]].name} too: a file needs both.`;
    if (data.save) return dims.length ? "When you are content, save your curve." : "";
    if (!dims.length) return others().length ? "Draw this song too: then you see whether the model had learned your taste." : "";
    if (!known()) return "This build holds no model that could learn from your curve; 'make book' computes one.";
    if (!common.length) return "Now choose another song and draw the same: the model predicts your curve there from this one.";
    const [model, average] = [predicted(others()).values, song.average].map((values) => rmse(mine[song.id], values, common));
    const numbers = `its distance from your curve is ${model.toFixed(2)} (RMSE), that of the average listener ${average.toFixed(2)}`;
    return `Predicted from song ${names(others())}: ${numbers}. The ${model < average ? "prediction" : "average"} was nearer to you.`;
  };

  // What the build measured on the listeners that are shown here.
  const gained = () => {
    if (!data.light.gain) return "";
    const { own, average, listeners } = data.light.gain, [b, a] = [average, own].map((ccc) => ccc.map((x) => x.toFixed(2)));
    return ` On the ${listeners} simulated listeners of these songs, whom it has not heard either, one song takes the CCC of the others `
      + `from ${b[0]} (the average listener's curve) to ${a[0]} in arousal, from ${b[1]} to ${a[1]} in valence.`;
  };

  // --- what is shown --------------------------------------------------------------------------------------------------------------

  const showMoment = (now) => {
    for (const { own: group, line, cursor } of charts) {
      group.replaceChildren(line(own()));
      cursor.setAttribute("x1", x(now));
      cursor.setAttribute("x2", x(now));
    }
    space.dots(drawing ? [] : [...beside, own()], now);
    if (!drawing && drawn(mine[song.id]).length) return;
    const [cx, cy] = mode === "both" ? spot(hand) : [x(now), y(hand[pad().d], pad().height)];
    (mode === "both" ? space.group : pad().own).append(make("circle", { cx, cy, r: 8, class: "dp-hand" }));
  };
  // The hand's place, to those who cannot see it.
  const tell = () => {
    const { dims } = MODES[mode], { svg } = pad();
    svg.setAttribute("aria-valuenow", hand[dims[0]].toFixed(2));
    svg.setAttribute("aria-valuetext", dims.map((d) => `${charts[d].name} ${hand[d].toFixed(2)}`).join(", "));
  };
  // Of three fields the one to draw in is a slider for keys, the others are pictures.
  const showFields = () => {
    const slider = { role: "slider", tabindex: 0, "aria-describedby": how.id, "aria-valuemin": -1, "aria-valuemax": 1 };
    for (const { svg } of [...charts, space]) {
      const active = svg === pad().svg;
      svg.classList.toggle("dp-pad", active);
      svg.classList.toggle("dp-drawing", active && drawing);
      [...Object.keys(slider), "aria-valuenow", "aria-valuetext"].forEach((name) => svg.removeAttribute(name));
      Object.entries(active ? slider : { role: "img" }).forEach(([name, value]) => svg.setAttribute(name, value));
    }
    tell();
  };
  const showLines = () => {
    const everybody = beside.length ? Object.values(song.listeners ?? {}) : [];
    for (const { svg, name, d, lines, line, band } of charts) {
      lines.replaceChildren(
        ...everybody.map((values) => line({ values, color: "inherit", dash: "", faint: true })),
        ...beside.filter(({ sd }) => sd).map(band), ...beside.map(line));
      const yours = `${name} over the song; yours: ${count(mine[song.id], d)} of ${STEPS} steps`;
      svg.setAttribute("aria-label", [yours, ...beside.map(({ label }) => label)].join(", "));
    }
    space.svg.setAttribute("aria-label", "valence to the right, arousal upwards, at this moment");
  };
  const showScores = () => {
    const dims = drawn(mine[song.id]);
    const swatch = ({ color, dash }) => make("svg", { viewBox: "0 0 36 8", class: "dp-swatch", "aria-hidden": "true" },
      make("path", { d: "M0,4L36,4", style: `color: ${color}`, "stroke-dasharray": dash, class: "dp-line" }));
    const name = (curve) => make("th", { scope: "row" }, swatch(curve), ` ${curve.label}`);
    const numbers = ({ values }) => [
      ...[0, 1].map((d) => (dims.includes(d) ? ccc(mine[song.id], values, d).toFixed(2) : "–")),
      dims.length ? rmse(mine[song.id], values, dims).toFixed(2) : "–",
    ];
    scores.fill(["curve", "CCC arousal", "CCC valence", "RMSE"],
      [[name(own()), "", "", ""], ...beside.map((curve) => [name(curve), ...numbers(curve)])]);
    scores.frame.hidden = !beside.length;
  };
  const show = () => {
    beside = !drawing && (peek.checked || drawn(mine[song.id]).length) ? compared() : [];
    how.textContent = `${MODES[mode].how} ${HELP}`;
    start.textContent = drawing ? "■ Stop" : "● Play and draw";
    verdict.textContent = drawing ? "" : judged();
    showFields();
    showLines();
    showScores();
    plays.moment();
    if (!drawing) root.dispatchEvent(new CustomEvent("drawn", { detail: mine[song.id] }));
  };

  // --- drawing --------------------------------------------------------------------------------------------------------------------

  const record = (seconds) => {
    const here = { seconds, value: [...hand] };
    fill(mine[song.id], MODES[mode].dims, last, here, data.step);
    last = here;
  };
  const land = () => { // what lies before is not drawn over; a first frame that comes late loses nothing
    last = null;
    record(plays.now());
  };
  const begin = async () => {
    if (plays.now() > data.seconds - data.step) plays.seek(0);
    const before = mine[song.id][Math.min(STEPS - 1, Math.floor(plays.now() / data.step))];
    MODES[mode].dims.forEach((d) => { hand[d] = before[d] ?? hand[d]; }); // a passage is redone from where it was
    drawing = true;
    land();
    say(`Drawing ${MODES[mode].label}.`);
    show();
    pad().svg.focus({ preventScroll: true });
    try {
      await plays.audio.play();
    } catch (error) {
      finish();
      if (error.name !== "AbortError") say(`The browser could not play the song (${error.message}).`);
    }
  };
  const finish = () => { // on a pause, at the end of the song, before another song or field is chosen
    if (!drawing) return;
    record(plays.now());
    drawing = false;
    const parts = charts.map(({ name, d }) => `${(count(mine[song.id], d) * data.step).toFixed(1)} s of ${name}`);
    say(`Drawn: ${parts.join(", ")}. To redo a passage, move to where it begins, then play and draw again.`);
    show();
  };
  const toggle = () => (drawing ? plays.audio.pause() : begin());
  const move = (value) => {
    value.forEach((number, d) => { if (MODES[mode].dims.includes(d)) hand[d] = clamp(number, -1, 1); });
    tell();
    showMoment(plays.now());
  };

  const press = (svg, event) => { // in its field it leads the hand, before a start too; in charts it leads to a moment then
    const { right, down } = place(svg, event), up = 1 - 2 * down;
    if (svg === pad().svg) move(mode === "both" ? [up, 2 * right - 1] : [up, up]);
    if (!drawing && svg !== space.svg) plays.seek(right * data.seconds);
  };
  for (const { svg } of [...charts, space]) {
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      press(svg, event);
    });
    svg.addEventListener("pointermove", (event) => { if (svg.hasPointerCapture(event.pointerId)) press(svg, event); });
    svg.addEventListener("keydown", (event) => {
      const by = KEYS[event.key];
      if (event.key === " " && !event.repeat) toggle();
      else if (by) move(hand.map((value, d) => value + (mode === "both" ? by[d] : by[0] + by[1])));
      else return;
      event.preventDefault();
    });
  }

  const plays = transport("dp-draw", (next) => {
    finish();
    song = next;
    hand.fill(0);
    say("");
    show();
  }, (now) => { // from frame to frame
    if (drawing && !plays.audio.paused) record(now);
    showMoment(now);
  });
  plays.audio.addEventListener("seeking", () => { if (drawing) land(); });
  plays.audio.addEventListener("pause", finish);
  document.addEventListener("visibilitychange", () => { if (document.hidden && drawing) plays.audio.pause(); }); // no frames there

  // --- files ----------------------------------------------------------------------------------------------------------------------

  const save = async () => {
    try {
      const text = toCsv(mine[song.id], data.start, data.step);
      if (data.save) {
        say("Saving…");
        const answer = await fetch(data.save, { method: "POST", headers: { "Content-Type": "text/csv" }, body: text });
        const said = await answer.text();
        say(answer.ok ? said : `Not saved: ${said}.`);
        return;
      }
      const blob = new Blob([text], { type: "text/csv" });
      const link = make("a", { href: URL.createObjectURL(blob), download: `my-curve-of-${song.id}.csv` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it later
      say(`Saved ${link.download}.`);
    } catch (error) {
      say(error instanceof TypeError ? "Not saved: the command that served this page has ended; start it again." : error.message);
    }
  };
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    try {
      mine[song.id] = fromCsv(await chosen.text(), data.start, data.step, STEPS);
      say(`Read ${chosen.name} as your curve of ${data.save ? "this song" : `song ${song.id}`}.`);
    } catch (error) {
      say(`${chosen.name}: ${error.message}`);
    }
    file.value = "";
    show();
  });

  const start = button("", toggle);
  const clear = button("Forget my curve of this song", () => {
    mine[song.id] = fresh(song);
    say("Forgotten.");
    show();
  });
  const modes = make("fieldset", { class: "dp-choice" }, make("legend", {}, "What to draw"));
  Object.entries(MODES).forEach(([name, { label }]) => {
    const input = make("input", { type: "radio", name: "dp-mode", value: name });
    input.checked = name === mode;
    input.addEventListener("change", () => {
      finish();
      plays.audio.pause();
      mode = name;
      root.dataset.mode = mode;
      show();
    });
    modes.append(make("label", {}, input, ` ${label}`));
  });
  peek.checked = Boolean(data.peek);
  peek.addEventListener("change", show);
  root.replaceChildren(
    plays.songs, modes, how, plays.audio, plays.row,
    make("div", { class: "dp-buttons" }, start, clear),
    make("div", { class: "dp-views" }, make("div", {}, ...charts.map(({ figure }) => figure)), space.figure),
    status, verdict, ...(data.task ? [] : [scores.frame,
    make("p", {}, make("label", { for: peek.id }, peek, " show the other curves before I have drawn")),
    make("div", { class: "dp-buttons" }, button("Save my curve (CSV)", save),
      make("label", { for: file.id }, "Open a curve of this song (CSV) "), file),
    make("p", { class: "dp-origin" }, data.light ? `The model: ${data.light.origin}.${gained()}` : "")]),
  );
  plays.load(song);
});
