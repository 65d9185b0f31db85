"""Let the driver's assertions say what was wrong."""

import pytest

pytest.register_assert_rewrite("tests.e2e.driver")
