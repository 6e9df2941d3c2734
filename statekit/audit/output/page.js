"use strict";
(() => {
  const bar = document.querySelector(".filters");
  if (!bar) return;
  bar.hidden = false;
  const all = [...document.querySelectorAll(".finding")].map((node) => ({ node, text: node.textContent.toLowerCase() }));
  const search = bar.querySelector("input[type=search]");
  const boxes = [...bar.querySelectorAll("input[type=checkbox]")];
  const rows = [...document.querySelectorAll("button[data-category]")];
  const nothing = document.querySelector(".none");
  let category = "";

  const ticked = (name) => {
    const mine = boxes.filter((box) => box.name === name);
    return new Set((mine.some((box) => box.checked) ? mine.filter((box) => box.checked) : mine).map((box) => box.value));
  };
  const fits = (one, words, wanted) =>
    (!category || one.node.dataset.category === category) &&
    wanted.every(([name, values]) => !values.size || values.has(one.node.dataset[name])) &&
    words.every((word) => one.text.includes(word));

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = ["severity", "confidence", "status"].map((name) => [name, ticked(name)]);
    let shown = 0;
    for (const one of all) {
      one.node.hidden = !fits(one, words, wanted);
      shown += one.node.hidden ? 0 : 1;
    }
    for (const group of document.querySelectorAll("[data-group]")) {
      group.hidden = !group.querySelector(".finding:not([hidden])");
    }
    for (const row of rows) row.setAttribute("aria-pressed", String(row.dataset.category === category));
    bar.querySelector("output").textContent = `${shown} of ${all.length}`;
    bar.querySelector(".all").hidden = !category && !words.length;
    nothing.hidden = shown > 0;
  };

  search.addEventListener("input", show);
  for (const box of boxes) box.addEventListener("change", show);
  for (const row of rows) {
    row.addEventListener("click", () => {
      category = category === row.dataset.category ? "" : row.dataset.category;
      show();
      if (category) bar.scrollIntoView();
    });
  }
  bar.querySelector(".all").addEventListener("click", () => {
    category = search.value = "";
    show();
  });
  show();
})();
