"""Settings for every test; fixtures live beside the tests that use them.

`pytest --hypothesis-profile=long` searches for minutes where the default searches for seconds.
"""

from hypothesis import HealthCheck, settings

# A deadline measures the machine, not the code: two workers on two cores make any single example slow.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("ci", _COMMON, max_examples=100, stateful_step_count=40, derandomize=True)
settings.register_profile("long", _COMMON, max_examples=3000, stateful_step_count=60)
settings.load_profile("ci")
