"use strict";
// Every table.sortable gets buttons in its head. Without scripts the tables stay as they are.
(function () {
  function compare(one, two) {
    if (one === "" || two === "") { return one === two ? 0 : one === "" ? 1 : -1; }
    var a = Number(one), b = Number(two);
    if (!isNaN(a) && !isNaN(b)) { return a - b; }
    return one.localeCompare(two, undefined, { numeric: true });
  }

  function valueOf(row, column) {
    var cell = row.cells[column];
    return cell.hasAttribute("data-sort") ? cell.getAttribute("data-sort") : cell.textContent.trim();
  }

  function mark(header, falling) {
    Array.prototype.forEach.call(header.parentNode.cells, function (cell) {
      cell.removeAttribute("aria-sort");
    });
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  }

  // A header that can be sorted by; `sort` gets the header and the direction.
  function makeButton(header, sort) {
    var button = document.createElement("button");
    button.type = "button";
    while (header.firstChild) { button.appendChild(header.firstChild); }
    header.appendChild(button);
    button.addEventListener("click", function () {
      var falling = header.getAttribute("aria-sort") === "ascending";
      mark(header, falling);
      sort(header, falling);
    });
  }

  function sortRows(table, column, falling) {
    var body = table.tBodies[0];
    var rows = Array.prototype.slice.call(body.rows);
    rows.sort(function (one, two) {
      var a = valueOf(one, column), b = valueOf(two, column);
      // What is missing stays at the end whichever way the rest goes.
      return falling && a !== "" && b !== "" ? compare(b, a) : compare(a, b);
    });
    rows.forEach(function (row) { body.appendChild(row); });
  }

  window.caftTables = { compare: compare, makeButton: makeButton };
  Array.prototype.forEach.call(document.querySelectorAll("table.sortable"), function (table) {
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (header) {
      makeButton(header, function (chosen, falling) { sortRows(table, chosen.cellIndex, falling); });
    });
  });
})();
