
// Reloads the page when the database has changed.
setInterval(async () => {
  const busy = document.querySelector("dialog[open]") || [...document.querySelectorAll(".filter input")].some((input) => input.value);
  if (busy) return;
  try {
    const answer = await fetch("/version", { cache: "no-store" });
    document.body.classList.remove("lost");
    if (answer.ok && (await answer.text()) !== shown) location.reload();
  } catch {
    document.body.classList.add("lost");
  }
}, 2000);
