"use strict";
(() => {
  const { element } = charts;
  const plots = JSON.parse(document.getElementById("plots").textContent);

  function draw(box) {
    const { kind, data } = plots[box.dataset.plot];
    const width = Math.floor(box.clientWidth);
    // Within closed details, or on a page that is not laid out.
    if (!width || box.dataset.width === String(width)) return;
    box.dataset.width = width;
    const chosen = data.choices ? data.choices[Number(box.dataset.choice ?? 0)] : data;
    const drawn = charts[kind](chosen, width);
    // The box has the text alternative: what is drawn within would be read as a heap of numbers.
    for (const node of drawn) node.setAttribute("aria-hidden", "true");
    box.replaceChildren(...drawn);
  }

  // The control stands before the plot, whose box is one picture to who cannot see it.
  function choice(box) {
    const { data } = plots[box.dataset.plot];
    if (!data.choices || data.choices.length < 2) return;
    const select = element("select", {}, ...data.choices.map(({ title }, index) => element("option", { value: String(index) }, title)));
    select.addEventListener("input", () => {
      box.dataset.choice = select.value;
      delete box.dataset.width;
      draw(box);
    });
    box.before(element("p", { class: "choice" }, element("label", {}, element("span", {}, "Metric"), select)));
  }

  function theme() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const root = document.documentElement;
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const show = () => {
      button.textContent = dark() ? "Light theme" : "Dark theme";
    };
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      try {
        localStorage.setItem("mrs-trt-theme", root.dataset.theme);
      } catch {
        // Not kept for this file; it holds until the page is closed.
      }
      show();
    });
    system.addEventListener("change", show);
    show();
    button.hidden = false;
  }

  const boxes = [...document.querySelectorAll("[data-plot]")];
  theme();
  tables.prepare();
  pictures.prepare();
  boxes.forEach(choice);
  boxes.forEach(draw);
  // Not within the observer's own turn: drawing changes sizes again.
  const observer = new ResizeObserver((entries) => requestAnimationFrame(() => entries.forEach(({ target }) => draw(target))));
  boxes.forEach((box) => observer.observe(box));

  // On paper nothing can be opened: tables stand there whole, and are closed again afterwards.
  let opened = [];
  addEventListener("beforeprint", () => {
    // Some browsers say so twice before the page is printed.
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      opened.push(details);
    }
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
    opened = [];
  });
})();
