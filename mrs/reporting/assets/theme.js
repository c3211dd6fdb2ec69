"use strict";
// Before anything is shown: the theme that was chosen last time, where this browser keeps it for files.
(() => {
  let kept = null;
  try {
    kept = localStorage.getItem("mrs-trt-theme");
  } catch {
    // Not for this file; then the system's theme it is.
  }
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  document.documentElement.dataset.scripts = "on";
})();
