"""What the tests are made of: file systems that fail and crash, contracts, and tests written as text."""

import pytest

# Contracts are test bodies outside of test files: without this a failing assert in one shows no values.
pytest.register_assert_rewrite("harness.contract")
