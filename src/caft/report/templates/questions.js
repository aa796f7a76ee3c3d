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
  var repliers = headers.filter(function (header) { return header.hasAttribute("data-reply"); })
    .map(function (header) { return header.textContent; });
  var rows = [], texts = [], found = [], first = 0, order = null;
  var VALUES = {
    text: function (row) { return row.text; },
    complexity: function (row) { return row.place; },
    estimate: function (row) { return row.estimate === null ? "" : row.estimate; },
    gold: function (row) { return row.gold; },
    reply: function (row, place) {
      var reply = row.replies[place];
      return reply ? Number(reply.verdict === "right") + reply.verdict : "";
    }
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
    if (text) { made.appendChild(quoted(text)); }
    return made;
  }

  function showReply(who, reply) {
    var made = paragraph(who, "");
    fillReply(made, reply);
    if (reply.taken) { made.appendChild(make("span", ", the reply in " + reply.taken + " mode")); }
    if (reply.text) { made.appendChild(make("br")); made.appendChild(quoted(reply.text)); }
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

  function describe(row) {
    var made = make("tr", undefined, "more"), cell = make("td");
    cell.colSpan = headers.length;
    cell.appendChild(make("p", row.id + (row.subject ? ", " + row.subject : ""), "soft"));
    if (row.options.length) { cell.appendChild(listOptions(row)); }
    cell.appendChild(paragraph("Gold", row.gold));
    row.replies.forEach(function (reply, place) {
      if (reply) { cell.appendChild(showReply(repliers[place], reply)); }
    });
    if (row.rationale) { cell.appendChild(paragraph("Rationale to train on", row.rationale)); }
    made.appendChild(cell);
    return made;
  }

  // A row of its own below the question's, made when it is opened: most never are.
  function makeOpener(row) {
    var words = row.options.length ? "options and replies" : "replies";
    var button = make("button", "Read the " + words, "opener");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", function () {
      var own = button.closest("tr"), open = button.getAttribute("aria-expanded") === "true";
      if (open) { own.nextSibling.remove(); } else { own.after(describe(row)); }
      button.setAttribute("aria-expanded", String(!open));
      button.textContent = (open ? "Read the " : "Hide the ") + words;
    });
    return button;
  }

  function fillReply(cell, reply) {
    if (!reply) { return; }
    var both = make("span");
    var right = reply.verdict === "right";
    both.appendChild(make("span", right ? "✓" : "✗", "verdict " + (right ? "right" : "wrong")));
    both.appendChild(document.createTextNode(" "));
    if (reply.answer) {
      both.appendChild(make("bdi", reply.answer));
      both.appendChild(document.createTextNode(" "));
    }
    // Where an answer was read, the mark says it all to those who see it.
    var plain = right || reply.verdict === "wrong";
    both.appendChild(make("span", reply.verdict, plain ? "unseen" : "small why"));
    if (reply.note) { both.appendChild(make("span", " " + reply.note, "small why")); }
    cell.appendChild(both);
  }

  // As write_number of wording.py does.
  function writeNumber(value) {
    var short = Number(value.toPrecision(4)), size = Math.abs(short);
    if (size >= 1000) { return value.toLocaleString("en-US", { maximumFractionDigits: 0 }); }
    return size && size < 1e-4 ? short.toExponential().replace(/-(\d)$/, "-0$1") : String(short);
  }

  function fillCell(cell, key, row, place) {
    if (key === "text") {
      var text = make("div", row.text, "quoted");
      text.dir = "auto";
      cell.appendChild(text);
      cell.appendChild(makeOpener(row));
    } else if (key === "reply") {
      fillReply(cell, row.replies[place]);
    } else if (key === "estimate") {
      cell.className = "number";
      cell.textContent = row.estimate === null ? "none" : writeNumber(row.estimate);
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
      fillCell(cell, key, row, Number(header.getAttribute("data-reply")));
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
    var replier = chosen("reply"), verdict = chosen("verdict");
    function wasSo(reply, place) {
      return reply && [reply.verdict, reply.note].indexOf(verdict) >= 0 &&
        (!replier || Number(replier) === place);
    }
    found = [];
    rows.forEach(function (row, place) {
      if ((!complexity || row.complexity === complexity) &&
          (!outcome || row.outcome === outcome) && (!verdict || row.replies.some(wasSo)) &&
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
      var a = value(rows[one], order.reply), b = value(rows[two], order.reply);
      return (order.falling && a !== "" && b !== "" ? compare(b, a) : compare(a, b)) || one - two;
    });
  }

  function offer(name, valuesOf) {
    var field = form.elements.namedItem(name), seen = new Set();
    if (!field) { return; }
    rows.forEach(function (row) { valuesOf(row).filter(Boolean).forEach(seen.add, seen); });
    seen.forEach(function (value) {
      var option = make("option", value);
      option.value = value;
      field.appendChild(option);
    });
  }

  function searchable(row) {
    var replies = row.replies.filter(Boolean).map(function (reply) {
      return reply.answer + " " + (reply.text || "");
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
        order = { key: by.getAttribute("data-key"), falling: falling,
          reply: Number(by.getAttribute("data-reply")) };
        sort();
        first = 0;
        draw();
      });
    });
    offer("complexity", function (row) { return [row.complexity]; });
    offer("outcome", function (row) { return [row.outcome]; });
    offer("verdict", function (row) {
      return row.replies.reduce(function (all, reply) {
        return reply ? all.concat(reply.verdict, reply.note || []) : all;
      }, []);
    });
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
