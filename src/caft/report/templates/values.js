"use strict";
// The value of a mark, shown at once under the pointer or a finger. The tables with the figures
// hold the same numbers, without a pointer.
(function () {
  var box = document.createElement("div");
  box.className = "value screen";
  box.setAttribute("aria-hidden", "true");
  box.hidden = true;
  document.body.appendChild(box);

  // The browser's own tooltip would come a second later and cover ours.
  Array.prototype.forEach.call(document.querySelectorAll(".drawing title:not([id])"),
    function (title) {
      title.parentNode.setAttribute("data-value", title.textContent);
      title.parentNode.removeChild(title);
    });

  function show(event) {
    var mark = event.target.closest ? event.target.closest("[data-value]") : null;
    box.hidden = !mark;
    if (!mark) { return; }
    box.textContent = mark.getAttribute("data-value");
    var room = document.documentElement.clientWidth - box.offsetWidth - 8;
    box.style.left = Math.max(8, Math.min(event.clientX + 12, room)) + "px";
    var above = event.clientY - box.offsetHeight - 12;
    box.style.top = (above > 8 ? above : event.clientY + 20) + "px";
  }

  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  window.addEventListener("scroll", function () { box.hidden = true; }, { passive: true });
  document.documentElement.setAttribute("data-ready", "yes");
})();
