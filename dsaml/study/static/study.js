// One step of a study: collects the answer, keeps it in the browser until the server has it, and goes on to the next step.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("answer"), said = document.getElementById("said");
  const { step, kind, link } = form.dataset, key = `dsaml ${link} ${step}`;
  const button = form.querySelector("button[type=submit]");
  const say = (text) => { said.textContent = text; };
  const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
  const REFUSED = "The browser keeps nothing, so do not close this page before the step is done.";

  // What is kept between a closed tab and the next one; some browsers refuse that.
  const kept = (name) => {
    try { return JSON.parse(localStorage.getItem(`${key} ${name}`)); } catch { return null; }
  };
  const keep = (name, value) => {
    try {
      if (value === null) localStorage.removeItem(`${key} ${name}`);
      else localStorage.setItem(`${key} ${name}`, JSON.stringify(value));
    } catch { say(REFUSED); }
  };

  // Again and again until the server has said something: the same answer is kept once, however often it arrives.
  const send = async (answer) => {
    keep("sent", answer);
    button.disabled = true;
    for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
      let reply = null;
      try {
        const body = JSON.stringify(answer), headers = { "content-type": "application/json" };
        reply = await fetch(`${link}/answers/${step}`, { method: "POST", headers, body, signal: AbortSignal.timeout(10_000) });
      } catch { /* no server, no network */ }
      if (reply && reply.status < 500 && ![408, 429].includes(reply.status)) {
        const text = await reply.text().catch(() => "");
        if (reply.ok || reply.status === 409) { // there, or the study has gone on in another tab
          ["sent", "draft"].forEach((name) => keep(name, null));
          location.reload();
          return;
        }
        keep("sent", null);
        button.disabled = false;
        say(`${text.charAt(0).toUpperCase()}${text.slice(1)}.`);
        return;
      }
      say("The server does not answer. Your answer is kept here and sent again.");
      await pause(wait);
    }
  };

  // --- what each kind of step asks; `answer` gives an answer, or an Error that says what is missing ---

  const field = (name) => form.elements[name];
  const ranks = (dimension) => [...form.querySelectorAll(`[data-dimension="${dimension}"] tbody tr`)]
    .map((row) => Number(row.querySelector("input:checked")?.value ?? 0));
  const missing = (element, text) => {
    element.focus();
    throw new Error(text);
  };
  const KINDS = {
    consent: () => {
      if (!field("consent").checked) missing(field("consent"), "Please tick the box if you want to take part.");
      const chosen = [...form.querySelectorAll("select")].filter(({ value }) => value).map(({ name, value }) => [name, value]);
      return { consent: true, ...Object.fromEntries(chosen) };
    },
    draw: () => {
      if (!drawn) throw new Error("Please wait until the song is there.");
      return { curve: drawn };
    },
    rank: () => {
      const answer = Object.fromEntries(["arousal", "valence"].map((name) => [name, ranks(name)]));
      for (const [name, given] of Object.entries(answer)) {
        const row = given.indexOf(0);
        if (row >= 0) missing(field(`${name}-${row}`)[0], `Please give every curve of ${name} a rank, when you have heard the song.`);
      }
      return answer;
    },
    close: () => ({ comment: field("comment").value }),
  };
  let drawn = null; // the curve, where one is drawn
  if (kind === "draw") {
    const pad = document.getElementById("dsaml-draw"), [song] = window.dsamlPlayer?.songs ?? [];
    if (song) song.drawn = kept("draft") ?? undefined;
    pad.addEventListener("drawn", ({ detail }) => {
      drawn = detail;
      keep("draft", detail);
    });
  }
  if (kind === "rank" || kind === "close" || kind === "consent") {
    const fields = [...form.querySelectorAll("input, select, textarea")];
    const value = (element) => (["radio", "checkbox"].includes(element.type) ? element.checked : element.value);
    (kept("draft") ?? []).forEach((before, k) => {
      if (!fields[k]) return;
      if (typeof before === "boolean") fields[k].checked = before;
      else fields[k].value = before;
    });
    form.addEventListener("input", () => keep("draft", fields.map(value)));
    form.addEventListener("change", () => keep("draft", fields.map(value)));
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    try {
      const answer = KINDS[kind]();
      say("");
      send(answer);
    } catch (error) {
      say(error.message);
    }
  });
  window.addEventListener("unhandledrejection", () => say("Something could not be loaded. Please reload the page."));
  const before = kept("sent");
  if (before) send(before); // the page was closed before the server had answered
});
