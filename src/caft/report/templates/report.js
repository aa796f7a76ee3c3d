"use strict";
// Filters and sorts the question table. Without scripts the table stays whole and readable.
(function () {
  var table = document.getElementById("question-table");
  document.documentElement.setAttribute("data-ready", "yes");
  if (!table) { return; }
  var form = document.getElementById("question-filter");
  var body = table.tBodies[0];
  var rows = Array.prototype.slice.call(body.rows);
  var texts = rows.map(function (row) { return row.textContent.toLowerCase(); });
  var shown = document.getElementById("question-shown");

  function chosen(name) {
    var field = form.elements.namedItem(name);
    return field ? field.value : "";
  }

  function filter() {
    var words = chosen("words").toLowerCase().split(/\s+/).filter(Boolean);
    var complexity = chosen("complexity"), outcome = chosen("outcome"), count = 0;
    rows.forEach(function (row, index) {
      var fits = (!complexity || row.getAttribute("data-complexity") === complexity) &&
        (!outcome || row.getAttribute("data-outcome") === outcome) &&
        words.every(function (word) { return texts[index].indexOf(word) >= 0; });
      row.hidden = !fits;
      count += fits ? 1 : 0;
    });
    shown.textContent = count + " of " + rows.length + " shown";
  }

  function offer(name) {
    var field = form.elements.namedItem(name), seen = {};
    if (!field) { return; }
    rows.forEach(function (row) {
      var value = row.getAttribute("data-" + name);
      if (value && !Object.prototype.hasOwnProperty.call(seen, value)) {
        seen[value] = true;
        var option = document.createElement("option");
        option.value = option.textContent = value;
        field.appendChild(option);
      }
    });
  }

  function compare(one, two) {
    var a = parseFloat(one), b = parseFloat(two);
    if (!isNaN(a) && !isNaN(b)) { return a - b; }
    return one < two ? -1 : one > two ? 1 : 0;
  }

  function sortBy(header) {
    var column = header.cellIndex;
    var falling = header.getAttribute("aria-sort") === "ascending";
    var order = body.rows.length ? Array.prototype.slice.call(body.rows) : [];
    var value = function (row) { return row.cells[column].getAttribute("data-sort") || ""; };
    order.sort(function (one, two) {
      return falling ? compare(value(two), value(one)) : compare(value(one), value(two));
    });
    order.forEach(function (row) { body.appendChild(row); });
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (cell) {
      cell.removeAttribute("aria-sort");
    });
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  }

  Array.prototype.forEach.call(table.tHead.rows[0].cells, function (header) {
    var button = document.createElement("button");
    button.type = "button";
    while (header.firstChild) { button.appendChild(header.firstChild); }
    header.appendChild(button);
    button.addEventListener("click", function () { sortBy(header); });
  });
  offer("complexity");
  offer("outcome");
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  filter();
})();
