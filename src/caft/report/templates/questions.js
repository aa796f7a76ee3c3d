"use strict";
// The question browser. All rows are in the page as compressed JSON; only one page of them is ever
// in the document, so that filtering twelve thousand questions stays fluid. Everything is set as
// text and nothing as markup. Without scripts the first rows stay as a plain table.
(function () {
  var store = document.getElementById("question-rows");
  if (!store) { return; }
  var PAGE = 50;
  var table = document.getElementById("question-table");
  var form = document.getElementById("question-filter");
  var shown = document.getElementById("question-shown");
  var turn = document.getElementById("question-turn");
  var headers = Array.prototype.slice.call(table.tHead.rows[0].cells);
  var rows = [], texts = [], found = [], first = 0, order = null;
  var VALUES = {
    text: function (row) { return row.text; },
    complexity: function (row) { return row.place; },
    estimate: function (row) { return row.estimate === null ? "" : row.estimate; },
    gold: function (row) { return row.gold; },
    base: function (row) { return row.base ? Number(row.base.correct) : ""; },
    tuned: function (row) { return row.tuned ? Number(row.tuned.correct) : ""; }
  };

  function make(name, text, className) {
    var made = document.createElement(name);
    if (text !== undefined) { made.textContent = text; }
    if (className) { made.className = className; }
    return made;
  }

  function quoted(text) {
    var made = make("span", text, "quoted");
    made.dir = "auto";
    return made;
  }

  function paragraph(who, text) {
    var made = make("p");
    made.appendChild(make("strong", who + ": "));
    made.appendChild(quoted(text));
    return made;
  }

  function listOptions(row) {
    var list = make("ul", undefined, "options");
    row.options.forEach(function (option) {
      var item = make("li", option[0] + ". " + option[1] + (option[2] ? " (gold)" : ""),
        option[2] ? "gold" : "");
      item.dir = "auto";
      list.appendChild(item);
    });
    return list;
  }

  function showMore(row) {
    var more = make("details");
    more.appendChild(make("summary", row.options.length ? "Options and replies" : "More"));
    // Filled when it is opened: most never are.
    more.addEventListener("toggle", function () {
      if (more.childNodes.length > 1) { return; }
      more.appendChild(make("p", row.id + (row.subject ? ", " + row.subject : ""), "soft"));
      if (row.options.length) { more.appendChild(listOptions(row)); }
      if (row.base && row.base.text) { more.appendChild(paragraph("Base", row.base.text)); }
      if (row.tuned && row.tuned.text) { more.appendChild(paragraph("Tuned", row.tuned.text)); }
      if (row.rationale) { more.appendChild(paragraph("Teacher", row.rationale)); }
    });
    return more;
  }

  function fillReply(cell, reply) {
    if (!reply) { return; }
    var both = make("span");
    both.appendChild(make("span", reply.correct ? "✓ right" : "✗ wrong",
      "verdict " + (reply.correct ? "right" : "wrong")));
    both.appendChild(document.createTextNode(" "));
    both.appendChild(make("bdi", reply.answer));
    cell.appendChild(both);
  }

  function fillCell(cell, key, row) {
    if (key === "text") {
      var text = make("div", row.text, "quoted");
      text.dir = "auto";
      cell.appendChild(text);
      cell.appendChild(showMore(row));
    } else if (key === "base" || key === "tuned") {
      fillReply(cell, row[key]);
    } else if (key === "estimate") {
      cell.className = "number";
      cell.textContent = row.estimate === null ? "none" : row.estimate.toFixed(3);
    } else {
      cell.appendChild(make("bdi", row[key]));
    }
  }

  function makeRow(row) {
    var made = make("tr");
    headers.forEach(function (header) {
      var key = header.getAttribute("data-key");
      var cell = make("td");
      if (key !== "text") { cell.setAttribute("data-name", header.textContent); }
      fillCell(cell, key, row);
      made.appendChild(cell);
    });
    return made;
  }

  function draw() {
    var body = document.createDocumentFragment();
    found.slice(first, first + PAGE).forEach(function (place) {
      body.appendChild(makeRow(rows[place]));
    });
    table.tBodies[0].replaceChildren(body);
    var last = Math.min(first + PAGE, found.length);
    var some = found.length > PAGE ? (first + 1) + " to " + last + " of " : "";
    var left = found.length < rows.length ? found.length + " of " : "";
    shown.textContent = some + left + rows.length + " questions";
    turn.hidden = found.length <= PAGE;
    turn.elements.namedItem("previous").disabled = first === 0;
    turn.elements.namedItem("next").disabled = last >= found.length;
  }

  function chosen(name) {
    var field = form.elements.namedItem(name);
    return field ? field.value : "";
  }

  function filter() {
    var words = chosen("words").toLowerCase().split(/\s+/).filter(Boolean);
    var complexity = chosen("complexity"), outcome = chosen("outcome");
    found = [];
    rows.forEach(function (row, place) {
      if ((!complexity || row.complexity === complexity) &&
          (!outcome || row.outcome === outcome) &&
          words.every(function (word) { return texts[place].indexOf(word) >= 0; })) {
        found.push(place);
      }
    });
    if (order) { sort(); }
    first = 0;
    draw();
  }

  function sort() {
    var value = VALUES[order.key], compare = window.caftTables.compare;
    found.sort(function (one, two) {
      var a = value(rows[one]), b = value(rows[two]);
      return (order.falling && a !== "" && b !== "" ? compare(b, a) : compare(a, b)) || one - two;
    });
  }

  function offer(name) {
    var field = form.elements.namedItem(name), seen = new Set();
    if (!field) { return; }
    rows.forEach(function (row) { if (row[name]) { seen.add(row[name]); } });
    seen.forEach(function (value) {
      var option = make("option", value);
      option.value = value;
      field.appendChild(option);
    });
  }

  function searchable(row) {
    var replies = [row.base, row.tuned].filter(Boolean).map(function (reply) {
      return reply.answer + " " + reply.text;
    });
    var options = row.options.map(function (option) { return option[1]; });
    return [row.id, row.subject, row.text, row.gold, row.rationale].concat(replies, options)
      .join(" ").toLowerCase();
  }

  function start(loaded) {
    rows = loaded;
    texts = rows.map(searchable);
    headers.forEach(function (header) {
      window.caftTables.makeButton(header, function (by, falling) {
        order = { key: by.getAttribute("data-key"), falling: falling };
        sort();
        first = 0;
        draw();
      });
    });
    offer("complexity");
    offer("outcome");
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    turn.addEventListener("click", function (event) {
      var way = { previous: -PAGE, next: PAGE }[event.target.name];
      if (!way) { return; }
      first += way;
      draw();
      table.scrollIntoView();
      // The pressed button may be disabled now; the focus must not be lost with it.
      if (event.target.disabled) { table.parentNode.focus(); }
    });
    filter();
    document.documentElement.setAttribute("data-questions", "ready");
  }

  var packed = Uint8Array.from(atob(store.textContent.trim()), function (letter) {
    return letter.charCodeAt(0);
  });
  var stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  new Response(stream).json().then(start);
})();
