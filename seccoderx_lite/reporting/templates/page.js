"use strict";
const tip = document.getElementById("tip");
document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest && event.target.closest("svg [role=graphics-symbol][aria-label]");
  tip.style.opacity = mark ? "1" : "0";
  if (!mark) return;
  tip.textContent = mark.getAttribute("aria-label");
  const left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${event.clientY + 16}px`;
});
for (const browser of document.querySelectorAll(".browser")) {
  const filters = [...browser.querySelectorAll("select")];
  const search = browser.querySelector("input");
  const shown = browser.querySelector(".shown");
  const items = [...browser.querySelectorAll("details.item")];
  const more = browser.querySelector("button");
  let most = 15;
  const apply = () => {
    const wanted = search.value.trim().toLowerCase();
    let count = 0;
    for (const item of items) {
      const fits = filters.every((f) => !f.value || item.dataset[f.name] === f.value)
        && (!wanted || item.textContent.toLowerCase().includes(wanted));
      count += fits ? 1 : 0;
      item.hidden = !fits || count > most;
    }
    shown.textContent = `${Math.min(count, most)} of ${count} shown`;
    more.hidden = count <= most;
    more.textContent = `show ${count - most} more`;
  };
  more.addEventListener("click", () => { most = Infinity; apply(); });
  for (const control of [...filters, search]) control.addEventListener("input", apply);
  apply();
}
