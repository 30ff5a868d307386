// A seat in a class: the browser makes up a name for itself, so that whoever asks twice gets the same seat.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const key = `dsaml ${location.pathname}`, form = document.getElementById("join"), said = document.getElementById("said");
  const make = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  let seat = make();
  try {
    seat = localStorage.getItem(key) ?? seat;
    localStorage.setItem(key, seat);
  } catch { /* some browsers keep nothing: then only until the page is closed */ }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const headers = { "content-type": "application/json" }, body = JSON.stringify({ seat });
      const reply = await fetch(`${location.pathname}/seat`, { method: "POST", headers, body });
      if (!reply.ok) throw new Error(await reply.text());
      location.assign((await reply.json()).link);
    } catch (error) {
      said.textContent = `That did not work (${error.message}). Please try again.`;
    }
  });
});
