"use strict";
// Two pictures on each other with a line between them that a slider moves, and a zoom.
const pictures = (() => {
  const { element } = charts;
  const SMALL = 400;

  function labelled(text, control) {
    return element("label", {}, element("span", {}, text), control);
  }

  function compare(box) {
    const figures = [...box.querySelectorAll("figure")];
    const of = new Map(figures.map((figure) => [figure.dataset.role, figure.querySelector("img")]));
    const roles = [...of.keys()];
    const natural = ["width", "height"].map((side) => Number(of.get(roles[0]).getAttribute(side)));
    const before = element("img", { class: "before", alt: "" });
    const after = element("img", { class: "after", alt: "" });
    const stage = element("div", { class: "stage" }, before, after, element("div", { class: "line" }));
    const frame = element("div", { class: "frame", tabindex: "0", role: "group", "aria-label": "Pictures; scroll with the arrow keys when zoomed" }, stage);
    const cut = element("input", { type: "range", min: "0", max: "100", value: "50", step: "1" });
    const zoom = element("input", { type: "range", min: "1", max: "8", value: "1", step: "1" });
    const pick = (role) => {
      const select = element("select", {}, ...roles.map((name) => element("option", { value: name }, name)));
      select.value = role;
      return select;
    };
    const left = pick(roles[0]);
    const right = pick(of.has("restored") ? "restored" : roles[roles.length - 1]);

    function show() {
      before.src = of.get(left.value).src;
      after.src = of.get(right.value).src;
      before.alt = left.value;
      after.alt = right.value;
      stage.style.setProperty("--cut", `${cut.value}%`);
      cut.setAttribute("aria-valuetext", `${cut.value} % ${left.value}, ${100 - cut.value} % ${right.value}`);
    }

    function enlarge() {
      // What was in the middle stays there.
      const middle = [(frame.scrollLeft + frame.clientWidth / 2) / stage.clientWidth, (frame.scrollTop + frame.clientHeight / 2) / stage.clientHeight];
      stage.style.setProperty("--zoom", zoom.value);
      zoom.setAttribute("aria-valuetext", `${zoom.value} times`);
      frame.scrollLeft = middle[0] * stage.clientWidth - frame.clientWidth / 2;
      frame.scrollTop = middle[1] * stage.clientHeight - frame.clientHeight / 2;
    }

    frame.style.aspectRatio = `${natural[0]} / ${natural[1]}`;
    // Small pictures are not blown up to the width of a desk, and high ones fit on a screen.
    frame.style.maxWidth = `${Math.min(Math.max(natural[0], SMALL) , (620 * natural[0]) / natural[1])}px`;
    for (const control of [cut, left, right]) control.addEventListener("input", show);
    zoom.addEventListener("input", enlarge);
    show();
    zoom.setAttribute("aria-valuetext", "1 times");
    const controls = element("div", { class: "controls" }, labelled("Left", left), labelled("Right", right), labelled("Slider", cut), labelled("Zoom", zoom));
    box.before(element("div", { class: "slider" }, frame, controls));
    box.classList.add("replaced");
  }

  function prepare() {
    document.querySelectorAll("div.compared").forEach(compare);
  }

  return { prepare };
})();
