/** The paper that was chosen, before anything is drawn on it. */
try {
  document.documentElement.dataset.theme = JSON.parse(localStorage.getItem("fablewright.settings")).theme ?? "auto";
} catch {
  // nothing is kept here: what the system prefers
}
