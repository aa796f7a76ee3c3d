from caft.report.svg import Scale, element, label, nice_ticks


def test_text_and_attributes_cannot_become_elements() -> None:
    drawn = element("g", element("title", "<b>&"), class_='"><script>')
    assert drawn == '<g class="&#34;&gt;&lt;script&gt;"><title>&lt;b&gt;&amp;</title></g>'
    assert "</text><script>" not in label("</text><script>", 0, 0)


def test_a_percent_or_brace_in_data_is_only_text() -> None:
    assert element("title", "{0} %s {name}") == "<title>{0} %s {name}</title>"


def test_scale_maps_ends_and_an_empty_domain() -> None:
    scale = Scale(0, 10, 100, 0)
    assert (scale(0), scale(10), scale(2.5)) == (100, 0, 75)
    assert Scale(3, 3, 0, 10)(3) == 5


def test_ticks_are_round_and_inside() -> None:
    assert nice_ticks(0, 1) == (0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert nice_ticks(-58, 13, 9) == (-50, -40, -30, -20, -10, 0, 10)
    assert nice_ticks(2, 2) == (2,)
    assert len(nice_ticks(0, 2.6)) <= 6
