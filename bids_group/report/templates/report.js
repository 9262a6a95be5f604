// Tables that can be sorted, and rows that point the viewer to their peak. The report is whole without it.

function readNumber(text) {
  const bare = text.trim().replace(/^[<>≤≥]\s*/, "").replace(/,/g, "");
  return bare === "" ? NaN : Number(bare);
}

function compareTexts(one, other) {
  const [first, second] = [readNumber(one), readNumber(other)];
  if (!Number.isNaN(first) && !Number.isNaN(second)) return first - second;
  return one.localeCompare(other, undefined, { numeric: true });
}

function sortRows(table, header) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const text = (row) => row.cells[header.cellIndex].textContent.trim();
  const isMissing = (row) => text(row) === "n/a" || text(row) === "";
  const rows = [...table.tBodies[0].rows].sort(
    (one, other) => isMissing(one) - isMissing(other) || compareTexts(text(one), text(other)) * (descending ? -1 : 1),
  );
  table.tBodies[0].append(...rows);
}

function makeSortable(table) {
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortRows(table, header));
  }
}

function linkRow(row, label, viewer) {
  const mm = row.dataset.peak.split(" ").map(Number);
  const cell = row.cells[0];
  const button = document.createElement("button");
  button.type = "button";
  button.className = "jump";
  button.setAttribute("aria-label", `${cell.textContent.trim()}: show the peak at ${mm.join(", ")} mm in the viewer`);
  button.append(...cell.childNodes);
  cell.append(button);
  row.addEventListener("click", () => {
    if (!getSelection().isCollapsed) return; // text of the row is being marked
    for (const other of document.querySelectorAll("tr[aria-current]")) other.removeAttribute("aria-current");
    row.setAttribute("aria-current", "true");
    viewer.jump(mm, label, button);
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
if ("DecompressionStream" in window) {
  const viewers = new Map([...document.querySelectorAll(".viewer")].map((box) => [box.id, new Viewer(box)]));
  for (const table of document.querySelectorAll("table[data-viewer]")) {
    const viewer = viewers.get(table.dataset.viewer);
    if (viewer) table.querySelectorAll("tr[data-peak]").forEach((row) => linkRow(row, table.dataset.map, viewer));
  }
}
