"use strict";
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const root = document.documentElement;

  const scheme = document.querySelector(".scheme");
  scheme.hidden = false;
  scheme.addEventListener("click", () => {
    const dark = getComputedStyle(root).colorScheme === "dark" ||
      (root.style.colorScheme === "" && matchMedia("(prefers-color-scheme: dark)").matches);
    root.style.colorScheme = dark ? "light" : "dark";
  });

  const section = document.getElementById("pictures");
  if (!section) return;
  const form = section.querySelector(".filters");
  const figures = all(".triple", section);
  form.hidden = false;

  const filter = () => {
    const on = (name) => new Set(all(`[data-${name}]`, form).filter((box) => box.checked)
      .map((box) => box.dataset[name]));
    const classes = on("class"), fates = on("fate");
    for (const name of ["faint", "masks", "captions"]) {
      section.classList.toggle(`no-${name}`, !form.querySelector(`[data-${name}]`).checked);
    }
    const faint = form.querySelector("[data-faint]").checked;
    let shown = 0;
    for (const figure of figures) {
      let found = 0, wrong = 0;
      for (const instance of all(".i", figure)) {
        const fate = instance.classList[1];
        const visible = classes.has(instance.dataset.c) && (fate === "annotated" || fates.has(fate));
        instance.classList.toggle("off", !visible);
        const counts = fate !== "annotated" && !instance.classList.contains("t");
        if (visible && counts && (faint || !instance.classList.contains("faint"))) {
          found += 1;
          wrong += fate !== "matched";
        }
      }
      // With "matched" off the reader looks for errors: a picture without any left is put away.
      figure.hidden = fates.has("matched") ? found === 0 && figures.length > 1 : wrong === 0;
      shown += !figure.hidden;
    }
    form.querySelector("[role=status]").textContent = `${shown} of ${figures.length} pictures`;
  };
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const [key, value] of [["all", true], ["none", false]]) {
    form.querySelector(`[data-${key}]`).addEventListener("click", () => {
      for (const box of all("[data-class]", form)) box.checked = value;
      filter();
    });
  }
  filter();

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  for (const figure of figures) {
    const pictures = all(".panel > svg", figure);
    const [, , width, height] = pictures[0].getAttribute("viewBox").split(" ").map(Number);
    let view = { x: 0, y: 0, zoom: 1 };
    const show = (x, y, zoom) => {
      view.zoom = clamp(zoom, 1, 16);
      const w = width / view.zoom, h = height / view.zoom;
      view.x = clamp(x, 0, width - w);
      view.y = clamp(y, 0, height - h);
      for (const picture of pictures) picture.setAttribute("viewBox", `${view.x} ${view.y} ${w} ${h}`);
      figure.classList.toggle("zoomed", view.zoom > 1);
    };
    const zoom = (factor, fx = 0.5, fy = 0.5) => {
      const next = clamp(view.zoom * factor, 1, 16);
      const x = view.x + fx * width / view.zoom, y = view.y + fy * height / view.zoom;
      show(x - fx * width / next, y - fy * height / next, next);
    };
    const actions = {
      in: () => zoom(1.5), out: () => zoom(1 / 1.5), fit: () => show(0, 0, 1),
      large: () => figure.classList.toggle("large"),
    };
    figure.querySelector(".tools").hidden = false;
    for (const button of all("[data-zoom]", figure)) {
      button.addEventListener("click", actions[button.dataset.zoom]);
    }
    figure.addEventListener("keydown", (event) => {
      if (event.target !== figure || event.ctrlKey || event.metaKey || event.altKey) return;
      const step = [width / view.zoom / 8, height / view.zoom / 8];
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const keys = { "+": "in", "=": "in", "-": "out", "0": "fit", Enter: "large" };
      if (keys[event.key]) actions[keys[event.key]]();
      else if (moves[event.key] && view.zoom > 1) {
        const [dx, dy] = moves[event.key];
        show(view.x + dx * step[0], view.y + dy * step[1], view.zoom);
      } else return;
      event.preventDefault();
    });
    for (const picture of pictures) {
      let from = null;
      picture.addEventListener("pointerdown", (event) => {
        if (view.zoom === 1) return;
        from = { x: event.clientX, y: event.clientY, view: { ...view } };
        picture.setPointerCapture(event.pointerId);
      });
      picture.addEventListener("pointermove", (event) => {
        if (!from) return;
        const scale = width / from.view.zoom / picture.getBoundingClientRect().width;
        show(from.view.x - (event.clientX - from.x) * scale, from.view.y - (event.clientY - from.y) * scale,
          view.zoom);
      });
      for (const end of ["pointerup", "pointercancel"]) {
        picture.addEventListener(end, () => { from = null; });
      }
      picture.addEventListener("wheel", (event) => {
        if (!event.ctrlKey) return;
        event.preventDefault();
        const box = picture.getBoundingClientRect();
        zoom(event.deltaY < 0 ? 1.25 : 0.8, (event.clientX - box.left) / box.width,
          (event.clientY - box.top) / box.height);
      }, { passive: false });
    }
  }
})();
