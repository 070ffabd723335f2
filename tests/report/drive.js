// Uses a report as a reader would, and leaves what it saw in <pre id="seen">.
function finish(text) {
  const result = document.createElement("pre");
  result.id = "seen";
  result.textContent = text;
  document.body.replaceChildren(result);
}
async function until(what, condition) {
  for (let i = 0; i < 100; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`timed out waiting for ${what}`);
}

async function drive() {
  const seen = {};
  const table = document.querySelector("[id='page-experiments/small'] .table[data-name=results]");
  const heads = [...table.querySelectorAll("th")];
  const column = (heading) => heads.findIndex((head) => head.textContent.trim() === heading);
  const cells = (heading) =>
    [...table.querySelectorAll("tbody tr")].filter((row) => !row.hidden).map((row) => row.cells[column(heading)].textContent);
  const click = (heading) => heads[column(heading)].querySelector("button").click();

  seen.before = cells("run");
  click("top-1 %");
  seen.ascending = cells("top-1 %");
  click("top-1 %");
  seen.descending = cells("top-1 %");
  seen.sort = heads[column("top-1 %")].getAttribute("aria-sort");

  const filter = table.querySelector(".filter input");
  filter.value = "dmasking mean";
  filter.dispatchEvent(new Event("input"));
  seen.filtered = cells("seed");
  filter.value = "";
  filter.dispatchEvent(new Event("input"));
  seen.unfiltered = cells("run").length;

  const dialog = document.getElementById("run");
  location.hash = "#run-4";
  await until("run 4", () => dialog.open);
  seen.heading = dialog.querySelector("h2").textContent;
  const facts = [...dialog.querySelectorAll("tr")].map((row) => [row.cells[0].textContent, row.cells[1].textContent]);
  seen.facts = Object.fromEntries(facts);
  seen.manifest = dialog.querySelector("pre").textContent;
  seen.bold = document.querySelectorAll("td b, dialog b, li b").length;
  dialog.querySelector(".close").click();
  await until("no open run", () => !dialog.open);
  document.querySelector("a[href='#run-1']").click();
  await until("run 1", () => dialog.open);
  seen.charts = dialog.querySelectorAll(".history svg").length;
  seen.hover = dialog.querySelector(".history title").textContent;
  seen.fits = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
  finish(JSON.stringify(seen));
}
addEventListener("load", () => drive().catch((error) => finish(error.message)));
