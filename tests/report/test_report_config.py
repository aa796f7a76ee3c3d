import pytest

from caft.errors import UserError
from caft.report.config import ReportConfig


def test_a_negative_number_of_questions_is_refused() -> None:
    assert ReportConfig(questions=0).questions == 0
    with pytest.raises(UserError, match=r"report\.questions is -1; give 0"):
        ReportConfig(questions=-1)
