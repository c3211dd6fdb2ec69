"use strict";
// Tables that sort by a column and are copied as text.
const tables = (() => {
  const { element } = charts;

  function value(row, column) {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  }

  // Numbers before texts, texts as people order them; what has no value stands last, whichever way.
  function order(column, sign) {
    return (a, b) => {
      const [one, other] = [value(a, column), value(b, column)];
      if (one !== null && other !== null) return sign * (one - other);
      if (one !== null || other !== null) return one === null ? 1 : -1;
      return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent, "en", { numeric: true });
    };
  }

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.textContent) return;
      const button = element("button", { type: "button" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const ascending = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort(order(column, ascending ? 1 : -1)));
      });
    });
  }

  // A cell that begins like a formula would be one to a spreadsheet; numbers may keep their sign.
  function cellText(cell) {
    const text = cell.textContent.replace(/\s+/g, " ").trim();
    return /^[=+@-]/.test(text) && cell.dataset.value === undefined ? `'${text}` : text;
  }

  function asText(table) {
    return [...table.rows].map((row) => [...row.cells].map(cellText).join("\t")).join("\n");
  }

  // Where the browser keeps pages from the clipboard, the text is shown selected, to be copied by hand.
  async function copy(text, button) {
    const before = button.dataset.text;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      const area = element("textarea", { readonly: "", rows: "4", "aria-label": "Text to copy" });
      area.value = text;
      button.parentElement.querySelector("textarea")?.remove();
      button.after(area);
      area.focus();
      area.select();
      button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
    }
    setTimeout(() => (button.textContent = before), 3000);
  }

  function copyButton(label, text) {
    const button = element("button", { type: "button", class: "copy", "aria-live": "polite" }, label);
    button.dataset.text = label;
    button.addEventListener("click", () => copy(text(), button));
    return button;
  }

  function prepare() {
    for (const box of document.querySelectorAll("div.table")) {
      const table = box.querySelector("table");
      sortable(table);
      box.after(element("p", { class: "buttons" }, copyButton("Copy as text", () => asText(table))));
    }
    for (const line of document.querySelectorAll(".commands pre")) {
      line.after(element("p", { class: "buttons" }, copyButton("Copy the command", () => line.textContent.replace(/^[A-Z]{1,2}: /, ""))));
    }
  }

  return { prepare };
})();
